"""The pipelines by name, and their parameters as a person types them."""

import json
from collections.abc import Sequence
from typing import Any

from kfp.dsl.graph_component import GraphComponent

from components.runtime.errors import InputError
from pipelines.batch_prediction import batch_prediction
from pipelines.cross_validation import cross_validation
from pipelines.training import training

PIPELINES: dict[str, GraphComponent] = {
    "training": training,
    "cross-validation": cross_validation,
    "batch-prediction": batch_prediction,
}


def defaults(pipeline: str) -> dict[str, Any]:
    """The parameters that need not be given, with their values."""
    inputs = PIPELINES[pipeline].component_spec.inputs
    return {name: spec.default for name, spec in inputs.items() if spec.optional}


def parse_parameters(pipeline: str, given: Sequence[str]) -> dict[str, Any]:
    """Turn `NAME=VALUE` words into the pipeline's typed parameters; names may be in capitals.

    Raises:
        InputError: an unknown name, or a value of another type.
    """
    inputs = PIPELINES[pipeline].component_spec.inputs
    parameters = {}
    for word in given:
        name, separator, value = word.partition("=")
        name = name.lower()
        if not separator or name not in inputs:
            known = ", ".join(inputs)
            raise InputError(f"{word}: no such parameter of {pipeline}; expected NAME=VALUE with one of {known}")
        parameters[name] = _typed(name, inputs[name].type, value)
    return parameters


def _typed(name: str, kind: str, value: str) -> Any:
    """Read a value of one of KFP's types."""
    try:
        match kind:
            case "Integer":
                return int(value)
            case "Float" | "Double":
                return float(value)
            case "Boolean":
                return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
            case "Dict":
                return _object(value)
            case "List[String]":
                return [part.strip() for part in value.split(",") if part.strip()]
            case _:
                return value
    except (ValueError, KeyError):
        expected = {"Integer": "a whole number", "Boolean": "true or false", "Dict": 'JSON such as {"name": 1}'}
        raise InputError(f"{name} is {value!r}; expected {expected.get(kind, 'a number')}") from None


def _object(value: str) -> dict[str, Any]:
    read = json.loads(value)
    if not isinstance(read, dict):
        raise ValueError(value)
    return read
