"""The 3-D view: geometry, file size, and what a real browser without network renders."""

import csv
import gzip
import io
from hashlib import sha256

import nibabel as nib
import numpy as np
import pytest
from kfp import dsl
from PIL import Image

from components.ct.cases import Case
from components.ct.intensity import apply_window
from components.evaluate.labeled_scan import LabeledScan
from components.report.page import ORANGE, SKY
from components.runtime.errors import InputError
from components.view_3d.component import view_3d
from components.view_3d.view import (
    FULL_CELL,
    MAX_EDGE,
    NIIVUE,
    average,
    lesion_position,
    to_nifti,
    worst_case,
    write_view,
)
from tests.report.browser import DESKTOP, PHONE, chromium, render_page

SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
DRAWN = """drawn.then(() => new Promise(done => setTimeout(done, 1000))).then(() =>
    [!!document.createElement("canvas").getContext("webgl2"), document.getElementById("status").textContent,
     Math.round(document.querySelector("canvas").getBoundingClientRect().top)])"""
WITHOUT_MASKS = f"""drawn.then(() => document.querySelectorAll("input").forEach(slider => {{
    slider.value = 0; slider.dispatchEvent(new Event("input")); }})).then(() => {DRAWN})"""


def labeled_scan(slices_hu, truth, spacing_mm=(2.0, 1.0, 1.0)) -> LabeledScan:
    case = Case("case_7", "patient", "site", "scan", "mask", "hu", "a" * 64, "b" * 64)
    return LabeledScan(case, slices_hu.astype(np.int16), truth, spacing_mm)


def synthetic_chest() -> tuple[LabeledScan, np.ndarray]:
    """Return soft tissue around air with a block of lesion, and a prediction next to the lesion."""
    slices_hu = np.full((40, 90, 120), -1000)
    slices_hu[:, 10:80, 10:110] = 40
    slices_hu[:, 25:70, 20:100] = -800
    truth, prediction = np.zeros((2, *slices_hu.shape), bool)
    truth[10:30, 30:55, 30:55] = True
    prediction[15:35, 35:60, 60:90] = True
    return labeled_scan(slices_hu, truth), prediction


def load_nifti(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


@pytest.mark.parametrize("shape", [(37, 250, 333), (300, 64, 141), (5, 9, 140)])
def test_averaging_keeps_the_volume_of_a_mask_and_the_extent_of_a_scan(shape):
    mask = np.random.default_rng(0).random(shape) < 0.02
    mask[2:4, 3:7, 20:60] = True
    spacing_mm = (2.5, 0.7, 0.8)
    cells = average(mask)
    assert max(cells.shape) <= MAX_EDGE
    cell_mm = tuple(mm * n / m for mm, n, m in zip(spacing_mm, shape, cells.shape, strict=True))
    image = load_nifti(to_nifti(cells, cell_mm))
    shown_ml = image.get_fdata().sum() / FULL_CELL * np.prod(image.header.get_zooms()) / 1000
    assert shown_ml == pytest.approx(mask.sum() * np.prod(spacing_mm) / 1000, rel=0.02)
    extent_mm = np.multiply(image.shape, image.header.get_zooms())
    np.testing.assert_allclose(extent_mm[::-1], np.multiply(shape, spacing_mm), rtol=1e-5)


@pytest.mark.parametrize("directions", ["LAS", "RAS", "LPS", "PSR"])
@pytest.mark.parametrize("side", [(-1, 1, 1), (1, -1, -1)])  # left, anterior and superior; right, posterior, inferior
def test_a_lesion_keeps_its_position_in_the_patient(tmp_path, write_case, directions, side):
    # In RAS, 160 × 100 × 30 voxels of 1 × 1 × 3 mm; a block of 20 × 10 × 6 in the corner of that side.
    shape, block, voxel_mm = np.array([160, 100, 30]), np.array([20, 10, 6]), np.array([1.0, 1.0, 3.0])
    mask = np.zeros(shape, np.uint8)
    mask[tuple(slice(-n, None) if s > 0 else slice(n) for s, n in zip(side, block, strict=True))] = 1
    ras = np.diag([*voxel_mm, 1])
    to_file = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nib.orientations.axcodes2ornt(directions))
    affine = ras @ nib.orientations.inv_ornt_aff(to_file, shape)
    scan = LabeledScan.read(tmp_path, write_case(tmp_path, "case", 900.0 * mask - 800, mask, affine=affine))
    cells = average(scan.truth)
    shapes = zip(scan.spacing_mm, scan.truth.shape, cells.shape, strict=True)
    image = load_nifti(to_nifti(cells, tuple(mm * n / m for mm, n, m in shapes)))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    cells = image.get_fdata()
    center = np.array([(cells * index).sum() for index in np.indices(cells.shape)]) / cells.sum()
    from_center_mm = nib.affines.apply_affine(image.affine, center)
    np.testing.assert_allclose(from_center_mm, side * (shape - block) / 2 * voxel_mm, atol=0.05)
    assert np.all(np.sign(np.array(lesion_position(scan.truth, scan.truth)) - 0.5) == side)


def test_gray_values_follow_the_lung_window():
    slices_hu = np.array([[[-3000, -1250, -500, 250, 3000]]], np.int16)
    np.testing.assert_array_equal(average(slices_hu, apply_window).ravel(), [0, 0, 128, 255, 255])


def test_a_page_of_noise_stays_under_5_mb(tmp_path):
    draw = np.random.default_rng(0)
    noise = draw.integers(-1250, 250, (MAX_EDGE, MAX_EDGE, MAX_EDGE))
    truth, _ = np.zeros((2, *noise.shape), bool)
    truth[40:80, 40:80, 40:80] = draw.random((40, 40, 40)) < 0.5
    write_view(tmp_path / "page.html", labeled_scan(noise, truth), truth, 3)
    assert (tmp_path / "page.html").stat().st_size < 5_000_000


def test_the_worst_nontrivial_case_is_shown(tmp_path):
    def write_table(*rows: tuple[str, float, float]) -> None:
        with (tmp_path / "cases.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("case_id", "dice", "lesion_ml"), *rows])

    write_table(("healthy", 0.0, 0.0), ("tiny", 0.1, 0.49), ("bad", 0.4, 0.5), ("good", 0.9, 80.0))
    assert worst_case(tmp_path) == "bad"
    write_table(("healthy", 0.0, 0.0), ("tiny", 0.1, 0.49))
    assert worst_case(tmp_path) == "healthy"
    write_table()
    with pytest.raises(InputError, match=r"cases\.csv: no test case.*view_3d"):
        worst_case(tmp_path)


def test_the_step_shows_a_test_case(cohort, tmp_path):
    from tests.evaluate.test_evaluation import evaluate

    evaluate(cohort)
    folders = {"cases": cohort.cases, "shards": cohort.shards, "model": cohort.model, "evaluation": None}
    inputs = {name: dsl.Artifact(uri=str(path or tmp_path / "evaluation")) for name, path in folders.items()}
    view_3d.python_func(**inputs, report=dsl.HTML(uri=str(tmp_path / "view")))
    page = (tmp_path / "view").read_text()
    assert page.startswith("<!doctype html>")
    assert "Worst test case in 3-D: test_1, Dice 1.000" in page
    assert "Lesion 44.6 mL, predicted 44.6 mL" in page


def test_niivue_is_the_published_file_with_its_license():
    unpacked = gzip.decompress(NIIVUE.read_bytes())
    assert sha256(unpacked).hexdigest() == "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
    assert "BSD 2-Clause License" in (NIIVUE.parent / "LICENSE").read_text()


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_a_browser_renders_the_page_in_a_sandboxed_frame_without_requests(tmp_path, size):
    write_view(tmp_path / "page.html", *synthetic_chest(), 3)
    page = (tmp_path / "page.html").read_text()
    with chromium(*SOFTWARE_WEBGL) as browser:
        rendering = render_page(browser, page, size, DRAWN)
        hidden = render_page(browser, page, size, WITHOUT_MASKS)
    webgl2, status, top = rendering.result
    if not webgl2:
        pytest.skip("this Chromium has no WebGL2, not even in software")
    assert status == ""
    # The software renderer warns about its own speed.
    assert [problem for problem in rendering.problems if "GL Driver Message" not in problem] == []
    assert rendering.requests == []
    assert rendering.overflow_px == 0
    assert "Worst test case in 3-D: case_7, Dice 0.000" in rendering.text
    for color in (SKY, ORANGE):
        assert _count_tinted(_canvas(rendering.screenshot, top), color) > 500
        assert _count_tinted(_canvas(hidden.screenshot, top), color) == 0
    # With both masks hidden, the scan remains visible.
    assert len(np.unique(_canvas(hidden.screenshot, top))) > 50


def test_without_webgl2_the_page_shows_a_message_without_requests(tmp_path):
    write_view(tmp_path / "page.html", *synthetic_chest(), 3)
    with chromium("--disable-3d-apis") as browser:
        rendering = render_page(browser, (tmp_path / "page.html").read_text(), DESKTOP, DRAWN)
    assert rendering.result[0] is False
    assert "The 3-D view needs WebGL2" in rendering.text
    assert rendering.problems == []
    assert rendering.requests == []


def _canvas(picture: bytes, top: int) -> np.ndarray:
    """Crop the top of the canvas, (300, width, 3), between the blue sliders and the gray text."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.int16)[top : top + 300]


def _count_tinted(pixels: np.ndarray, color: str) -> int:
    """Count pixels far bluer than red for sky, or far redder than blue for orange."""
    bluer = pixels[..., 2] - pixels[..., 0]
    return int(np.count_nonzero((bluer if color == SKY else -bluer) > 60))
