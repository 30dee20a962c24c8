"""The JSON of TF Serving's REST predictions, by row (`instances`) or by column (`inputs`): util/json_tensor.cc."""

import json
from itertools import chain
from reprlib import repr as shorten
from typing import Any

import numpy as np
import orjson
import tensorflow as tf
from numpy.typing import NDArray

from serving.server.batching import Arrays
from serving.server.errors import invalid_argument
from serving.server.tensors import check_shape, request_bytes

_MAX_NUMBERS, _MAX_LISTS = 1 << 24, 1 << 20  # 64 slices of 512×512; parsed, up to 40 and 90 bytes each
_MAX_LENIENT_BYTES, _CHUNK = 32 << 20, 1 << 19  # parsed and converted at once; other threads run in between
_PYTHON_TYPES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}  # by numpy's dtype.kind


def parse_body(body: bytearray) -> dict[str, Any]:
    """Parse an object, whose values are not yet compared with a signature; raise `RequestError` for anything else."""
    if body.count(b",") > _MAX_NUMBERS or body.count(b"[") + body.count(b"{") > _MAX_LISTS:
        raise invalid_argument(f"expected at most {_MAX_NUMBERS} numbers in {_MAX_LISTS} lists; send fewer slices")
    try:
        content = orjson.loads(body)
    except ValueError:  # perhaps what rapidjson accepts beyond JSON: NaN, a byte order mark, text after the value
        text = body[:_MAX_LENIENT_BYTES].decode("utf-8-sig", "replace").lstrip(" \t\r\n")
        try:
            content = json.JSONDecoder().raw_decode(text)[0]
        except (ValueError, RecursionError) as error:
            raise invalid_argument(f"JSON Parse error: {error if text else 'The document is empty'}") from error
    if not isinstance(content, dict) or not isinstance(content.get("signature_name", ""), str):
        raise invalid_argument(f"JSON Value: {shorten(content)} Is not object with a string value 'signature_name'")
    return content


def pop_arrays(content: dict[str, Any], signature: Any) -> dict[str, NDArray]:
    """Convert the values to a signature's inputs, and forget them; raise `RequestError` if they do not match."""
    names, by_row = sorted(signature.inputs), "instances" in content
    if by_row == ("inputs" in content):
        raise invalid_argument("Missing 'inputs' or 'instances' key, or both exist; expected one of them")
    values = content.pop("instances" if by_row else "inputs")
    if by_row and (not isinstance(values, list) or not values):
        raise invalid_argument("Expecting 'instances' to be an list/array of at least one value")
    if by_row and isinstance(values[0], dict):
        for index, row in enumerate(values):
            if not isinstance(row, dict) or sorted(row) != names:
                found = f"Failed to process element: {index} of 'instances' list. JSON object: {shorten(row)}"
                raise invalid_argument(f"{found} keys must be equal to: {','.join(names)}")
        values = {name: [row[name] for row in values] for name in names}
    columns = values if isinstance(values, dict) else {names[0]: values}
    if missing := [name for name in names if name not in columns]:
        raise invalid_argument(f"Missing named input: {missing[0]} in an object of all inputs")
    return {name: _to_array(name, columns[name], signature) for name in names}


def format_outputs(outputs: Arrays, by_row: bool) -> bytes:
    """Format outputs like TF Serving, which omits the name of a single output."""
    columns = dict(outputs)
    if not by_row:
        return b'{"outputs":' + _dump(columns if len(columns) > 1 else columns.popitem()[1]) + b"}"
    if len({array.shape[:1] for array in outputs.values()} | {()}) != 2:
        raise invalid_argument("Tensor has no shape information or inconsistent batch size; expected 'inputs'")
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return b'{"predictions":[' + b",".join(_dump(row if len(row) > 1 else row.popitem()[1]) for row in rows) + b"]}"


def _dump(value: Any) -> bytes:
    """Format numbers as the shortest text that returns them. Other threads run between parts of large arrays."""
    if isinstance(value, dict):
        return b"{" + b",".join(orjson.dumps(name) + b":" + _dump(array) for name, array in value.items()) + b"}"
    array = np.asarray(value)
    if array.ndim > 2:
        return b"[" + b",".join(map(_dump, array)) + b"]"
    if array.dtype.kind not in _PYTHON_TYPES:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {array.dtype.name}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():  # NaN and Infinity, as TF Serving writes them
        return json.dumps(array.astype(str).astype(float).tolist()).encode()
    return orjson.dumps(array if array.ndim else array[()], option=orjson.OPT_SERIALIZE_NUMPY)


def _to_array(name: str, values: Any, signature: Any) -> NDArray:
    """Convert nested lists of equal lengths; each number is checked, since numpy would take `true` for 1."""
    info, shape, elements = signature.inputs[name], [], [values]
    while elements and isinstance(elements[0], list):
        shape.append(len(elements[0]))
        for item in elements:
            if not isinstance(item, list) or len(item) != shape[-1]:
                found = f"JSON Value: {shorten(item)} of {name} at level: {len(shape) - 1}"
                raise invalid_argument(f"{found} is not of expected size: {shape[-1]}")
        elements = list(chain.from_iterable(elements))
    check_shape(name, shape, info)
    request_bytes(signature, {name: shape})
    dtype = np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
    array = np.empty(len(elements), dtype)
    for start in range(0, len(elements), _CHUNK):
        chunk = elements[start : start + _CHUNK]
        if wrong := set(map(type, chunk)) - _PYTHON_TYPES.get(dtype.kind, set()):
            value = shorten(next(value for value in chunk if type(value) in wrong))
            raise invalid_argument(f"JSON Value: {value} of {name} is not of expected type: {dtype.name}")
        try:
            array[start : start + _CHUNK] = chunk
        except OverflowError as error:
            raise invalid_argument(f"JSON Value of {name}: {error}") from error
    return array.reshape(shape)
