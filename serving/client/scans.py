"""Segment scan files: read each scan, predict, and write the mask and other outputs on the scan's own grid."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from components.ct.intensity import read_ct
from components.ct.lesions import measure_burden, remove_small_lesions
from components.ct.scan_folder import NIFTI_SUFFIXES, find_scans, scan_name
from components.ct.volume import Volume, write_on_file_grid
from components.runtime.errors import InputError, join_problems
from components.runtime.files import atomic_write, check_writable
from serving.client.dicom_seg import SegmentationError, check_series, write_segmentation
from serving.client.segmentation import Prediction
from serving.client.summary import SummaryRow

MASK_SUFFIX = "_mask.nii.gz"
_NAMES = {"mask": MASK_SUFFIX, "probability": "_probability.nii.gz", "preview": ".png", "segmentation": "_seg.dcm"}
_SUFFIXES = {"mask": NIFTI_SUFFIXES, "probability": NIFTI_SUFFIXES, "preview": (".png",), "segmentation": (".dcm",)}
Predict = Callable[[Volume], Prediction]


@dataclass(frozen=True)
class OutputFiles:
    """The files to write for one scan; None for those not requested."""

    mask: Path  # NIfTI, 1 lesion and 0 background, on the scan's own grid
    probability: Path | None = None  # NIfTI, float32, on the same grid
    preview: Path | None = None  # PNG of the slice with most lesion
    segmentation: Path | None = None  # DICOM SEG, for a scan that is a DICOM series

    @classmethod
    def in_folder(cls, folder: Path, case: str, *kinds: str) -> "OutputFiles":
        """Name a case's mask, and its outputs of other kinds, in a folder of results."""
        return cls(**{kind: folder / f"{case}{_NAMES[kind]}" for kind in ("mask", *kinds)})

    def paths(self) -> dict[str, Path]:
        """Map the kind of each requested output to its path."""
        return {kind: path for kind, path in vars(self).items() if path is not None}


class ScanTask(NamedTuple):
    """A scan to segment: a NIfTI file or a folder with a DICOM series, and the files to write."""

    case: str
    scan: Path
    outputs: OutputFiles


def scans_by_case(folder: Path) -> dict[str, Path]:
    """Find the scans of a folder by case name; `InputError` if there are none, or two with one name."""
    scans: dict[str, Path] = {}
    for path in find_scans(folder):
        case = scan_name(path)
        if case in scans:
            raise InputError(f"{path}: has the same name as {scans[case]}; keep one of them")
        scans[case] = path
    return scans


def check_outputs(tasks: Sequence[ScanTask], force: bool, summary: Path | None = None) -> None:
    """Check before any work that all outputs can be written and, without `force`, overwrite nothing.

    Raises:
        InputError: Some cannot; the message names the first few and counts all.
    """
    problems = [problem for task in tasks for problem in _output_problems(task, force)]
    if summary is not None and summary.exists() and not force:
        problems.insert(0, f"{summary}: exists already; choose another folder, or overwrite it with --force")
    if problems:
        raise InputError(join_problems(problems))


def _output_problems(task: ScanTask, force: bool) -> Iterator[str]:
    paths = task.outputs.paths()
    for kind, path in paths.items():
        if not path.name.endswith(_SUFFIXES[kind]):
            yield f"{path}: expected a file name that ends in {' or '.join(_SUFFIXES[kind])} for the {kind}"
        elif path.resolve() == task.scan.resolve():
            yield f"{path}: is the scan itself; choose another name for the {kind}"
        elif os.path.isdir(path) or not os.path.isdir(path.parent):  # False for a name that is too long
            yield f"{path}: expected a file name in an existing folder"
        elif os.path.exists(path) and not force:
            yield f"{path}: exists already; choose another name, or overwrite it with --force"
    if len({path.resolve() for path in paths.values()}) < len(paths):
        yield f"{task.outputs.mask}: two outputs have the same name; choose different names"
    if task.outputs.segmentation is not None and not task.scan.is_dir():
        yield f"{task.scan}: is NIfTI; a DICOM segmentation needs a DICOM series; write the NIfTI mask alone"


def segment_scan(predict: Predict, task: ScanTask, min_lesion_ml: float = 0.0) -> SummaryRow:
    """Segment a scan and write the requested files.

    Args:
        predict: maps a volume in HU to its prediction, such as `SegmentationClient.predict`.
        task: the scan and its outputs.
        min_lesion_ml: smaller connected lesions are removed from the mask.

    Raises:
        SegmentationError: A DICOM segmentation cannot refer to the series; then nothing is predicted.
        InputError: The scan cannot be read, the server does not answer, or an output cannot be written. The mask is
            written first.
    """
    scan, outputs = task.scan, task.outputs
    volume, intensity = read_ct(scan)
    if outputs.segmentation is not None:
        check_series(scan, volume.voxels.shape)
    for path in outputs.paths().values():
        check_writable(path)
    prediction = predict(volume)
    mask = remove_small_lesions(prediction.mask, voxel_ml=volume.voxel_ml, min_ml=min_lesion_ml)
    # First: what follows may fail.
    write_on_file_grid(outputs.mask, mask, volume.file_grid)
    if outputs.segmentation is not None:
        write_segmentation(outputs.segmentation, scan, mask)
    if outputs.probability is not None:
        write_on_file_grid(outputs.probability, prediction.probability, volume.file_grid)
    if outputs.preview is not None:
        from components.report.slice_image import preview_png

        with atomic_write(outputs.preview) as temporary:
            temporary.write_bytes(preview_png(volume.voxels, mask, volume.spacing_mm))
    burden = asdict(measure_burden(mask, volume.voxel_ml))
    notes = "; ".join(volume.notes)
    return SummaryRow(task.case, **burden, intensity=intensity, model_version=prediction.version, notes=notes)


def segment_scans(predict: Predict, tasks: Iterable[ScanTask], min_lesion_ml: float = 0.0) -> Iterator[SummaryRow]:
    """Segment scans and yield a row for each as soon as it is done; a scan that fails does not stop the others.

    A series that a DICOM segmentation cannot refer to gets its other outputs, and the error.
    """

    def segment(task: ScanTask) -> SummaryRow:
        try:
            return segment_scan(predict, task, min_lesion_ml)
        except SegmentationError as error:
            others = task._replace(outputs=replace(task.outputs, segmentation=None))
            row = segment(others)
            return replace(row, error=row.error or " ".join(str(error).split()))
        except InputError as error:
            return SummaryRow(task.case, error=" ".join(str(error).split()))

    return map(segment, tasks)
