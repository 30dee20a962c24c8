"""The random seeds that every generator takes."""

from components.runtime.errors import InputError

MAX_SEED = 2**32 - 1  # of NumPy's global generator, which `keras.utils.set_random_seed` seeds


def check_seed(seed: int) -> None:
    """Raise `InputError` unless a seed is 0 to `MAX_SEED`."""
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed is {seed}; expected a whole number from 0 to {MAX_SEED}")
