"""The pipelines and components by name, and the parameters of pipelines as typed on a command line."""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.python_component import PythonComponent

import components
from components.runtime.errors import InputError
from pipelines import PipelineName
from pipelines.batch_prediction import batch_prediction
from pipelines.cross_validation import cross_validation
from pipelines.training import training

PIPELINES: dict[PipelineName, GraphComponent] = {
    "training": training,
    "cross-validation": cross_validation,
    "batch-prediction": batch_prediction,
}


def find_components() -> dict[str, PythonComponent]:
    """The components by name, one per folder with a `component.py`."""
    names = sorted(path.parent.name for path in Path(components.__file__).parent.glob("*/component.py"))
    return {name: getattr(importlib.import_module(f"components.{name}.component"), name) for name in names}


def default_parameters(pipeline: PipelineName) -> dict[str, Any]:
    """Defaults of a pipeline's optional parameters."""
    inputs = PIPELINES[pipeline].component_spec.inputs
    return {name: spec.default for name, spec in inputs.items() if spec.optional}


def parse_parameters(pipeline: PipelineName, words: Sequence[str]) -> dict[str, Any]:
    """Parse `NAME=VALUE` words to the pipeline's typed parameters; names are case-insensitive.

    Raises:
        InputError: a name is unknown, or a value has the wrong type.
    """
    inputs = PIPELINES[pipeline].component_spec.inputs
    parameters = {}
    for word in words:
        name, separator, value = word.partition("=")
        name = name.lower()
        if not separator or name not in inputs:
            known = ", ".join(inputs)
            raise InputError(f"{word}: unknown parameter of {pipeline}; expected NAME=VALUE with one of {known}")
        parameters[name] = _parse_value(name, inputs[name].type, value)
    return parameters


def _parse_value(name: str, kfp_type: str, text: str) -> Any:
    try:
        match kfp_type:
            case "Integer":
                return int(text)
            case "Float" | "Double":
                return float(text)
            case "Boolean":
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            case "Dict":
                return _parse_object(text)
            case "List[String]":
                return [part.strip() for part in text.split(",") if part.strip()]
            case _:
                return text
    except (ValueError, KeyError):
        expected = {"Integer": "a whole number", "Boolean": "true or false", "Dict": 'JSON such as {"name": 1}'}
        raise InputError(f"{name} is {text!r}; expected {expected.get(kfp_type, 'a number')}") from None


def _parse_object(text: str) -> dict[str, Any]:
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise ValueError(text)
    return parsed
