# `make help` explains every target.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON := .venv/bin/python
UV := $(or $(shell command -v uv),.uv/bin/uv)

# What `make run NAME=value` may set, and `make cross-validate` and `make predict`: their pipelines' parameters.
PARAMETERS := MODEL_BASE MODEL_NAME SOURCE MASKS LABEL ON_INVALID PSEUDONYM_KEY_FILE CACHE PUSH_TO REFERENCE_PROFILE \
              IMAGE_SIZE MIN_LESION_PIXELS PRESET EPOCHS BATCH_SIZE CHANGES REQUIRE_GPU CHECKPOINT_DIR \
              MIN_DICE MIN_DICE_CI MIN_CASE_DICE MIN_SITE_DICE MAX_FALSE_POSITIVE_ML MAX_REGRESSION HARD_CASES \
              DATA_LICENSE VIEW_3D SIGNING_KEY_FILE SEED FOLDS FOLDS_FILE SERVER MODEL VERSION_LABEL PARTS MIN_LESION_ML
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

# Without a source the scans are synthetic: 15 epochs show the whole way in a few minutes.
.PHONY: run
run: setup ## Run the whole training pipeline here, and predict one held-out scan through the served model
	@$(LOCAL) $(given) $(if $(SOURCE)$(EPOCHS)$(CHANGES)$(PRESET),,EPOCHS=15)

.PHONY: cross-validate
cross-validate: setup ## Train and judge a recipe on every fold of a cohort: SOURCE=…, FOLDS=5
	@$(LOCAL) --pipeline cross-validation $(given)

.PHONY: predict
predict: setup ## Segment a folder of scans: SOURCE=…, and MODEL=<model base> or SERVER=host:port
	@$(LOCAL) --pipeline batch-prediction $(given)

.PHONY: compile
compile: setup ## Write the pipeline packages for the Kubeflow UI to build/*.yaml
	@$(PYTHON) -m pipelines.cli compile

# Images and deployment. OVERLAY is one of local, gcs, gpu, kserve; OPTIONS some of tls, monitoring, batching.
engine = $(or $(ENGINE),$(if $(shell docker info >/dev/null 2>&1 && echo yes),docker,podman))
deployment = --engine $(engine) $(if $(REGISTRY),--registry '$(REGISTRY)') $(if $(REVISION),--revision '$(REVISION)') \
  $(if $(HOST),--host '$(HOST)') $(if $(KFP_NAMESPACE),--kfp-namespace '$(KFP_NAMESPACE)') \
  $(if $(TOKEN_FILE),--token-file '$(TOKEN_FILE)') $(if $(OVERLAY),--overlay $(OVERLAY)) \
  $(if $(OPTIONS),--options $(OPTIONS)) $(if $(NAMESPACE),--namespace '$(NAMESPACE)') \
  $(if $(MODEL_BASE),--model-base '$(MODEL_BASE)') $(if $(GPUS),--gpus $(GPUS)) \
  $(if $(GCP_SERVICE_ACCOUNT),--gcp-service-account '$(GCP_SERVICE_ACCOUNT)') \
  $(if $(SERVING_DIGEST),--serving-digest '$(SERVING_DIGEST)') $(if $(MODEL_CLAIM),--model-claim '$(MODEL_CLAIM)') \
  $(if $(COMPILE_WITH),--compile-with='$(COMPILE_WITH)') $(if $(PYTHON_IMAGE),--python-image '$(PYTHON_IMAGE)')
dry_run = $(if $(DRY_RUN),--dry-run)
steps := build push compile upload serving

.PHONY: images
images: setup ## Build the container images: ENGINE=docker|podman, REGISTRY=…, GPUS=1 for the GPU image too
	@$(PYTHON) -m pipelines.deploy.deploy up $(deployment) $(dry_run) --skip $(filter-out build,$(steps))

.PHONY: push
push: setup ## Push the images to REGISTRY
	@$(PYTHON) -m pipelines.deploy.deploy up $(deployment) $(dry_run) --skip $(filter-out push,$(steps))

.PHONY: sbom
sbom: $(UV) ## Write what the images hold to build/sbom.json (CycloneDX)
	@mkdir -p build
	@$(UV) export --frozen --no-dev --quiet --preview-features sbom-export --format cyclonedx1.5 -o build/sbom.json

.PHONY: deploy
deploy: setup ## Build, push, compile, upload and serve on a cluster: REGISTRY=… HOST=… OVERLAY=… SKIP="build push" DRY_RUN=1
	@$(PYTHON) -m pipelines.deploy.deploy up $(deployment) $(dry_run) $(if $(SKIP),--skip $(SKIP))

.PHONY: undeploy
undeploy: setup ## Take serving off the cluster; models and volumes stay
	@$(PYTHON) -m pipelines.deploy.deploy down $(deployment) $(dry_run)

.PHONY: doctor
doctor: setup ## Say which tools, credentials and clusters are missing, and how to get them
	@$(PYTHON) -m pipelines.deploy.deploy doctor $(deployment)

.PHONY: test
test: setup ## Run the tests, but for the slow ones
	@$(PYTHON) -m pytest -n auto --dist loadfile -m "not slow"

.PHONY: test-all
test-all: setup ## Run all tests, whole training runs among them
	@$(PYTHON) -m pytest -n auto --dist loadfile

BENCH := evaluate_agreement evaluate_mutations evaluate_time ingest_speed ingest_memory serving_volume serving_load \
         serving_variants serving_runtimes train_steps train_cross_validation

.PHONY: bench
bench: setup ## Measure speed, memory, Dice, agreement, as tables; BENCH=serving_load for one; SOURCE=… for scans to train on
	@$(UV) sync --frozen --inexact --quiet --group bench
	@for name in $(BENCH); do echo; echo "── $$name"; $(PYTHON) -m tests.bench.$$name || exit; done

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
