"""The JSON of TF Serving's REST predictions: by row (`instances`) and by column (`inputs`)."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.server.batching import Arrays
from serving.server.errors import invalid
from serving.server.request_tensors import check_names, check_shape


@dataclass(frozen=True)
class RestRequest:
    """A request's body: its values as JSON has them, not yet compared with a signature."""

    signature_name: str
    values: Any
    by_row: bool

    def arrays(self, signature: Any) -> dict[str, NDArray]:
        """Read the values as a signature's inputs; `RequestError` where they do not fit."""
        named = self._by_name(list(signature.inputs))
        check_names(signature, named, ())
        return {name: _array(name, values, signature.inputs[name]) for name, values in named.items()}

    def _by_name(self, inputs: list[str]) -> dict[str, Any]:
        if not self.by_row:
            return self.values if isinstance(self.values, dict) else _only(inputs, self.values)
        if not isinstance(self.values, list) or not self.values:
            raise invalid("JSON Value: instances is not a list of at least one instance")
        if not any(isinstance(row, dict) for row in self.values):
            return _only(inputs, self.values)
        if not all(isinstance(row, dict) and set(row) == set(self.values[0]) for row in self.values):
            raise invalid("Failed to process element: instances are not objects of the same keys")
        return {name: [row[name] for row in self.values] for name in self.values[0]}


def read_body(body: bytes) -> RestRequest:
    """Read the body of a prediction.

    Raises:
        RequestError: It is no JSON object with one of `instances` and `inputs`.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid("JSON Parse error: the body is no JSON") from error
    if not isinstance(content, dict) or ("instances" in content) == ("inputs" in content):
        raise invalid("Missing 'inputs' or 'instances' key: expected one of them in a JSON object")
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("'signature_name' key must be a string value")
    by_row = "instances" in content
    return RestRequest(name, content["instances" if by_row else "inputs"], by_row)


def answer_body(outputs: Arrays, by_row: bool) -> dict[str, Any]:
    """Write outputs as TF Serving does: a lone output goes without its name."""
    if not by_row:
        columns = {name: array.tolist() for name, array in outputs.items()}
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values())).tolist()}
    rows = zip(*(array.tolist() for array in outputs.values()), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def _only(inputs: list[str], values: Any) -> dict[str, Any]:
    if len(inputs) != 1:
        raise invalid(f"the signature has {len(inputs)} inputs: name each one's values")
    return {inputs[0]: values}


def _array(name: str, values: Any, info: Any) -> NDArray:
    wanted = tf.as_dtype(info.dtype).as_numpy_dtype
    try:
        array = np.array(values)
    except ValueError as error:  # lists of different lengths
        raise invalid(f"Failed to process element of {name}: its lists are not of the same length") from error
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and np.issubdtype(wanted, np.integer)):
        raise invalid(f"JSON Value of {name} is not of type {np.dtype(wanted).name}")
    check_shape(name, array.shape, info)
    if np.issubdtype(wanted, np.integer) and array.size:
        bounds = np.iinfo(wanted)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise invalid(f"JSON Value of {name} is outside {bounds.min} to {bounds.max}")
    return array.astype(wanted)
