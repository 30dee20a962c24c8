"""The compiled packages keep the backend's rules, and each rule rejects a package that breaks it."""

import copy
from dataclasses import replace
from typing import List  # noqa: UP035 - kfp reads no other spelling

import pytest
import yaml
from kfp import compiler, dsl

from pipelines.cluster.compile_options import ClusterOptions, for_cluster
from pipelines.parameters import PIPELINES
from tests.pipelines.backend_rules import RULES, Package

EVERY_OPTION = ClusterOptions(
    cpu={"slice": "16"},
    memory={"slice": "64G"},
    gpus=2,
    gpu_type="amd.com/gpu",
    node_selector={"pool": "gpu"},
    tolerate=("dedicated",),
    model_claim="models",
    checkpoint_claim="checkpoints",
    data_claim="scans",
    secret="pseudonyms",
    image_pull_secret="registry",
    caching=False,
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Each pipeline's package with the default options, and with every option."""
    compiled = {}
    for name, pipeline in PIPELINES.items():
        for options in (ClusterOptions(), EVERY_OPTION):
            package = compile_package(for_cluster(pipeline, options), tmp_path_factory.mktemp("package"))
            compiled[name, options is EVERY_OPTION] = replace(package, pull_secret=options.image_pull_secret)
    return compiled


def compile_package(pipeline, folder):
    compiler.Compiler().compile(pipeline, str(folder / "package.yaml"))
    return Package(list(yaml.safe_load_all((folder / "package.yaml").read_text())), local_images=True)


@pytest.mark.parametrize("every_option", [False, True])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_package_keeps_the_rules(pipeline, every_option, packages):
    assert packages[pipeline, every_option].violations() == []


def test_every_option_is_set():
    defaults = ClusterOptions()
    assert [name for name, value in vars(EVERY_OPTION).items() if value == getattr(defaults, name)] == []


def component(package, name):
    return package.spec["components"][f"comp-{name}"]


def input_parameters(package, name):
    return component(package, name)["inputDefinitions"]["parameters"]


def root_task(package, name):
    return package.spec["root"]["dag"]["tasks"][name]


def loop_task(package, name):
    return component(package, "for-loop-1")["dag"]["tasks"][name]


def executor(package, name):
    return package.documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]


def container(package, name):
    return package.spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]


BREACHES = {  # of the cross-validation package with every option: what is changed, and what the checker says
    "a constant of another type": (
        lambda p: root_task(p, "slice")["inputs"]["parameters"].update(seed={"runtimeValue": {"constant": "1"}}),
        "slice: parameter_types: input parameter 'seed' type mismatch: expect NUMBER_INTEGER, got string",
    ),
    "a pipeline input of another type": (
        lambda p: p.spec["root"]["inputDefinitions"]["parameters"]["image_size"].update(parameterType="STRING"),
        "slice: parameter_types: input parameter 'image_size' type mismatch: expect NUMBER_INTEGER, got string",
    ),
    "a pipeline input that can be null": (
        lambda p: p.spec["root"]["inputDefinitions"]["parameters"]["preset"].pop("defaultValue"),
        "for-loop-1: parameter_types: got null for input parameter 'pipelinechannel--preset'",
    ),
    "an output of another type": (
        lambda p: input_parameters(p, "require-valid")["refusal"].update(parameterType="BOOLEAN"),
        "require-valid: parameter_types: input parameter 'refusal' type mismatch: expect BOOLEAN, got string",
    ),
    "an output of no task": (
        lambda p: component(p, "validate")["outputDefinitions"]["parameters"].clear(),
        "require-valid: parameter_types: refusal: no task gives the output",
    ),
    "a missing value": (
        lambda p: root_task(p, "require-valid")["inputs"]["parameters"].clear(),
        "require-valid: parameter_types: neither value nor default value provided for non-optional parameter 'refusal'",
    ),
    "a loop item that is a string": (
        lambda p: input_parameters(p, "for-loop-1")["pipelinechannel--assign-folds-Output-loop-item"].update(
            parameterType="STRING"
        ),
        "select-fold: parameter_types: input parameter 'number' type mismatch: expect NUMBER_INTEGER, got string",
    ),
    "a default of another type": (
        lambda p: p.spec["root"]["inputDefinitions"]["parameters"]["folds"].update(defaultValue="5"),
        "root: defaults: the default of 'folds' is a string",
    ),
    "defaults beyond a run's limit": (
        lambda p: p.spec["root"]["inputDefinitions"]["parameters"]["source"].update(defaultValue="x" * 10_000),
        "root: defaults: the defaults have more than 10000 bytes",
    ),
    "a component's default of another type": (
        lambda p: input_parameters(p, "slice")["seed"].update(defaultValue=False),
        "slice: component_defaults: the default of 'seed' is a bool",
    ),
    "a window without room for a second attempt": (
        lambda p: loop_task(p, "train")["retryPolicy"].update(backoffMaxDuration="172829s"),
        "train: retry_window: the window is 172829 s; 1 retries of 86400 s take up to 172830 s",
    ),
    "no window": (
        lambda p: loop_task(p, "train")["retryPolicy"].pop("backoffMaxDuration"),
        "train: retry_window: the window is 0 s",
    ),
    "no pull secret": (
        lambda p: executor(p, "select-fold").pop("imagePullSecret"),
        "select-fold: executor_settings: no pull secret registry",
    ),
    "no /tmp": (
        lambda p: executor(p, "evaluate").pop("emptyDirMounts"),
        "evaluate: executor_settings: no volume at /tmp",
    ),
    "no timeout": (lambda p: executor(p, "train").pop("activeDeadlineSeconds"), "train: executor_settings: no timeout"),
    "no memory limit": (
        lambda p: container(p, "train")["resources"].pop("resourceMemoryLimit"),
        "train: executor_settings: no resourceMemoryLimit",
    ),
    "no retries": (lambda p: loop_task(p, "train").pop("retryPolicy"), "train: executor_settings: no retries"),
    "a step without a name": (
        lambda p: root_task(p, "identify")["taskInfo"].update(name="identify"),
        "identify: display_names: no display name",
    ),
    "a loop without a name": (
        lambda p: root_task(p, "for-loop-1")["taskInfo"].update(name="for-loop-1"),
        "for-loop-1: display_names: no display name",
    ),
    "a loop over texts": (
        lambda p: input_parameters(p, "for-loop-1")["pipelinechannel--assign-folds-Output"].update(
            parameterType="STRING"
        ),
        "for-loop-1: loops: the loop's items are a STRING; expected LIST",
    ),
    "a list for something else than a loop": (
        lambda p: component(p, "slice")["outputDefinitions"].update(parameters={"cases": {"parameterType": "LIST"}}),
        "slice: loops: the output 'cases' is a LIST; expected an artifact",
    ),
    "a container beyond Linux's limit": (
        lambda p: container(p, "train")["command"].append("x" * 120_000),
        "train: argument_sizes: container has",
    ),
    "an image of this machine": (
        lambda p: container(p, "train").update(image="localhost/lung-ct-python:cpu"),
        "train: images: image localhost/lung-ct-python:cpu is on this machine alone",
    ),
}
CONDITIONS = {
    "== 'pass'": "== true",
    "evaluate-verdict'": "evaluate-verdicts'",
    "inputs.parameter_values[": "size(inputs.parameter_values[",
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_is_found(name, packages):
    breach, expected = BREACHES[name]
    package = replace(packages["cross-validation", True], local_images=name != "an image of this machine")
    package = replace(package, documents=copy.deepcopy(package.documents))
    breach(package)
    assert [violation for violation in package.violations() if expected in violation], package.violations()


@pytest.mark.parametrize("change", CONDITIONS)
def test_a_condition_on_nothing_or_on_another_type_is_found(change, packages):
    package = replace(packages["training", False], documents=copy.deepcopy(packages["training", False].documents))
    (branch,) = [task for task in package.tasks if task.spec["taskInfo"]["name"] == "Gate passed"]
    policy = branch.spec["triggerPolicy"]
    assert change in policy["condition"]
    policy["condition"] = policy["condition"].replace(change, CONDITIONS[change])
    (violation,) = package.violations()
    assert violation.startswith(f"lung-infection-training: {branch.name}: conditions: ")


def test_every_rule_has_a_breach():
    broken = {expected.split(": ")[1] for _, expected in BREACHES.values()} | {"conditions"}
    assert {rule.__name__ for rule in RULES} <= broken


def test_one_executor_without_the_others_pull_secret_is_found(packages):
    package = replace(packages["batch-prediction", True], pull_secret=None)
    package = replace(package, documents=copy.deepcopy(package.documents))
    executor(package, "predict").pop("imagePullSecret")
    assert package.violations() == [
        "lung-infection-batch-prediction: predict: executor_settings: no pull secret; other executors have one"
    ]


@dsl.component(base_image="registry.example/python", install_kfp_package=False)
def plan() -> list:
    return [1, 2]


@dsl.component(base_image="registry.example/python", install_kfp_package=False)
def plan_numbers() -> List[int]:  # noqa: UP006
    return [1, 2]


@dsl.component(base_image="registry.example/python", install_kfp_package=False)
def use(number: int) -> None:
    print(number)


@dsl.pipeline(name="untyped")
def loop_over_a_plain_list():
    with dsl.ParallelFor(plan().output) as number:
        use(number=number)


@dsl.pipeline(name="typed")
def loop_over_numbers():
    with dsl.ParallelFor(plan_numbers().output) as number:
        use(number=number)


def test_a_loop_over_a_plain_list_makes_strings_of_its_numbers(tmp_path):
    rule = "parameter_types"
    (violation,) = [one for one in compile_package(loop_over_a_plain_list, tmp_path).violations() if rule in one]
    assert violation.startswith("untyped: use: ")
    assert violation.endswith("'number' type mismatch: expect NUMBER_INTEGER, got string")
    assert not [one for one in compile_package(loop_over_numbers, tmp_path).violations() if rule in one]
