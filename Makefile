# `make help` lists the targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON := .venv/bin/python
LUNG_CT := .venv/bin/lung-ct
UV := $(or $(shell command -v uv),.uv/bin/uv)

# Pipeline parameters that `make run`, `make cross-validate` and `make predict` pass on as NAME=value.
PARAMETERS := MODEL_BASE MODEL_NAME SOURCE MASKS LABEL ON_INVALID PSEUDONYM_KEY_FILE CACHE PUSH_TO REFERENCE_PROFILE \
              IMAGE_SIZE MIN_LESION_PIXELS PRESET EPOCHS BATCH_SIZE CHANGES REQUIRE_GPU CHECKPOINT_DIR \
              MIN_DICE MIN_DICE_CI MIN_CASE_DICE MIN_SITE_DICE MAX_FALSE_POSITIVE_ML MAX_REGRESSION HARD_CASES \
              DATA_LICENSE VIEW_3D SIGNING_KEY_FILE MODEL_REGISTRY SEED FOLDS FOLDS_FILE SERVER MODEL VERSION_LABEL \
              PARTS MIN_LESION_ML
# Settings of the other targets, and of the tools they call.
SETTINGS := RUNNER ENGINE REGISTRY REVISION NAMESPACE OVERLAY OPTIONS GPUS HOST KFP_NAMESPACE TOKEN_FILE KFP_USERNAME \
            PASSWORD_FILE CA_FILE IMAGE_PULL_SECRET GCP_SERVICE_ACCOUNT SERVING_DIGEST MODEL_CLAIM CHECKPOINT_CLAIM \
            DATA_CLAIM COMPILE_WITH PYTHON_IMAGE DRY_RUN SKIP PIPELINE_ROOT SERVICE_ACCOUNT BENCH

# Both are taken from the command line alone: shells and CI systems have variables such as HOST and MODEL of their own.
# There, a value is literal: `override … := $(value …)` keeps make from expanding `$`.
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unknown := $(filter-out $(PARAMETERS) $(SETTINGS),$(given))
$(if $(unknown),$(error $(unknown): unknown setting; `make help` and docs/parameters.md list them))
define newline


endef
invalid := $(foreach name,$(given),$(if $(value $(name)),$(if $(findstring $(newline),$(value $(name))),$(name)),$(name)))
$(if $(strip $(invalid)),$(error $(strip $(invalid)): expected one line of text; leave out what is not set))
$(foreach name,$(given),$(eval override $(name) := $$(value $(name))))
$(foreach name,$(filter-out $(given),$(PARAMETERS) $(SETTINGS)),$(eval undefine $(name)))

# The words NAME=value and --option value, quoted for the shell.
quote = '$(subst ','\'',$(1))'
assignment = $(if $($(1)),$(call quote,$(1)=$($(1))))
option = $(if $($(2)),$(1) $(call quote,$($(2))))

parameters = $(foreach name,$(PARAMETERS),$(call assignment,$(name)))
RUN = $(LUNG_CT) run $(call option,--runner,RUNNER)

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  run, cross-validate and predict take pipeline parameters as NAME=value (docs/parameters.md):"
	@echo "  make run SOURCE=path/to/cohort EPOCHS=60 MIN_DICE=0.7; RUNNER=docker runs the steps in containers"

.PHONY: setup
setup: .venv/.ready ## Install everything from uv.lock into .venv, and uv if it is missing
	@:

.venv/.ready: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --frozen --quiet
	@touch $@

.uv/bin/uv:
	@echo "installing uv into .uv"
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet uv

# 15 epochs suffice for the synthetic scans.
.PHONY: run
run: setup ## Run the training pipeline on this machine, and segment a test scan with the served model
	@$(RUN) $(parameters) $(if $(SOURCE)$(EPOCHS)$(CHANGES)$(PRESET),,EPOCHS=15)

.PHONY: cross-validate
cross-validate: setup ## Train and evaluate a recipe on every fold of a cohort: SOURCE=…, FOLDS=5
	@$(RUN) --pipeline cross-validation $(parameters)

.PHONY: predict
predict: setup ## Segment a folder of scans: SOURCE=… and MODEL=<model base> or SERVER=host:port
	@$(RUN) --pipeline batch-prediction $(parameters)

.PHONY: compile
compile: setup ## Write the packages of pipelines and components to build/ for Kubeflow
	@$(LUNG_CT) compile

.PHONY: docs
docs: setup ## Generate the components' READMEs and docs/parameters.md
	@$(PYTHON) -m tests.reference_pages

# Images and deployment. OVERLAY: local, gcs, gpu or kserve. OPTIONS: any of tls, monitoring, batching.
engine = $(or $(ENGINE),$(if $(shell docker info >/dev/null 2>&1 && echo yes),docker,podman))
connection = $(call option,--host,HOST) $(call option,--kfp-namespace,KFP_NAMESPACE) \
  $(call option,--token-file,TOKEN_FILE) $(call option,--username,KFP_USERNAME) \
  $(call option,--password-file,PASSWORD_FILE) $(call option,--ca-file,CA_FILE)
common = $(connection) $(call option,--namespace,NAMESPACE) $(call option,--model-base,MODEL_BASE) \
  $(call option,--image-pull-secret,IMAGE_PULL_SECRET)
deployment = --engine $(engine) $(call option,--registry,REGISTRY) $(call option,--revision,REVISION) $(common) \
  $(call option,--overlay,OVERLAY) $(if $(OPTIONS),--options $(OPTIONS)) $(call option,--gpus,GPUS) \
  $(call option,--gcp-service-account,GCP_SERVICE_ACCOUNT) $(call option,--serving-digest,SERVING_DIGEST) \
  $(call option,--model-claim,MODEL_CLAIM) $(call option,--checkpoint-claim,CHECKPOINT_CLAIM) \
  $(call option,--data-claim,DATA_CLAIM) $(if $(COMPILE_WITH),--compile-with=$(call quote,$(COMPILE_WITH))) \
  $(call option,--python-image,PYTHON_IMAGE)
dry_run = $(if $(DRY_RUN),--dry-run)
stages := build push compile upload claims serving

.PHONY: images
images: setup ## Build the container images: ENGINE=docker|podman, REGISTRY=…, GPUS=1 adds the GPU image
	@$(LUNG_CT) deploy $(deployment) $(dry_run) --skip $(filter-out build,$(stages))

.PHONY: push
push: setup ## Push the images to REGISTRY
	@$(LUNG_CT) deploy $(deployment) $(dry_run) --skip $(filter-out push,$(stages))

.PHONY: sbom
sbom: $(UV) ## Write the software bill of materials to build/sbom.json (CycloneDX)
	@mkdir -p build
	@$(UV) export --frozen --no-dev --quiet --preview-features sbom-export --format cyclonedx1.5 -o build/sbom.json

.PHONY: deploy
deploy: setup ## Build, push, compile, upload and serve on a cluster: REGISTRY=… HOST=… OVERLAY=… SKIP="build push" DRY_RUN=1
	@$(LUNG_CT) deploy $(deployment) $(dry_run) $(if $(SKIP),--skip $(SKIP))

.PHONY: undeploy
undeploy: setup ## Remove serving from the cluster; models and volumes stay
	@$(LUNG_CT) undeploy $(deployment) $(dry_run)

.PHONY: doctor
doctor: setup ## Check tools, credentials and clusters, with a remedy for each that is missing
	@$(LUNG_CT) doctor $(deployment)

.PHONY: check-cluster
check-cluster: setup ## Check a cluster with small runs of what was deployed: HOST=… SERVER=… PIPELINE_ROOT=… SKIP=serving
	@$(LUNG_CT) check-cluster $(common) $(call option,--server,SERVER) $(call option,--pipeline-root,PIPELINE_ROOT) \
	  $(call option,--service-account,SERVICE_ACCOUNT) $(if $(filter serving,$(SKIP)),--skip serving)

.PHONY: test
test: setup ## Run the fast tests
	@$(PYTHON) -m pytest -n auto --dist loadfile -m "not slow"

.PHONY: test-all
test-all: setup ## Run all tests, including whole pipelines
	@$(PYTHON) -m pytest -n auto --dist loadfile

BENCH := evaluate_agreement evaluate_mutations evaluate_time ingest_speed ingest_memory serving_volume serving_load \
         serving_variants serving_runtimes train_steps train_cross_validation

.PHONY: bench
bench: setup ## Run the benchmarks: BENCH=serving_load for one, SOURCE=… for a cohort to train on
	@$(UV) sync --frozen --inexact --quiet --group bench
	@for name in $(BENCH); do echo; echo "── $$name"; $(PYTHON) -m tests.bench.$$name || exit; done

.PHONY: lint
lint: setup ## Check style, format, types and layers
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

.PHONY: format
format: setup ## Format the code
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

.PHONY: clean
clean: ## Remove build outputs and environments; runs/ stays
	rm -rf build .venv .uv .mypy_cache .pytest_cache .ruff_cache .hypothesis
