# `make help` explains every target.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON := .venv/bin/python
UV := $(or $(shell command -v uv),.uv/bin/uv)

# What `make run NAME=value` may set, and `make cross-validate` and `make predict`: their pipelines' parameters.
PARAMETERS := MODEL_BASE MODEL_NAME SOURCE MASKS LABEL ON_INVALID PSEUDONYM_KEY_FILE CACHE PUSH_TO REFERENCE_PROFILE \
              IMAGE_SIZE MIN_LESION_PIXELS PRESET EPOCHS BATCH_SIZE CHANGES REQUIRE_GPU CHECKPOINT_DIR MIN_DICE \
              MIN_DICE_CI MIN_CASE_DICE MIN_SOURCE_DICE MAX_FALSE_POSITIVE_ML MAX_REGRESSION HARD_CASES DATA_LICENCE \
              SEED FOLDS FOLDS_FILE SERVER MODEL SHARDS MIN_LESION_ML
given = $(foreach name,$(PARAMETERS),$(if $($(name)),'$(name)=$($(name))'))
LOCAL = $(PYTHON) -m pipelines.cli local $(if $(RUNNER),--runner $(RUNNER))

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  run, cross-validate and predict take the parameters of their pipelines as NAME=value, such as"
	@echo "  make run SOURCE=path/to/cohort EPOCHS=60 MIN_DICE=0.7; RUNNER=docker runs the steps in containers"

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
	@$(LOCAL) $(given)

.PHONY: cross-validate
cross-validate: setup ## Train and judge a recipe on every fold of a cohort: SOURCE=…, FOLDS=5
	@$(LOCAL) --pipeline cross-validation $(given)

.PHONY: predict
predict: setup ## Segment a folder of scans: SOURCE=…, and MODEL=<model base> or SERVER=host:port
	@$(LOCAL) --pipeline batch-prediction $(given)

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
