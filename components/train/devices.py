"""What a training run asks of the machine."""

import keras

from components.ct.errors import InputError


def require_gpu() -> None:
    """Raise `InputError` unless Keras sees a GPU."""
    if not keras.distribution.list_devices("gpu"):
        raise InputError(
            "training: require_gpu is set, and no GPU is visible to this process; run the GPU image on a node with "
            "one, look at `nvidia-smi` there, or set require_gpu to false to train on the CPU"
        )
