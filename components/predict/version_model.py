"""A version folder called in this process, for batches that need no server."""

from contextlib import ExitStack
from typing import Self

import numpy as np

from components.ct.grid import axial_slices, volume_from_axial_slices
from components.ct.inference import predict_slices
from components.ct.volume import Volume
from components.runtime.errors import InputError
from serving.client.segmentation import Prediction
from serving.versions.layout import local_copy, served_version


class VersionModel:
    """The newest version under a model base, or one version folder itself; local or `gs://`.

    Raises:
        InputError: There is no version, its files differ from its manifest, or it has no signature `network`.
    """

    def __init__(self, model: str) -> None:
        from serving.versions.saved_model import load_verified  # TensorFlow: ten seconds, not paid with a server

        folder = served_version(model)
        if folder is None:
            raise InputError(f"{model}: no version here; expected a model base or a version folder with saved_model.pb")
        name = folder.rpartition("/")[2]
        self.version = int(name) if name.isascii() and name.isdecimal() else None
        self._files = ExitStack()
        try:
            self._model = load_verified(self._files.enter_context(local_copy(folder)))
            self.size, self.threshold = self._model.image_size, self._model.threshold
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: no model that the export step of this project wrote ({error})") from error

    def __enter__(self) -> Self:
        """Keep the model until the `with` block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove downloaded files."""
        self._files.close()

    def predict(self, scan: Volume) -> Prediction:
        """Segment a volume whose voxels are (x, y, z) int16 HU in RAS+, as `SegmentationClient.predict` does."""
        slices_hu = axial_slices(scan.voxels)
        probability = np.empty(slices_hu.shape, np.float32)
        for part, values in predict_slices(self._model.lesion_probability, slices_hu, self.size):
            probability[part] = values
        mask = (probability >= self.threshold).astype(np.uint8)
        return Prediction(
            volume_from_axial_slices(probability), volume_from_axial_slices(mask), self.threshold, self.version
        )
