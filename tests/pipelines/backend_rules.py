"""What Kubeflow's backend would refuse, or do otherwise than meant, in a compiled package: found without a cluster.

The rules follow kubeflow/pipelines 2.17.0 and argo-workflows 4.0.5; each names the source that it follows.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Json = dict[str, Any]
MAX_ARGUMENT_BYTES = 131_071  # Linux's MAX_ARG_STRLEN, 32 pages, with the final zero
MAX_PARAMETER_BYTES = 10_000  # of a run: backend/src/common/util/consts.go, GetMaxParameterBytes
_RESOURCES = ("resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit")
_KINDS = {"NUMBER_INTEGER": "number", "NUMBER_DOUBLE": "number", "STRING": "string", "BOOLEAN": "bool"}
_KINDS |= {"LIST": "list", "STRUCT": "struct"}
_OPERAND = re.compile(
    r"(?:int|double|string|bool)?\(?inputs\.parameter_values\['([^']+)'\]\)? (==|!=|<=|>=|<|>) ('.*?'|[\w.-]+)"
)


@dataclass(frozen=True)
class Task:
    """A task of a DAG, with the DAG's component and its own."""

    name: str
    spec: Json
    dag: Json
    component: Json

    @property
    def inputs(self) -> Json:
        """The sources of the task's parameters."""
        return self.spec.get("inputs", {}).get("parameters", {})

    @property
    def item(self) -> str | None:
        """The name of the loop item, for a loop."""
        return self.spec.get("parameterIterator", {}).get("itemInput")


@dataclass(frozen=True)
class Package:
    """A pipeline spec and its Kubernetes platform spec."""

    documents: Sequence[Json]
    pull_secret: str | None = None  # that every executor must have
    local_images: bool = False  # whether images of this machine are meant

    @property
    def spec(self) -> Json:
        """The pipeline spec."""
        return self.documents[0]

    @cached_property
    def tasks(self) -> list[Task]:
        """Every task of every DAG, in loops and branches, too."""
        components = self.spec["components"]
        dags = [component for component in (self.spec["root"], *components.values()) if "dag" in component]
        return [
            Task(name, task, dag, components[task["componentRef"]["name"]])
            for dag in dags
            for name, task in dag["dag"]["tasks"].items()
        ]

    def container(self, task: Task) -> Json | None:
        """The container of a task; None for a DAG."""
        label = task.component.get("executorLabel")
        return self.spec["deploymentSpec"]["executors"][label]["container"] if label else None

    def kubernetes(self, task: Task) -> Json:
        """The platform settings of a task's executor."""
        platform = self.documents[1] if len(self.documents) > 1 else {}
        executors = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        return executors.get(task.component.get("executorLabel"), {})

    def violations(self) -> list[str]:
        """A sentence for each violation, with pipeline, task and rule."""
        name = self.spec["pipelineInfo"]["name"]
        return [
            f"{name}: {task.name}: {rule.__name__}: {problem}"
            for rule in RULES
            for task in self.tasks
            for problem in rule(self, task)
        ] + [f"{name}: root: defaults: {problem}" for problem in defaults(self, self.spec["root"])]


def _parameters(component: Json, kind: str = "input") -> Json:
    return component.get(f"{kind}Definitions", {}).get("parameters", {})


def _kind(value: object) -> str:
    names = {bool: "bool", int: "number", float: "number", str: "string", list: "list", dict: "struct"}
    return names.get(type(value), "null")


def _source(package: Package, task: Task, source: Json) -> tuple[str | None, str]:
    """The kind of JSON value that a source has at run time, or None and what is wrong."""
    if "runtimeValue" in source:
        return _kind(source["runtimeValue"]["constant"]), ""
    if name := source.get("componentInputParameter"):
        if not (spec := _parameters(task.dag).get(name)):
            return None, f"the parent DAG does not have the input parameter {name}"
        nullable = spec.get("isOptional") and "defaultValue" not in spec
        return ("null" if nullable else _KINDS[spec["parameterType"]]), ""
    output = source["taskOutputParameter"]
    producer = task.dag["dag"]["tasks"].get(output["producerTask"])
    component = package.spec["components"][producer["componentRef"]["name"]] if producer else {}
    spec = _parameters(component, "output").get(output["outputParameterKey"])
    return (_KINDS[spec["parameterType"]], "") if spec else (None, f"no task gives the output {output}")


def parameter_types(package: Package, task: Task) -> Iterator[str]:
    """Every parameter has a value of its definition's type; only a STRING converts other values.

    backend/src/v2/driver/resolve.go, resolveInputs and handleParamTypeValidationAndConversion. The item of a loop has
    the type of its definition, which kfp/dsl/for_loop.py takes from the list's annotation: STRING for a plain `list`.
    """
    for name, spec in _parameters(task.component).items():
        if name == task.item:
            continue
        if name not in task.inputs:
            if not spec.get("isOptional") and "defaultValue" not in spec:
                yield f"neither value nor default value provided for non-optional parameter {name!r}"
            continue
        expected, (kind, problem) = spec["parameterType"], _source(package, task, task.inputs[name])
        if problem:
            yield f"{name}: {problem}"
        elif kind == "null":
            if not spec.get("isOptional") or "dag" in task.component:
                yield f"got null for input parameter {name!r}"
        elif expected != "STRING" and kind != _KINDS[expected]:
            yield f"input parameter {name!r} type mismatch: expect {expected}, got {kind}"


def defaults(package: Package, component: Json) -> Iterator[str]:
    """Every default has its parameter's type, and the defaults of a run's parameters fit into a run.

    backend/src/apiserver/template/v2_template.go, validatePipelineJobInputs; server/api_util.go, validateRuntimeConfig.
    """
    values = {name: spec["defaultValue"] for name, spec in _parameters(component).items() if "defaultValue" in spec}
    for name, value in values.items():
        if _kind(value) != _KINDS[_parameters(component)[name]["parameterType"]]:
            yield f"the default of {name!r} is a {_kind(value)}"
    if component is package.spec["root"] and len(json.dumps(values).encode()) > MAX_PARAMETER_BYTES:
        yield f"the defaults have more than {MAX_PARAMETER_BYTES} bytes"


def component_defaults(package: Package, task: Task) -> Iterator[str]:
    """Every default of a task's component has its parameter's type: see `defaults`."""
    yield from defaults(package, task.component)


def conditions(package: Package, task: Task) -> Iterator[str]:
    """Every operand of a condition is an input of the task, and is compared with a literal of its type.

    backend/src/v2/expression/expression.go, Condition: CEL fails on a missing key; values of two types are unequal.
    """
    condition = task.spec.get("triggerPolicy", {}).get("condition", "")
    operands = _OPERAND.findall(condition)
    if _OPERAND.sub("", condition).strip("!()&| "):
        yield f"{condition}: not a comparison of parameters with literals"
    for name, _, literal in operands:
        kind = "string" if literal[0] == "'" else "bool" if literal in ("true", "false") else "number"
        if name not in task.inputs:
            yield f"{condition}: no such key: {name}"
        elif kind != (actual := _KINDS[_parameters(task.component)[name]["parameterType"]]):
            yield f"{condition}: {name} is a {actual}, {literal} a {kind}"


def retry_window(package: Package, task: Task) -> Iterator[str]:
    """The window of all attempts has room for each attempt's timeout and the waits between them.

    argo's workflow/controller/operator.go, processNodeRetries: maxDuration counts from the first attempt's start, its
    wait for a node included; at its end nothing is retried, and a running attempt is killed. KFP passes "0" without a
    backoffMaxDuration (compiler/argocompiler/container.go, addParameterDefault), whose window ends at once.
    """
    policy, timeout_s = task.spec.get("retryPolicy"), int(package.kubernetes(task).get("activeDeadlineSeconds", 0))
    if not policy or not timeout_s:
        return
    retries, factor = policy["maxRetryCount"], policy.get("backoffFactor", 0) or 1
    window_s, wait_s = (
        float(policy.get(key, "0s").removesuffix("s")) for key in ("backoffMaxDuration", "backoffDuration")
    )
    needed_s = timeout_s * (retries + 1) + sum(wait_s * factor**attempt for attempt in range(retries))
    if window_s < needed_s:
        yield f"the window is {window_s:.0f} s; {retries} retries of {timeout_s} s take up to {needed_s:.0f} s"


def executor_settings(package: Package, task: Task) -> Iterator[str]:
    """Every container has the settings that Kubernetes does not give by itself, and those that the others have.

    backend/src/v2/driver/k8s.go, extendPodSpecPatch, applies the settings of one executor to its pod alone.
    """
    if (container := package.container(task)) is None:
        return
    platform, others = package.kubernetes(task), [package.kubernetes(other) for other in package.tasks]
    secrets = [secret["secretName"] for secret in platform.get("imagePullSecret", [])]
    if package.pull_secret and package.pull_secret not in secrets:
        yield f"no pull secret {package.pull_secret}"
    elif not secrets and any("imagePullSecret" in other for other in others):
        yield "no pull secret; other executors have one"
    if "/tmp" not in [mount["mountPath"] for mount in platform.get("emptyDirMounts", [])]:
        yield "no volume at /tmp"
    if int(platform.get("activeDeadlineSeconds", 0)) <= 0:
        yield "no timeout"
    if missing := [name for name in _RESOURCES if name not in container.get("resources", {})]:
        yield f"no {', '.join(missing)}"
    if task.spec.get("retryPolicy", {}).get("maxRetryCount", 0) < 1:
        yield "no retries"


def display_names(package: Package, task: Task) -> Iterator[str]:
    """Every task, branch and loop has a name of its own instead of the compiler's, such as condition-3.

    kfp/compiler/pipeline_spec_builder.py, build_task_spec_for_group; frontend/src/lib/v2/StaticFlow.ts shows it.
    """
    if task.spec["taskInfo"]["name"] in (task.name, ""):
        yield "no display name"


def loops(package: Package, task: Task) -> Iterator[str]:
    """Loops iterate over whole numbers, and no task gives a list or a struct for anything else.

    backend/src/v2/driver/util.go, getItems; each item, and each output, is an argument of a driver's process and a
    value in ML Metadata: lists of names grow with the cohort, numbers of parts do not.
    """
    dag_tasks = task.dag["dag"]["tasks"].values()
    if task.item:
        if (item := _parameters(task.component)[task.item]["parameterType"]) != "NUMBER_INTEGER":
            yield f"the loop's item is a {item}; expected NUMBER_INTEGER"
        items = task.spec["parameterIterator"]["items"].get("inputParameter")
        if items and (kind := _parameters(task.component)[items]["parameterType"]) != "LIST":
            yield f"the loop's items are a {kind}; expected LIST"
    for name, spec in _parameters(task.component, "output").items():
        source = {"producerTask": task.name, "outputParameterKey": name}
        loop_over = [
            other
            for other in dag_tasks
            if "parameterIterator" in other
            and {"taskOutputParameter": source} in other.get("inputs", {}).get("parameters", {}).values()
        ]
        if spec["parameterType"] in ("LIST", "STRUCT") and not loop_over:
            yield f"the output {name!r} is a {spec['parameterType']}; expected an artifact"


def argument_sizes(package: Package, task: Task) -> Iterator[str]:
    """The specs that a driver gets as arguments are within Linux's limit, with a run's largest parameters.

    backend/src/v2/compiler/argocompiler/container.go, --component, --task and --container; driver/driver.go,
    --executor_input and --component_spec of the launcher.
    """
    parts = {"component": task.component, "task": task.spec, "container": package.container(task) or {}}
    for name, spec in parts.items():
        size = len(json.dumps(spec, separators=(",", ":")).encode())
        if size + MAX_PARAMETER_BYTES > MAX_ARGUMENT_BYTES:
            yield f"{name} has {size} bytes; expected {MAX_ARGUMENT_BYTES - MAX_PARAMETER_BYTES} or fewer"


def images(package: Package, task: Task) -> Iterator[str]:
    """No image is on this machine alone: a cluster's nodes pull from registries."""
    image = (package.container(task) or {}).get("image", "")
    if image.startswith("localhost/") and not package.local_images:
        yield f"image {image} is on this machine alone"


RULES = (
    parameter_types,
    component_defaults,
    conditions,
    retry_window,
    executor_settings,
    display_names,
    loops,
    argument_sizes,
    images,
)
