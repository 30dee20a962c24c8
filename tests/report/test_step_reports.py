"""The reports of train and validate and the gallery in a real browser; `tests.evaluate` has the evaluation report."""

from pathlib import Path

import pytest

from components.collect_predictions.collect import write_gallery
from components.report.plots import plot_training_curves
from components.train.recipe import select_recipe
from components.train.record import Training, write_report
from components.validate.validate import Outputs, validate
from tests.report.browser import DESKTOP, PHONE, RenderedPage, chromium, render_page

IMAGES = """Promise.all([...document.querySelectorAll("img")].map(image => image.decode()))
    .then(() => document.querySelectorAll("img").length)"""


def render_everywhere(path: Path, script: str = IMAGES) -> list[RenderedPage]:
    """Render a page for a phone and a desktop; check size, width, errors and requests."""
    page = path.read_text()
    with chromium() as browser:
        renderings = [render_page(browser, page, size, script) for size in (PHONE, DESKTOP)]
    for rendering in renderings:
        assert (rendering.problems, rendering.requests, rendering.overflow_px) == ([], [], 0)
    assert len(page.encode()) < 5_000_000
    return renderings


def test_the_training_report_shows_the_kept_epoch_and_the_recipe(tmp_path):
    history = {
        "loss": [0.9, 0.5, 0.4],
        "val_loss": [1.0, 0.6, 0.7],
        "dice": [0.1, 0.5, 0.6],
        "val_dice": [0.1, 0.4, 0.3],
    }
    run = Training(select_recipe("default"), 128, 7, "mixed_bfloat16", 1_945_233, 3520, 1351, history, 2, 0.4, 61.4)
    write_report(tmp_path / "report.html", run, "default")
    for rendering in render_everywhere(tmp_path / "report.html"):
        assert rendering.text.startswith("Training: validation Dice 0.400, epoch 2 of 3")
        assert rendering.result == 2
        for fact in ("3,520", "1,351 with lesion", "1,945,233", "61 s", "augmentation.rotation_deg", "seed 7"):
            assert fact in rendering.text


def test_the_validation_report_names_every_case(small_cohort, tmp_path):
    validate(small_cohort, Outputs.inside(tmp_path))
    for rendering in render_everywhere(tmp_path / "report"):
        assert "of 6 cases" in rendering.text
        assert rendering.result >= 6
        assert all(f"case_{index}" in rendering.text for index in range(6))


def test_the_gallery_has_one_button_per_heading_and_sorts(tmp_path):
    fields = {"slices_affected": "1", "slices": "9", "lesion_percent": "0.1", "model_version": "1", "error": ""}
    rows = [{"case": case, "lesion_ml": ml, **fields} for case, ml in (("a", "10.5"), ("b", "9.5"))]
    write_gallery(tmp_path / "gallery.html", rows, {})
    script = """(() => {
      const counts = [...document.querySelectorAll("th")].map(heading => heading.querySelectorAll("button").length);
      document.querySelectorAll("th button")[1].click();
      return [Math.max(...counts), document.querySelector("tbody td").textContent]; })()"""
    for rendering in render_everywhere(tmp_path / "gallery.html", script):
        assert rendering.result == [1, "b"]


def test_training_curves_skip_missing_values_and_are_reproducible():
    assert plot_training_curves({}) == []
    assert plot_training_curves({"loss": [float("nan")], "dice": []}) == []
    history = {"loss": [0.5, None, 0.4], "val_dice": [0.2]}
    first = plot_training_curves(history, kept_epoch=1)
    assert len(first) == 2
    assert plot_training_curves(history, kept_epoch=1) == first


@pytest.mark.parametrize("kept", [None, 2])
def test_the_kept_epoch_is_marked(kept):
    marked, plain = plot_training_curves({"loss": [0.5, 0.4]}, kept)[0], plot_training_curves({"loss": [0.5, 0.4]})[0]
    assert (marked != plain) == (kept is not None)
