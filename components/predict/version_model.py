"""Segment volumes with a version loaded in this process, without a server."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from components.ct.grid import axial_slices
from components.ct.inference import predict_slices
from components.ct.volume import Volume
from components.runtime.errors import InputError
from serving.client import Prediction
from serving.client.scans import Predict
from serving.versions.layout import SAVED_MODEL_PB, local_copy, served_version, version_number


@contextmanager
def load_version(model: str) -> Iterator[Predict]:
    """Load a version, or the newest one in a model base, and yield its predict function.

    Args:
        model: a folder or `gs://bucket/prefix`.

    Raises:
        InputError: There is no version, its files differ from its manifest, or it has no signature `network`.
    """
    from serving.versions.saved_model import load_verified  # imports TensorFlow, not needed with a server

    version = served_version(model)
    if version is None:
        raise InputError(f"{model}: no version here; expected a model base or a version folder with {SAVED_MODEL_PB}")
    with local_copy(version) as folder:
        try:
            saved_model = load_verified(folder)
            size, threshold = saved_model.image_size, saved_model.threshold
        except (OSError, ValueError) as error:
            raise InputError(f"{version}: expected a model that the export step wrote ({error})") from error

        def predict(scan: Volume) -> Prediction:
            slices_hu = axial_slices(scan.voxels)
            probability = np.empty(slices_hu.shape, np.float32)
            for part, values in predict_slices(saved_model.lesion_probability, slices_hu, size):
                probability[part] = values
            return Prediction.from_slices(probability, threshold, version_number(version))

        yield predict
