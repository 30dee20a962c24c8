"""One scan to its mask on the scan's own grid, and what else is wanted of it."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from components.ct.dicom import read_dicom_series
from components.ct.intensity import Intensity, read_ct
from components.ct.lesions import Burden, measure_burden, remove_small_lesions
from components.ct.scan_folder import NIFTI_SUFFIXES
from components.ct.volume import Volume, write_on_file_grid
from components.runtime.errors import InputError
from components.runtime.files import atomic_write
from serving.client.segmentation import Prediction

_ENDINGS = {"mask": NIFTI_SUFFIXES, "probability": NIFTI_SUFFIXES, "preview": (".png",), "segmentation": (".dcm",)}
Predict = Callable[[Volume], Prediction]


@dataclass(frozen=True)
class Outputs:
    """The files to write for one scan; None for those not wanted.

    Attributes:
        mask: NIfTI, 1 lesion and 0 none, on the scan's own grid.
        probability: NIfTI, float32, on the same grid.
        preview: PNG of the slice with most lesion.
        segmentation: DICOM SEG, for a scan that is a DICOM series.
    """

    mask: Path
    probability: Path | None = None
    preview: Path | None = None
    segmentation: Path | None = None

    def paths(self) -> dict[str, Path]:
        """Those that are wanted, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: path for name, path in named.items() if path is not None}


@dataclass(frozen=True)
class Segmented:
    """What was found in one scan.

    Attributes:
        burden: how much lesion.
        intensity: what the file's numbers were, before they were read as HU.
        version: the model version that answered, where the server names it.
    """

    burden: Burden
    intensity: Intensity
    version: int | None


def check_outputs(scan: Path, outputs: Outputs, force: bool) -> None:
    """See to it, before any work, that the outputs can be written and nothing is lost by it.

    Raises:
        InputError: An output has another ending than its kind, is the scan or another output, lies in no folder,
            or exists.
    """
    for name, output in outputs.paths().items():
        endings = _ENDINGS[name]
        if not output.name.endswith(endings):
            raise InputError(f"{output}: give the {name} a name that ends in {' or '.join(endings)}")
        if output.resolve() == scan.resolve():
            raise InputError(f"{output}: is the scan itself; choose another name for the output")
        if output.is_dir() or not output.parent.is_dir():
            raise InputError(f"{output}: expected a file's name in a folder that exists")
        if output.exists() and not force:
            raise InputError(f"{output}: exists already; choose another name, or overwrite it with --force")
    paths = list(outputs.paths().values())
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(f"{outputs.mask}: is named for two outputs; give each its own name")
    if outputs.segmentation is not None and not scan.is_dir():
        raise InputError(f"{scan}: a DICOM segmentation refers to a DICOM series; this is NIfTI, take its NIfTI mask")


def read_scan(scan: Path) -> tuple[Volume, Intensity]:
    """Read a NIfTI file, or a folder that holds one DICOM series, as int16 HU.

    Raises:
        InputError: It is neither, or cannot be read.
    """
    if scan.is_dir():
        return read_dicom_series(scan), Intensity.HU
    return read_ct(scan)


def segment_scan(predict: Predict, scan: Path, outputs: Outputs, min_lesion_ml: float = 0.0) -> Segmented:
    """Read a scan, predict, and write what is wanted.

    Args:
        predict: a volume in HU to its prediction, such as `SegmentationClient.predict`.
        scan: a NIfTI file or a folder with a DICOM series.
        outputs: what to write.
        min_lesion_ml: connected lesions under this volume are left out of the mask.

    Raises:
        InputError: The scan cannot be read, or the server does not answer; nothing is written then.
    """
    volume, intensity = read_scan(scan)
    prediction = predict(volume)
    mask = remove_small_lesions(prediction.mask, voxel_ml=volume.voxel_ml, min_ml=min_lesion_ml)
    if outputs.segmentation is not None:
        from serving.client.dicom_seg import write_segmentation

        write_segmentation(outputs.segmentation, scan, mask)
    if outputs.probability is not None:
        write_on_file_grid(outputs.probability, prediction.probability, volume.file_grid)
    if outputs.preview is not None:
        from components.report.slice_image import preview_png

        with atomic_write(outputs.preview) as temporary:
            temporary.write_bytes(preview_png(volume.voxels, mask, volume.spacing_mm))
    # Last: a mask that is there says that all is.
    write_on_file_grid(outputs.mask, mask, volume.file_grid)
    return Segmented(measure_burden(mask, volume.voxel_ml), intensity, prediction.version)
