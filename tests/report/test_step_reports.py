"""The reports of validate and train in a real browser; that of evaluate is looked at in `tests.evaluate`."""

from pathlib import Path

import pytest

from components.report.plots import training_curves
from components.train.recipe import select_recipe
from components.train.record import Training
from components.train.report import write_report
from components.validate.validate import Outputs, validate
from tests.report.browser import DESKTOP, PHONE, RenderedPage, chromium, render_page

PICTURES = """Promise.all([...document.querySelectorAll("img")].map(image => image.decode()))
    .then(() => document.querySelectorAll("img").length)"""


def shown_everywhere(page: str, folder: Path) -> list[RenderedPage]:
    """Look at a page on a phone and on a desk; it must be whole, as wide as the window, and ask for nothing."""
    with chromium() as browser:
        shown = [render_page(browser, page, size, PICTURES) for size in (PHONE, DESKTOP)]
    for one in shown:
        assert (one.problems, one.requests, one.overflow_px) == ([], [], 0)
    assert len(page.encode()) < 5_000_000
    return shown


def test_the_report_of_a_training_tells_the_epoch_that_was_kept_and_its_recipe(tmp_path):
    history = {
        "loss": [0.9, 0.5, 0.4],
        "val_loss": [1.0, 0.6, 0.7],
        "dice": [0.1, 0.5, 0.6],
        "val_dice": [0.1, 0.4, 0.3],
    }
    run = Training(select_recipe("default"), 128, 7, "mixed_bfloat16", 1_945_233, 3520, 1351, history, 2, 0.4, 61.4)
    write_report(tmp_path / "report.html", run, "default")
    for shown in shown_everywhere((tmp_path / "report.html").read_text(), tmp_path):
        assert shown.text.startswith("Training: validation Dice 0.400, epoch 2 of 3")
        assert shown.result == 2
        for said in ("3,520", "1,351 with lesion", "1,945,233", "61 s", "augmentation.rotation_deg", "seed 7"):
            assert said in shown.text


def test_the_report_of_a_validation_names_every_case(small_cohort, tmp_path):
    validate(small_cohort, Outputs(*(tmp_path / name for name in ("accepted", "facts", "profile", "docs", "report"))))
    for shown in shown_everywhere((tmp_path / "report").read_text(), tmp_path):
        assert "of 6 cases may be trained on" in shown.text
        assert shown.result >= 6
        assert all(f"case_{index}" in shown.text for index in range(6))


def test_curves_are_drawn_of_what_there_is_and_the_same_numbers_give_the_same_bytes():
    assert training_curves({}) == []
    assert training_curves({"loss": [float("nan")], "dice": []}) == []
    history = {"loss": [0.5, None, 0.4], "val_dice": [0.2]}
    first = training_curves(history, kept_epoch=1)
    assert len(first) == 2
    assert training_curves(history, kept_epoch=1) == first


@pytest.mark.parametrize("kept", [0, 2])
def test_the_epoch_that_was_kept_is_marked_where_it_is_known(kept):
    marked, plain = training_curves({"loss": [0.5, 0.4]}, kept)[0], training_curves({"loss": [0.5, 0.4]})[0]
    assert (marked != plain) == bool(kept)
