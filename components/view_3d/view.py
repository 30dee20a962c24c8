"""The worst test case in 3-D: scan, ground truth and prediction on one self-contained page.

The page contains NiiVue, which needs WebGL2, and volumes averaged to keep it under 5 MB.
"""

import csv
import gzip
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from components.ct.grid import sparse_resampling_matrix, volume_from_axial_slices
from components.ct.inference import keras_network
from components.ct.intensity import WINDOW_HU, apply_window
from components.ct.metrics import confusion
from components.evaluate.labeled_scan import LabeledScan, SplitCases
from components.evaluate.rules import TRIVIAL_ML
from components.evaluate.scores import SCORES_FILE, predict_mask
from components.evaluate.verdict import read_verdict
from components.report.page import MAX_PAGE_BYTES, ORANGE, SKY, script_digest, write_page
from components.report.slice_image import largest_lesion_slice
from components.runtime.errors import InputError
from components.train import MODEL_FILE
from components.train.network import load_model
from serving.versions.layout import VERDICT_FILE

# Cells. 140³ incompressible bytes are 3.7 MB in base64, and NiiVue is 1.1 MB; masks of lesions compress well. If masks
# of noise do not, three volumes of 95³ bytes are 3.4 MB.
MAX_EDGE, NOISE_EDGE = 140, 95
FULL_CELL = 255  # value of a cell full of lesion
_TEXT_BYTES = 50_000  # of the page besides NiiVue and volumes

_FOLDER = Path(__file__).parent
_TEMPLATE, _SCRIPT = _FOLDER / "view.html.jinja", (_FOLDER / "view.js").read_text()
# dist/niivue.umd.js of @niivue/niivue 0.69.0 as published, gzipped. SHA-256 of the unpacked file:
# 47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af.
NIIVUE = _FOLDER / "niivue" / "niivue-0.69.0.umd.js.gz"
_LICENSE = _FOLDER / "niivue" / "LICENSE"


def view_worst_case(*, cases: Path, shards: Path, model: Path, evaluation: Path, page: Path) -> None:
    """Read and predict the worst nontrivial test case again, and write its page.

    Args:
        cases: output of ingest.
        shards: output of slice.
        model: output of train.
        evaluation: output of evaluate on these inputs.
        page: the HTML file.

    Raises:
        InputError: there is no test case, its files differ from the case table, or the network returns NaN or
            infinity.
    """
    split_cases, case_id = SplitCases.read(cases, shards), worst_case(evaluation)
    (case,) = (case for case in split_cases.test if case.case_id == case_id)
    scan = LabeledScan.read(cases, case)
    network = keras_network(load_model(model / MODEL_FILE))
    threshold = read_verdict(evaluation / VERDICT_FILE).threshold
    prediction = predict_mask(network, scan, size=split_cases.image_size, threshold=threshold)
    write_view(page, scan, prediction, len(split_cases.test))


def worst_case(evaluation: Path) -> str:
    """Return the id of the case with the lowest Dice among nontrivial cases, or among all if there are none."""
    with (evaluation / SCORES_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))  # worst first
    if not rows:
        raise InputError(f"{evaluation / SCORES_FILE}: no test case to show; leave view_3d off")
    return next((row for row in rows if float(row["lesion_ml"]) >= TRIVIAL_ML), rows[0])["case_id"]


def write_view(page: Path, scan: LabeledScan, prediction: NDArray[np.bool_], test_cases: int) -> None:
    """Write the page of one of `test_cases` cases, with its predicted mask (n, rows, columns) on its own voxels."""
    niivue, voxels = NIIVUE.read_bytes(), confusion(scan.truth, prediction)
    for max_edge in (MAX_EDGE, NOISE_EDGE):
        gray = average(scan.slices_hu, apply_window, max_edge)
        cell_mm = tuple(mm * n / m for mm, n, m in zip(scan.spacing_mm, scan.truth.shape, gray.shape, strict=True))
        masks = {"truth": scan.truth, "prediction": prediction}
        volumes = {"scan": gray} | {name: average(mask, max_edge=max_edge) for name, mask in masks.items()}
        contents = {"niivue": niivue} | {name: to_nifti(cells, cell_mm) for name, cells in volumes.items()}
        files = {name: b64encode(content).decode() for name, content in contents.items()}
        if sum(map(len, files.values())) <= MAX_PAGE_BYTES - _TEXT_BYTES:
            break
    write_page(
        page,
        _TEMPLATE,
        window_hu=WINDOW_HU,
        scan=scan,
        dice=voxels.dice,
        predicted_ml=voxels.predicted * scan.voxel_ml,
        lesion_ml=voxels.truth * scan.voxel_ml,
        test_cases=test_cases,
        trivial_ml=TRIVIAL_ML,
        cells=gray.shape,
        cell_mm=cell_mm,
        crosshair=lesion_position(scan.truth, prediction),
        sky=SKY,
        orange=ORANGE,
        files=files,
        script=Markup(_SCRIPT),
        digests=[script_digest(text) for text in (_SCRIPT, gzip.decompress(niivue).decode())],
        license=_LICENSE.read_text(),
    )


def average(
    slices: NDArray, rescale: Callable[[NDArray], NDArray] = lambda pixels: pixels, max_edge: int = MAX_EDGE
) -> NDArray[np.uint8]:
    """Average (n, rows, columns) voxels to at most `max_edge` cells along each axis.

    Args:
        slices: the voxels.
        rescale: maps the values of a slice to 0 to 1.
        max_edge: the largest number of cells along an axis.

    Returns:
        Mean values of the cells, 0 to `FULL_CELL`. The sum over a mask keeps its volume.
    """
    cells = [min(edge, max_edge) for edge in slices.shape]
    # Sparse: a cell depends on a few voxels per axis, and dense products take many times as long.
    along, down, across = (sparse_resampling_matrix(n_from=n, n_to=m) for n, m in zip(slices.shape, cells, strict=True))
    # Slice by slice, to avoid a float volume of the scan's size.
    planes = np.stack([(across @ (down @ rescale(pixels.astype(np.float32))).T).T for pixels in slices])
    averages = (along @ planes.reshape(len(planes), -1)).reshape(cells)
    return np.rint(averages * FULL_CELL).astype(np.uint8)


def to_nifti(cells: NDArray[np.uint8], cell_mm: tuple[float, ...]) -> bytes:
    """Encode (z, rows, columns) axial cells as a `.nii.gz` file in RAS+ millimeters, centered at the origin."""
    voxels = volume_from_axial_slices(cells)
    spacing_mm = np.array(cell_mm[::-1])
    affine = nib.affines.from_matvec(np.diag(spacing_mm), -spacing_mm * (np.array(voxels.shape) - 1) / 2)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)


def lesion_position(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Find a lesion pixel in the slice with most lesion; without lesion, a pixel of the middle slice.

    Returns:
        Fractions of the extent to the patient's right, anterior and superior.
    """
    index = largest_lesion_slice(truth, prediction)
    mask = next((part for part in (truth[index], prediction[index]) if part.any()), np.ones_like(truth[index]))
    pixels = np.argwhere(mask)
    row, column = pixels[len(pixels) // 2]
    n, rows, columns = truth.shape
    # Rows run from anterior to posterior and columns from right to left; RAS runs the other way along both.
    return 1 - float(column + 0.5) / columns, 1 - float(row + 0.5) / rows, (index + 0.5) / n
