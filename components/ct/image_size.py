"""The edges of the network's grid that are possible."""

from components.runtime.errors import InputError
from components.runtime.numbers import is_number

_MULTIPLE = 16  # the default network halves its input four times
_MAX = 1024  # the largest matrix of common CT scanners


def check_image_size(image_size: float) -> None:
    """Raise `InputError` for an impossible edge of the grid, also one that Kubeflow passed as 100.5."""
    if not is_number(image_size, _MULTIPLE, _MAX) or image_size % _MULTIPLE:
        expected = f"a multiple of {_MULTIPLE} up to {_MAX}, such as 128 or 256"
        raise InputError(f"image_size is {image_size!r}; expected {expected}")
