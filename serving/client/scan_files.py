"""Segment one scan file: read it, predict, and write a mask and other outputs on the scan's own grid."""

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

_SUFFIXES = {"mask": NIFTI_SUFFIXES, "probability": NIFTI_SUFFIXES, "preview": (".png",), "segmentation": (".dcm",)}
Predict = Callable[[Volume], Prediction]


@dataclass(frozen=True)
class OutputFiles:
    """The files to write for one scan; None for those not requested.

    Attributes:
        mask: NIfTI, 1 lesion and 0 background, on the scan's own grid.
        probability: NIfTI, float32, on the same grid.
        preview: PNG of the slice with most lesion.
        segmentation: DICOM SEG, for a scan that is a DICOM series.
    """

    mask: Path
    probability: Path | None = None
    preview: Path | None = None
    segmentation: Path | None = None

    def requested(self) -> dict[str, Path]:
        """The requested files by kind."""
        paths = {field.name: getattr(self, field.name) for field in fields(self)}
        return {kind: path for kind, path in paths.items() if path is not None}


@dataclass(frozen=True)
class SegmentationResult:
    """The findings in one scan.

    Attributes:
        burden: lesion volume and extent.
        intensity: what the file's values were before conversion to HU.
        version: the model version that answered, if known.
    """

    burden: Burden
    intensity: Intensity
    version: int | None


def check_outputs(scan: Path, outputs: OutputFiles, force: bool) -> None:
    """Check before any work that the outputs can be written and overwrite nothing.

    Raises:
        InputError: An output has the wrong suffix, is the scan or another output, has no folder, or exists.
    """
    for kind, path in outputs.requested().items():
        suffixes = _SUFFIXES[kind]
        if not path.name.endswith(suffixes):
            raise InputError(f"{path}: expected a file name that ends in {' or '.join(suffixes)} for the {kind}")
        if path.resolve() == scan.resolve():
            raise InputError(f"{path}: is the scan itself; choose another name for the {kind}")
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"{path}: expected a file name in an existing folder")
        if path.exists() and not force:
            raise InputError(f"{path}: exists already; choose another name, or overwrite it with --force")
    paths = list(outputs.requested().values())
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(f"{outputs.mask}: two outputs have the same name; choose different names")
    if outputs.segmentation is not None and not scan.is_dir():
        raise InputError(f"{scan}: is NIfTI; a DICOM segmentation needs a DICOM series; write the NIfTI mask alone")


def read_scan(scan: Path) -> tuple[Volume, Intensity]:
    """Read a NIfTI file, or a folder with one DICOM series, as int16 HU.

    Raises:
        InputError: It is neither, or cannot be read.
    """
    if scan.is_dir():
        return read_dicom_series(scan), Intensity.HU
    return read_ct(scan)


def segment_scan(predict: Predict, scan: Path, outputs: OutputFiles, min_lesion_ml: float = 0.0) -> SegmentationResult:
    """Segment a scan and write the requested files.

    Args:
        predict: maps a volume in HU to its prediction, such as `SegmentationClient.predict`.
        scan: a NIfTI file or a folder with a DICOM series.
        outputs: the files to write.
        min_lesion_ml: smaller connected lesions are removed from the mask.

    Raises:
        InputError: The scan cannot be read, or the server does not answer; then no file is written.
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
    # Last: an existing mask means that all outputs exist.
    write_on_file_grid(outputs.mask, mask, volume.file_grid)
    return SegmentationResult(measure_burden(mask, volume.voxel_ml), intensity, prediction.version)
