"""The pipelines and components by name, and the parameters of pipelines as typed on a command line."""

import contextlib
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

    A value of another type than the parameter's stays text: `components.check_parameters` reports it with the others.

    Raises:
        InputError: names are unknown.
    """
    inputs = PIPELINES[pipeline].component_spec.inputs
    pairs = {word: word.partition("=")[::2] for word in words}
    if unknown := [word for word, (name, _) in pairs.items() if "=" not in word or name.lower() not in inputs]:
        known = ", ".join(inputs)
        raise InputError(
            *(f"{word}: unknown parameter of {pipeline}; expected NAME=VALUE with one of {known}" for word in unknown)
        )
    return {name.lower(): _parse_value(inputs[name.lower()].type, value) for name, value in pairs.values()}


def _parse_value(kfp_type: str, text: str) -> Any:
    with contextlib.suppress(ValueError, KeyError):
        match kfp_type:
            case "Integer":
                return int(text)
            case "Float" | "Double":
                return float(text)
            case "Boolean":
                return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            case "Dict":
                return json.loads(text)
            case "List[String]":
                return [part.strip() for part in text.split(",") if part.strip()]
    return text
