"""Cluster settings of the steps in the compiled packages."""

import os
import subprocess
import sys

import pytest
import yaml
from kfp import compiler, dsl, local

from components.runtime.errors import InputError
from components.runtime.programs import ROOT
from pipelines.batch_prediction import batch_prediction
from pipelines.cluster.compile_options import ClusterOptions, for_cluster
from pipelines.parameters import PIPELINES
from pipelines.training import training


def compile_spec(pipeline, path):
    compiler.Compiler().compile(pipeline, str(path))
    spec, *platform = yaml.safe_load_all(path.read_text())
    return spec, platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platform else {}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    options = ClusterOptions(
        gpus=2,
        node_selector={"pool": "gpu"},
        model_claim="models",
        checkpoint_claim="checkpoints",
        data_claim="scans",
        secret="pseudonyms",
    )
    return compile_spec(for_cluster(training, options), tmp_path_factory.mktemp("package") / "training.yaml")


def read_tasks(spec):
    """Every task with a container, by its component's name."""
    tasks = {}
    for component in [*spec["components"].values(), spec["root"]]:
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            if "dag" not in spec["components"][task["componentRef"]["name"]]:
                tasks[name] = task
    return tasks


def resources(spec, step):
    return spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]


def cached_steps(spec):
    return {name for name, task in read_tasks(spec).items() if task["cachingOptions"].get("enableCache")}


@pytest.mark.parametrize("pipeline", ["training", "cross-validation"])
def test_only_ingest_is_cached_and_its_key_has_a_digest_of_everything_it_reads(pipeline, tmp_path):
    spec, _ = compile_spec(for_cluster(PIPELINES[pipeline]), tmp_path / "package.yaml")
    tasks = read_tasks(spec)
    assert cached_steps(spec) == {"ingest"}
    digest = tasks["ingest"]["inputs"]["parameters"]["source_digest"]["taskOutputParameter"]
    assert digest == {"producerTask": "identify", "outputParameterKey": "digest"}
    read = text_parameters(spec, tasks["ingest"]) - {"on_invalid", "cache", "push_to"}  # a choice, and folders to write
    assert "source" in read
    assert read <= text_parameters(spec, tasks["identify"])


def text_parameters(spec, task):
    """The pipeline's text parameters among a task's inputs."""
    types = spec["components"][task["componentRef"]["name"]]["inputDefinitions"]["parameters"]
    return {
        value["componentInputParameter"].removeprefix("pipelinechannel--")
        for name, value in task["inputs"].get("parameters", {}).items()
        if types[name]["parameterType"] == "STRING" and "componentInputParameter" in value
    }


@pytest.mark.parametrize(
    ("pipeline", "options"), [("batch-prediction", ClusterOptions()), ("training", ClusterOptions(caching=False))]
)
def test_nothing_is_cached_without_a_digest_or_with_caching_off(pipeline, options, tmp_path):
    spec, _ = compile_spec(for_cluster(PIPELINES[pipeline], options), tmp_path / "package.yaml")
    assert cached_steps(spec) == set()


def test_every_step_has_resources_a_timeout_retries_and_a_name(package):
    spec, platform = package
    tasks = read_tasks(spec)
    assert {"identify", "ingest", "train", "export", "report-refusal"} <= set(tasks)
    for name in tasks:
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= set(resources(spec, name))
        assert int(platform[f"exec-{name}"]["activeDeadlineSeconds"]) > 0
        assert tasks[name]["retryPolicy"]["maxRetryCount"] >= 1
        assert tasks[name]["taskInfo"]["name"] != name


def test_options_replace_the_resources_of_a_step_and_gpus_are_optional(tmp_path):
    options = ClusterOptions(cpu={"slice": "16"}, memory={"slice": "64G"})
    spec, platform = compile_spec(for_cluster(training, options), tmp_path / "training.yaml")
    slice_ = resources(spec, "slice")
    assert (slice_["resourceCpuRequest"], slice_["resourceMemoryLimit"]) == ("16", "64G")
    assert resources(spec, "validate")["resourceCpuRequest"] == "2"
    assert "accelerator" not in resources(spec, "train")
    assert "tolerations" not in platform["exec-train"]


def test_an_unknown_step_is_an_error():
    with pytest.raises(InputError, match=r"slise: .*expected one of check-parameters, identify"):
        for_cluster(training, ClusterOptions(cpu={"slise": "16"}))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_nothing_starts_before_all_parameters_are_checked(pipeline, tmp_path):
    spec, _ = compile_spec(for_cluster(PIPELINES[pipeline], ClusterOptions(gpus=2)), tmp_path / "package.yaml")
    tasks = spec["root"]["dag"]["tasks"]
    assert [name for name, task in tasks.items() if not task.get("dependentTasks")] == ["check-parameters"]
    given = {value["componentInputParameter"] for value in tasks["check-parameters"]["inputs"]["parameters"].values()}
    assert given == set(spec["root"]["inputDefinitions"]["parameters"])
    container = spec["deploymentSpec"]["executors"]["exec-check-parameters"]["container"]
    assert {"name": "TRAIN_GPUS", "value": "2"} in container["env"]


def test_only_the_train_step_requests_gpus_and_their_nodes(package):
    spec, platform = package
    steps = set(read_tasks(spec))
    assert {step for step in steps if "accelerator" in resources(spec, step)} == {"train"}
    accelerator = resources(spec, "train")["accelerator"]
    assert accelerator["resourceType"] == "nvidia.com/gpu"
    assert accelerator["resourceCount"] == "2"
    assert {step for step, config in platform.items() if "nodeSelector" in config} == {"exec-train"}
    assert platform["exec-train"]["nodeSelector"]["labels"] == {"pool": "gpu"}
    assert [toleration["key"] for toleration in platform["exec-train"]["tolerations"]] == ["nvidia.com/gpu"]


def mounted_claims(platform):
    return {
        step: [(mount["constant"], mount["mountPath"]) for mount in config["pvcMount"]]
        for step, config in platform.items()
        if "pvcMount" in config
    }


def test_claims_and_the_secret_are_mounted_in_the_steps_that_use_them(package):
    _, platform = package
    assert mounted_claims(platform) == {
        "exec-check-parameters": [("checkpoints", "/checkpoints"), ("models", "/models"), ("scans", "/data")],
        "exec-identify": [("scans", "/data")],
        "exec-ingest": [("scans", "/data")],
        "exec-validate": [("scans", "/data")],
        "exec-train": [("checkpoints", "/checkpoints")],
        "exec-evaluate": [("models", "/models")],
        "exec-export": [("models", "/models")],
    }
    secret = {step for step, config in platform.items() if "secretAsVolume" in config}
    assert secret == {"exec-check-parameters", "exec-identify", "exec-ingest", "exec-export"}


def test_compiling_is_repeatable_and_keeps_the_pipeline_and_its_parameters(package, tmp_path):
    before = training.pipeline_spec.SerializeToString(deterministic=True)
    first, again = tmp_path / "first.yaml", tmp_path / "again.yaml"
    for path in (first, again):
        compiler.Compiler().compile(for_cluster(training, ClusterOptions(gpus=1)), str(path))
    assert first.read_text() == again.read_text()
    assert training.pipeline_spec.SerializeToString(deterministic=True) == before
    assert for_cluster(training).pipeline_spec.root.input_definitions == training.pipeline_spec.root.input_definitions
    assert package[0]["pipelineInfo"]["name"] == training.name


def test_predict_pods_have_the_label_that_the_network_policy_admits(tmp_path):
    spec, platform = compile_spec(for_cluster(batch_prediction), tmp_path / "batch.yaml")
    assert {"check-parameters", "plan-parts", "predict", "collect-predictions"} == set(read_tasks(spec))
    (policy,) = yaml.safe_load_all((ROOT / "serving" / "k8s" / "base" / "network_policy.yaml").read_text())
    admitted = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert platform["exec-predict"]["podMetadata"]["labels"] == admitted


def test_batch_prediction_reads_its_scans_from_the_data_claim(tmp_path):
    options = ClusterOptions(data_claim="scans", model_claim="models", checkpoint_claim="checkpoints")
    _, platform = compile_spec(for_cluster(batch_prediction, options), tmp_path / "batch.yaml")
    assert mounted_claims(platform) == {
        "exec-check-parameters": [("models", "/models"), ("scans", "/data")],
        "exec-plan-parts": [("scans", "/data")],
        "exec-predict": [("models", "/models"), ("scans", "/data")],
    }


@pytest.mark.parametrize(
    ("registry", "warnings"), [({}, 1), ({"TRAIN_IMAGE": "r.example/train"}, 1), ({"CPU_IMAGE": "r.example/cpu"}, 0)]
)
def test_compile_warns_of_images_that_no_cluster_can_pull(registry, warnings, tmp_path):
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_IMAGE")}
    command = [sys.executable, "-m", "pipelines.cli", "compile", "-o", str(tmp_path)]
    done = subprocess.run(command, env=inherited | registry, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert len(lines) == warnings
    for line in lines:
        assert "localhost/lung-ct-python:cpu" in line
        assert all(word in line for word in ("CPU_IMAGE", "DATA_IMAGE", "TRAIN_IMAGE", "make deploy REGISTRY="))


@dsl.component(base_image="python", install_kfp_package=False)
def ingest(cases: dsl.Output[dsl.Dataset]) -> None:
    from pathlib import Path

    Path(cases.path).write_text("5 cases")


@dsl.pipeline(name="ingest_pipeline")
def ingest_pipeline():
    ingest()


@pytest.mark.filterwarnings("ignore:.*have no effect in the current local runner")
def test_the_local_runner_accepts_cluster_settings(tmp_path):
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    for_cluster(ingest_pipeline)()
    (written,) = tmp_path.glob("*/ingest/cases")
    assert written.read_text() == "5 cases"
