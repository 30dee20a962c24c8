"""The JSON of TF Serving's REST predictions: by row (`instances`) or by column (`inputs`)."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.server.batching import Arrays
from serving.server.errors import invalid_argument
from serving.server.tensors import check_names, check_shape


@dataclass(frozen=True)
class RestRequest:
    """A parsed request body; its values are not yet compared with a signature."""

    signature_name: str
    values: Any
    by_row: bool

    def arrays(self, signature: Any) -> dict[str, NDArray]:
        """Convert the values to a signature's inputs; raise `RequestError` if they do not match."""
        values_by_name = self._by_name(list(signature.inputs))
        check_names(signature, values_by_name, ())
        return {name: _to_array(name, values, signature.inputs[name]) for name, values in values_by_name.items()}

    def _by_name(self, inputs: list[str]) -> dict[str, Any]:
        if not self.by_row:
            return self.values if isinstance(self.values, dict) else _name_only_input(inputs, self.values)
        if not isinstance(self.values, list) or not self.values:
            raise invalid_argument("JSON Value: instances is not a list of at least one instance")
        if not any(isinstance(row, dict) for row in self.values):
            return _name_only_input(inputs, self.values)
        if not all(isinstance(row, dict) and set(row) == set(self.values[0]) for row in self.values):
            raise invalid_argument("Failed to process element: instances are not objects of the same keys")
        return {name: [row[name] for row in self.values] for name in self.values[0]}


def parse_body(body: bytes) -> RestRequest:
    """Parse a JSON object with exactly one of `instances` and `inputs`; raise `RequestError` for anything else."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid_argument("JSON Parse error: the body is not JSON") from error
    if not isinstance(content, dict) or ("instances" in content) == ("inputs" in content):
        raise invalid_argument("Missing 'inputs' or 'instances' key: expected one of them in a JSON object")
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument("'signature_name' key must be a string value")
    by_row = "instances" in content
    return RestRequest(name, content["instances" if by_row else "inputs"], by_row)


def format_outputs(outputs: Arrays, by_row: bool) -> dict[str, Any]:
    """Format outputs like TF Serving, which omits the name of a single output."""
    columns = {name: array.tolist() for name, array in outputs.items()}
    if not by_row:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _name_only_input(inputs: list[str], values: Any) -> dict[str, Any]:
    if len(inputs) != 1:
        raise invalid_argument(f"the signature has {len(inputs)} inputs; name the values of each")
    return {inputs[0]: values}


def _to_array(name: str, values: Any, info: Any) -> NDArray:
    dtype = np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
    try:
        array = np.array(values)
    except ValueError as error:  # lists of different lengths
        raise invalid_argument(f"Failed to process element of {name}: its lists are not of the same length") from error
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and np.issubdtype(dtype, np.integer)):
        raise invalid_argument(f"JSON Value of {name} is not of type {dtype.name}")
    check_shape(name, array.shape, info)
    if np.issubdtype(dtype, np.integer) and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise invalid_argument(f"JSON Value of {name} is outside {limits.min} to {limits.max}")
    return array.astype(dtype)
