"""One scan file to one mask file, on the scan's own grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.ct.errors import InputError
from components.ct.intensity import Intensity, read_ct
from components.ct.volume import write_on_file_grid
from serving.client import SegmentationClient

_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Segmented:
    """What was found in one scan.

    Attributes:
        lesion_ml: volume of the mask.
        slices_affected: axial slices with at least one lesion voxel.
        slices: axial slices in all.
        intensity: what the file's numbers were, before they were read as HU.
        version: the model version that answered, where the server names it.
    """

    lesion_ml: float
    slices_affected: int
    slices: int
    intensity: Intensity
    version: int | None


def check_outputs(scan: Path, outputs: list[Path], force: bool) -> None:
    """See to it, before any work, that the outputs can be written and nothing is lost by it.

    Raises:
        InputError: An output is no NIfTI name, is the scan or another output, lies in no folder, or exists.
    """
    for output in outputs:
        if not output.name.endswith(_SUFFIXES):
            raise InputError(f"{output}: masks and maps are NIfTI; give it a name that ends in .nii.gz or .nii")
        if output.resolve() == scan.resolve():
            raise InputError(f"{output}: is the scan itself; choose another name for the output")
        if output.is_dir() or not output.parent.is_dir():
            raise InputError(f"{output}: expected a file's name in a folder that exists")
        if output.exists() and not force:
            raise InputError(f"{output}: exists already; choose another name, or overwrite it with --force")
    if len({output.resolve() for output in outputs}) < len(outputs):
        raise InputError(f"{outputs[0]}: is named for two outputs; give each its own name")


def segment_file(client: SegmentationClient, scan: Path, mask: Path, probability: Path | None) -> Segmented:
    """Read a scan, ask the server, and write the mask and, where wanted, the probability map.

    Raises:
        InputError: The scan cannot be read, or the server does not answer; nothing is written then.
    """
    volume, intensity = read_ct(scan)
    prediction = client.predict(volume)
    if probability is not None:
        write_on_file_grid(probability, prediction.probability, volume.file_grid)
    write_on_file_grid(mask, prediction.mask, volume.file_grid)
    return Segmented(
        lesion_ml=float(prediction.mask.sum(dtype=np.int64)) * volume.voxel_ml,
        slices_affected=int(prediction.mask.any(axis=(0, 1)).sum()),
        slices=prediction.mask.shape[2],
        intensity=intensity,
        version=prediction.version,
    )
