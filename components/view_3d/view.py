"""The worst test case in 3-D: its scan and both masks in a page that needs nothing but itself.

The page carries NiiVue, which draws with WebGL2, and volumes small enough that the page stays under 5 MB.
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
from components.evaluate.case import predicted_mask
from components.evaluate.evaluation import MODEL
from components.evaluate.labeled_scan import HeldOut, LabeledScan
from components.evaluate.rules import TRIVIAL_ML
from components.evaluate.scores import TABLE
from components.evaluate.verdict import FILE, read_verdict
from components.report.page import ORANGE, SKY, script_digest, write_page
from components.report.slice_image import largest_slice
from components.runtime.errors import InputError
from components.train.network import load_model

EDGE = 140  # cells: 140³ bytes that nothing compresses are 3.7 MB of text, and NiiVue is 1.1 MB
FULL = 255  # what a cell holds that is lesion throughout

_ROOM = Path(__file__).parent
_TEMPLATE, _SCRIPT = _ROOM / "view.html.jinja", (_ROOM / "view.js").read_text()
# dist/niivue.umd.js of @niivue/niivue 0.69.0 as its authors publish it, gzipped; unpacked, its SHA-256 is
# 47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af.
NIIVUE = _ROOM / "niivue" / "niivue-0.69.0.umd.js.gz"
_LICENSE = _ROOM / "niivue" / "LICENSE"


def view_worst_case(cases: Path, shards: Path, model: Path, evaluation: Path, page: Path) -> None:
    """Read and predict the worst test case that is not trivial once more, and write its page.

    Args:
        cases: output of ingest.
        shards: output of slice.
        model: the folder with the judged `model.keras`.
        evaluation: output of evaluate on all of these.
        page: the HTML file.

    Raises:
        InputError: there is no test case, its files are not as they were recorded, or an answer is not finite.
    """
    held_out, case_id = HeldOut.read(cases, shards), worst_case(evaluation)
    (case,) = (case for case in held_out.test if case.case_id == case_id)
    scan = LabeledScan.read(cases, case)
    network = keras_network(load_model(model / MODEL))
    threshold = read_verdict(evaluation / FILE).threshold
    write_view(page, scan, predicted_mask(network, scan, held_out.image_size, threshold), len(held_out.test))


def worst_case(evaluation: Path) -> str:
    """The id of the case with the lowest Dice among those with lesion enough, or where none has, among all."""
    with (evaluation / TABLE).open(newline="") as file:
        rows = list(csv.DictReader(file))  # worst first
    if not rows:
        raise InputError(f"{evaluation / TABLE}: no test case to show; leave view_3d off")
    return next((row for row in rows if float(row["lesion_ml"]) >= TRIVIAL_ML), rows[0])["case_id"]


def write_view(page: Path, scan: LabeledScan, prediction: NDArray[np.bool_], test_cases: int) -> None:
    """Write a case's page; `prediction` is (n, rows, columns) on the scan's own voxels, of `test_cases` cases."""
    gray = averaged(scan.slices_hu, apply_window)
    cell_mm = tuple(mm * n / m for mm, n, m in zip(scan.spacing_mm, scan.truth.shape, gray.shape, strict=True))
    niivue, counted = NIIVUE.read_bytes(), confusion(scan.truth, prediction)
    write_page(
        page,
        _TEMPLATE,
        window_hu=WINDOW_HU,
        scan=scan,
        dice=counted.dice,
        predicted_ml=counted.predicted * scan.voxel_ml,
        lesion_ml=counted.truth * scan.voxel_ml,
        test_cases=test_cases,
        trivial_ml=TRIVIAL_ML,
        cells=gray.shape,
        cell_mm=cell_mm,
        at=lesion_at(scan.truth, prediction),
        sky=SKY,
        orange=ORANGE,
        packed={
            "niivue": _text(niivue),
            "scan": _text(as_nifti(gray, cell_mm)),
            "truth": _text(as_nifti(averaged(scan.truth), cell_mm)),
            "prediction": _text(as_nifti(averaged(prediction), cell_mm)),
        },
        script=Markup(_SCRIPT),
        digests=[script_digest(text) for text in (_SCRIPT, gzip.decompress(niivue).decode())],
        license=_LICENSE.read_text(),
    )


def averaged(slices: NDArray, share: Callable[[NDArray], NDArray] = lambda pixels: pixels) -> NDArray[np.uint8]:
    """Average (n, rows, columns) voxels to at most `EDGE` cells along each axis.

    Args:
        slices: the voxels.
        share: gives a slice's values from 0 to 1.

    Returns:
        The cells' mean values, 0 to `FULL`, so that the sum over a mask is its volume.
    """
    cells = [min(edge, EDGE) for edge in slices.shape]
    # Sparse, since a cell depends on a few voxels of each axis: dense products take many times as long.
    along, down, across = (sparse_resampling_matrix(*edges) for edges in zip(slices.shape, cells, strict=True))
    # Slice by slice: no volume of real numbers of the scan's own size is ever held.
    planes = np.stack([(across @ (down @ share(pixels.astype(np.float32))).T).T for pixels in slices])
    averages = (along @ planes.reshape(len(planes), -1)).reshape(cells)
    return np.rint(averages * FULL).astype(np.uint8)


def as_nifti(cells: NDArray[np.uint8], cell_mm: tuple[float, ...]) -> bytes:
    """A `.nii.gz` file of (z, rows, columns) axial cells of this size in RAS+ millimeters, 0 in the middle."""
    voxels = volume_from_axial_slices(cells)
    spacing_mm = np.array(cell_mm[::-1])
    affine = nib.affines.from_matvec(np.diag(spacing_mm), -spacing_mm * (np.array(voxels.shape) - 1) / 2)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)


def lesion_at(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> tuple[float, float, float]:
    """A place with lesion in the slice that the report shows, where there is any.

    Returns:
        Shares of the extent to the patient's right, to the front and upwards.
    """
    at = largest_slice(truth, prediction)
    mask = next((part for part in (truth[at], prediction[at]) if part.any()), np.ones_like(truth[at]))
    places = np.argwhere(mask)
    row, column = places[len(places) // 2]
    n, rows, columns = truth.shape
    # Rows run from anterior to posterior and columns from right to left; RAS runs the other way along both.
    return 1 - float(column + 0.5) / columns, 1 - float(row + 0.5) / rows, (at + 0.5) / n


def _text(content: bytes) -> str:
    return b64encode(content).decode()
