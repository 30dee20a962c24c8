"""A version folder called in this process, for batches that need no server."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from components.ct.grid import GridFit, axial_slices, fit_hu, volume_from_axial_slices
from components.ct.volume import Volume
from components.runtime.errors import InputError
from components.storage.gcs_uri import is_gcs
from serving.client.segmentation import Prediction
from serving.versions.manifest import MANIFEST, verify
from serving.versions.publication import complete_versions, local_copy
from serving.versions.tensor_names import GRID_SIGNATURE, INPUT, PROBABILITY, THRESHOLD

_BATCH = 32


class VersionModel:
    """The newest version under a model base, or one version folder itself; local or `gs://`.

    Raises:
        InputError: There is no version, its files are not those exported, or it has no signature `network`.
    """

    def __init__(self, model: str) -> None:
        import tensorflow as tf  # ten seconds, which a shard that asks a server does not pay

        folder, self.version = _version_folder(model)
        self._files = ExitStack()
        local = self._files.enter_context(local_copy(folder))
        if (local / MANIFEST).is_file():
            verify(local)
        try:
            self._loaded: Any = tf.saved_model.load(str(local))
            self._network: Any = self._loaded.signatures[GRID_SIGNATURE]
            self.size = int(self._network.structured_input_signature[1][INPUT].shape[1])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: no model that the export step of this project wrote ({error})") from error

    def __enter__(self) -> Self:
        """Keep the model until the `with` block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was fetched."""
        self._files.close()

    def predict(self, scan: Volume) -> Prediction:
        """Segment a volume whose voxels are (x, y, z) int16 HU in RAS+, as `SegmentationClient.predict` does."""
        slices_hu = axial_slices(scan.voxels)
        fit = GridFit(slices_hu.shape[1], slices_hu.shape[2], self.size)
        probability = np.empty(slices_hu.shape, np.float32)
        threshold = 0.5
        for start in range(0, len(slices_hu), _BATCH):
            part = slice(start, start + _BATCH)
            outputs = self._answer(fit_hu(slices_hu[part], self.size))
            probability[part] = fit.invert(outputs[PROBABILITY])
            threshold = float(outputs[THRESHOLD][0])
        mask = (probability >= threshold).astype(np.uint8)
        return Prediction(
            volume_from_axial_slices(probability), volume_from_axial_slices(mask), threshold, self.version
        )

    def _answer(self, grids_hu: NDArray[np.int16]) -> dict[str, NDArray]:
        import tensorflow as tf

        return {name: tensor.numpy() for name, tensor in self._network(**{INPUT: tf.constant(grids_hu)}).items()}


def _version_folder(model: str) -> tuple[str, int | None]:
    """Take a version folder, or the newest in a model base."""
    model = model.rstrip("/")
    shown = complete_versions(model)
    if shown:
        newest = max(shown)
        return shown[newest], newest
    name = model.rpartition("/")[2]
    if not is_gcs(model) and not (Path(model) / "saved_model.pb").is_file():
        raise InputError(f"{model}: no version here; expected a model base or a version folder with saved_model.pb")
    return model, int(name) if name.isascii() and name.isdecimal() else None
