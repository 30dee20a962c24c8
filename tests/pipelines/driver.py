"""What Kubeflow's driver and launcher decide of a task: its inputs, their types, its condition and its outputs.

It follows kubeflow/pipelines 2.17.0: backend/src/v2/driver/{resolve,driver,util}.go, metadata/converter.go,
expression/expression.go and component/launcher_v2.go.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_ACCEPTED = {
    "string": {"STRING"},
    "number": {"NUMBER_DOUBLE", "NUMBER_INTEGER"},
    "bool": {"BOOLEAN"},
    "list": {"LIST"},
    "struct": {"STRUCT", "TASK_FINAL_STATUS", "TASK_CONFIG"},
}


class DriverError(Exception):
    """What the driver's pod logs before it fails; the API does not tell it."""


@dataclass
class Execution:
    """A task in ML Metadata: a container, a DAG, or a loop with an execution for each iteration."""

    component: Json
    parameters: Json
    artifacts: dict[str, list[Json]] = field(default_factory=dict)
    output_parameters: Json = field(default_factory=dict)
    output_artifacts: dict[str, Json] = field(default_factory=dict)
    tasks: dict[str, "Execution"] = field(default_factory=dict)
    iterations: list["Execution"] | None = None
    failed: bool = False  # Argo starts no further task of a DAG in which one has failed (failFast)


def resolve_inputs(
    task: Json, component: Json, dag: Execution, skipped: str | None = None
) -> tuple[Json, dict[str, list[Json]]]:
    """Inputs of a task from the inputs and tasks of its DAG, by resolve.go; `skipped` is the item of a loop."""
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    parameters: Json = {}
    if "dag" in component:  # optional parameters of a nested DAG; a container has its defaults in its code
        for name, spec in definitions.items():
            if spec.get("isOptional") and name not in task.get("inputs", {}).get("parameters", {}):
                parameters[name] = spec.get("defaultValue")
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        value = _resolve_parameter(source, dag)
        if value is None and "componentInputParameter" in source:
            if definitions.get(name, {}).get("isOptional"):
                continue
            raise DriverError(f"the resolved input parameter is null: {source['componentInputParameter']}")
        if source.get("parameterExpressionSelector"):
            raise NotImplementedError("expression selectors")
        parameters[name] = value
    artifacts = {
        name: _resolve_artifact(source, dag) for name, source in task.get("inputs", {}).get("artifacts", {}).items()
    }
    return check_types(component, parameters, skipped), artifacts


def check_types(component: Json, parameters: Json, skipped: str | None = None) -> Json:
    """Parameters as their definitions type them: anything becomes a string, nothing else is converted."""
    checked = dict(parameters)
    for name, spec in component.get("inputDefinitions", {}).get("parameters", {}).items():
        if name == skipped:
            continue
        if name not in parameters:
            if not spec.get("isOptional") and "defaultValue" not in spec:
                raise DriverError(f'neither value nor default value provided for non-optional parameter "{name}"')
            continue
        value, expected = parameters[name], spec["parameterType"]
        kind = _kind(value)
        if value is None and spec.get("isOptional"):
            continue
        if expected == "STRING":
            checked[name] = value if kind == "string" else _text(value)
        elif value is None:
            raise DriverError(f'got null for input parameter "{name}"')
        elif expected not in _ACCEPTED[kind]:
            raise DriverError(f'input parameter "{name}" type mismatch: expect {expected}, got {kind}')
    return checked


def _resolve_parameter(source: Json, dag: Execution) -> Any:
    match source:
        case {"componentInputParameter": name}:
            if name not in dag.parameters:
                raise DriverError(f"parent DAG does not have input parameter {name}")
            return dag.parameters[name]
        case {"taskOutputParameter": {"producerTask": producer, "outputParameterKey": key}}:
            found = find_producers(_producer(dag, producer), key, "parameters")
            values = [execution.output_parameters.get(name) for execution, name in found]
            return values if dag.tasks[producer].iterations is not None else values[0]
        case {"runtimeValue": {"constant": constant}}:
            return constant
    raise DriverError(f"parameter spec {source} not implemented yet")


def _resolve_artifact(source: Json, dag: Execution) -> list[Json]:
    if "componentInputArtifact" in source:
        name = source["componentInputArtifact"]
        if name not in dag.artifacts:
            raise DriverError(f"parent DAG does not have input artifact {name}")
        return dag.artifacts[name]
    output = source["taskOutputArtifact"]
    found = find_producers(_producer(dag, output["producerTask"]), output["outputArtifactKey"], "artifacts")
    return [execution.output_artifacts[name] for execution, name in found]


def _producer(dag: Execution, name: str) -> Execution:
    if name not in dag.tasks:
        raise DriverError(f"producer task, {name}, not in tasks")
    return dag.tasks[name]


def find_producers(execution: Execution, key: str, kind: str) -> list[tuple[Execution, str]]:
    """The containers behind an output of a task, one for each iteration of a loop, in the order of its items."""
    if execution.iterations is not None:
        return [found for iteration in execution.iterations for found in find_producers(iteration, key, kind)]
    if "dag" not in execution.component:
        return [(execution, key)]
    spec = execution.component["dag"].get("outputs", {}).get(kind, {}).get(key)
    if spec is None:
        raise DriverError(f"output {key} not found in parent task")
    one_of = spec.get("valueFromOneof", {}).get("parameterSelectors")
    for selector in one_of or spec.get("artifactSelectors") or [spec["valueFromParameter"]]:
        if producer := execution.tasks.get(selector["producerSubtask"]):
            return find_producers(producer, selector.get("outputArtifactKey") or selector["outputParameterKey"], kind)
    raise DriverError(f"processing OneOf: No successful task found for output key {key}")


def evaluate_condition(condition: str | None, parameters: Json) -> bool:
    """A trigger policy's CEL expression, in the forms that kfp's compiler writes."""
    if condition is None:
        return True
    code = condition.replace("!(", "not (").replace("&&", " and ").replace("||", " or ")
    names = {"true": True, "false": False, "int": int, "string": str, "double": float}
    inputs = type("Inputs", (), {"parameter_values": parameters})
    try:
        return bool(eval(code, {"__builtins__": {}}, names | {"inputs": inputs}))
    except KeyError as error:
        raise DriverError(f"no such key: {error}") from error


def provision_outputs(component: Json, uri: str) -> Json:
    """Places for the outputs of a pod; those of parameters are in /tmp, here in the pod's own."""
    definitions = component.get("outputDefinitions", {})
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": f"{uri}/{name}", "type": spec["artifactType"], "metadata": {}}]}
        for name, spec in definitions.get("artifacts", {}).items()
    }
    parameters = {name: {"outputFile": f"{uri}/tmp/outputs/{name}"} for name in definitions.get("parameters", {})}
    return {"artifacts": artifacts, "parameters": parameters, "outputFile": f"{uri}/output_metadata.json"}


def publish_outputs(execution: Execution, outputs: Json, uri: str) -> None:
    """Read what the container wrote, as the launcher does after it succeeded; OSError if a parameter is missing."""
    path = Path(outputs["outputFile"])
    written = json.loads(path.read_text()) if path.exists() else {}
    definitions = execution.component.get("outputDefinitions", {}).get("parameters", {})
    execution.output_parameters |= written.get("parameterValues", {})
    for name, spec in definitions.items():
        if name not in execution.output_parameters:
            text = Path(outputs["parameters"][name]["outputFile"]).read_text()
            execution.output_parameters[name] = text if spec["parameterType"] == "STRING" else json.loads(text)
    for name, items in outputs["artifacts"].items():
        reported = written.get("artifacts", {}).get(name, {}).get("artifacts", [{}])[0]
        artifact = items["artifacts"][0] | {"uri": f"{uri}/{name}", "metadata": reported.get("metadata", {})}
        execution.output_artifacts[name] = artifact


def read_items(iterator: Json, loop: Execution) -> list[Any]:
    """A loop's items: of the runtime list, or JSON; getItems in driver/util.go parses strings, too."""
    items = iterator["items"]
    value = json.loads(items["raw"]) if "raw" in items else loop.parameters.get(items["inputParameter"])
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, list):
        raise DriverError(f"value of type {_kind(value)} cannot be iterated")
    return value


def _kind(value: Any) -> str:
    names = {bool: "bool", int: "number", float: "number", str: "string", list: "list", dict: "struct"}
    return names.get(type(value), "null")


def _text(value: Any) -> str:
    return "" if value is None else json.dumps(proto_numbers(value), separators=(",", ":"))


def proto_numbers(value: Any) -> Any:
    """Numbers as protojson prints them: 30, not 30.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: proto_numbers(item) for name, item in value.items()}
    return [proto_numbers(item) for item in value] if isinstance(value, list) else value
