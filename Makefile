# `make help` explains every target.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON := .venv/bin/python
UV := $(or $(shell command -v uv),.uv/bin/uv)

# What `make run NAME=value` may set: the parameters of the training pipeline, in capitals.
PARAMETERS := MODEL_BASE SOURCE MASKS LABEL ON_INVALID IMAGE_SIZE MIN_LESION_PIXELS PRESET EPOCHS BATCH_SIZE \
              MIN_DICE MODEL_NAME SEED
given = $(foreach name,$(PARAMETERS),$(if $($(name)),'$(name)=$($(name))'))

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make run takes, as NAME=value: $(PARAMETERS)"

.PHONY: setup
setup: .venv/.ready ## Install everything from uv.lock into .venv (uv itself too, where it is missing)
	@:

.venv/.ready: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --frozen --quiet
	@touch $@

.uv/bin/uv:
	@echo "installing uv into .uv"
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet uv

.PHONY: run
run: setup ## Run the whole training pipeline here, and predict one held-out scan through the served model
	@$(PYTHON) -m pipelines.cli local $(given)

.PHONY: compile
compile: setup ## Write the pipeline packages for the Kubeflow UI to build/*.yaml
	@$(PYTHON) -m pipelines.cli compile

.PHONY: test
test: setup ## Run the tests, but for the slow ones
	@$(PYTHON) -m pytest -n auto --dist loadfile -m "not slow"

.PHONY: test-all
test-all: setup ## Run all tests, whole training runs among them
	@$(PYTHON) -m pytest -n auto --dist loadfile

.PHONY: lint
lint: setup ## Check style, format and types
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

.PHONY: format
format: setup ## Bring the code into the house format
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

.PHONY: clean
clean: ## Remove what was built and installed; runs/ stays
	rm -rf build .venv .uv .mypy_cache .pytest_cache .ruff_cache .hypothesis
