"""Numbers among values of any type, as Kubeflow may pass them."""


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a value is a number from `low` to `high`; NaN and booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
