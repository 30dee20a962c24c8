"""Segment volumes with a version loaded in this process, without a server."""

from contextlib import AbstractContextManager, ExitStack

import numpy as np

from components.ct.grid import axial_slices
from components.ct.inference import predict_slices
from components.ct.volume import Volume
from components.runtime.errors import InputError
from serving.client import Prediction
from serving.versions.layout import SAVED_MODEL_PB, local_copy, served_version, version_number


class VersionModel(AbstractContextManager["VersionModel"]):
    """A version loaded from its folder; use it in a `with` block.

    Args:
        model: a version, or a model base, whose newest version is loaded; a folder or `gs://`.

    Raises:
        InputError: There is no version, its files differ from its manifest, or it has no signature `network`.
    """

    def __init__(self, model: str) -> None:
        from serving.versions.saved_model import load_verified  # imports TensorFlow, which a server makes needless

        version = served_version(model)
        if version is None:
            raise InputError(
                f"{model}: no version here; expected a model base or a version folder with {SAVED_MODEL_PB}"
            )
        self.version = version_number(version)
        with ExitStack() as files:
            folder = files.enter_context(local_copy(version))
            try:
                self._model = load_verified(folder)
                self.size, self.threshold = self._model.image_size, self._model.threshold
            except (OSError, ValueError) as error:
                raise InputError(f"{version}: expected a model that the export step wrote ({error})") from error
            self._files = files.pop_all()

    def __exit__(self, *_: object) -> None:
        """Remove downloaded files."""
        self._files.close()

    def predict(self, scan: Volume) -> Prediction:
        """Segment a volume whose voxels are (x, y, z) int16 HU in RAS+, as `SegmentationClient.predict` does."""
        slices_hu = axial_slices(scan.voxels)
        probability = np.empty(slices_hu.shape, np.float32)
        for part, values in predict_slices(self._model.lesion_probability, slices_hu, self.size):
            probability[part] = values
        return Prediction.from_slices(probability, self.threshold, self.version)
