"""The report, rendered in a browser, and the model card of a synthetic evaluation."""

from itertools import pairwise

import numpy as np
import pytest

from components.ct.cases import Case
from components.evaluate.cohort import Comparison, Interval, group_scores
from components.evaluate.evaluation import Evaluation
from components.evaluate.labeled_scan import SplitCases
from components.evaluate.levels import LevelCounts, choose_threshold
from components.evaluate.limits import GateLimits
from components.evaluate.model_card import write_model_card
from components.evaluate.report import write_report
from components.evaluate.verdict import judge
from components.report.slice_image import overlay_svg
from tests.evaluate.synthetic_scores import case_score
from tests.report.browser import DESKTOP, PHONE, chromium, render_page

DIGEST = "a" * 64
WORST_FIRST = ["case_0", "case_1", "case_2", "case_3", "healthy"]


def synthetic_evaluation(**limits: float) -> Evaluation:
    scores = [
        case_score(
            0.3 + 0.15 * index,
            f"case_{index}",
            site="ab"[index % 2],
            lesion_ml=3.0**index,
            predicted_ml=3.0**index * 1.1,
            volume_error_ml=3.0**index * 0.1,
            champion_dice=0.4,
        )
        for index in range(4)
    ]
    scores.append(
        case_score(
            1.0, "healthy", site="b", lesion_ml=0.0, predicted_ml=0.0, lesions=0, lesions_found=0, champion_dice=1.0
        )
    )
    draw, counts = np.random.default_rng(0), LevelCounts()
    truth = draw.random((2, 64, 64)) < 0.2
    counts.add(np.clip(0.5 * truth + 0.5 * draw.random(truth.shape), 0, 1).astype(np.float32), truth)
    comparison = Comparison("version 3", None, 2, 0.12, Interval(-0.01, 0.3))
    cases = [Case(row.case_id, row.patient_id, row.site, "s", "m", "hu", "b" * 64, "c" * 64) for row in scores]
    return Evaluation(
        verdict=judge(scores, GateLimits(**limits), comparison, model_sha256=DIGEST, threshold=0.5),
        scores=scores,
        threshold_choice=choose_threshold([counts]),
        counts=counts,
        slice_auc=0.9,
        groups=group_scores(scores, ["case_0"]),
        comparison=comparison,
        split_cases=SplitCases(cases[:2], cases[2:3], cases, 128),
        training={"history": {"loss": [0.9, 0.5], "val_loss": [1.0, 0.7]}, "seed": 7, "precision": "a|b"},
    )


@pytest.fixture
def overlays(tmp_path):
    folder = tmp_path / "overlays"
    folder.mkdir()
    draw = np.random.default_rng(0)
    slice_hu = draw.integers(-1000, 200, (90, 120), dtype=np.int16)
    truth, prediction = np.zeros((2, 90, 120), bool)
    truth[20:50, 30:70], prediction[25:60, 28:66] = True, True
    for name in WORST_FIRST:
        (folder / f"{name}.svg").write_bytes(overlay_svg(name, slice_hu, truth, prediction, (0.7, 0.7)))
    return folder


def test_the_report_fits_a_phone_and_a_desktop_and_requests_nothing(tmp_path, overlays):
    write_report(tmp_path / "report.html", synthetic_evaluation(), overlays)
    page = (tmp_path / "report.html").read_text()
    pictures = """Promise.all([...document.querySelectorAll("img")].map(image => image.decode())).then(() =>
        [document.querySelectorAll("img").length, document.querySelectorAll("svg image").length,
         [...document.querySelectorAll("svg")].every(svg => svg.getBoundingClientRect().height > 100)])"""
    with chromium() as browser:
        for size in (PHONE, DESKTOP):
            rendering = render_page(browser, page, size, pictures)
            assert rendering.problems == []
            assert rendering.requests == []
            assert rendering.overflow_px == 0
            assert rendering.result == [6, 3, True]
            assert rendering.text.startswith(
                "Passed: mean Dice over 4 test cases with lesion is 0.5250, which meets the limit of 0.5"
            )
            for phrase in (
                "All background",
                "Worst case: case_0",
                "Median case: case_1",
                "Best case: case_3",
                "mean Dice of 4 test cases with lesion",
                "in 1 test case without lesion",
                "without 1 hard case",
                "of the 128×128 grid",
                "change of the mean Dice on the same cases against version 3",
                "version 3 may have been trained on 2 test cases",
            ):
                assert phrase in rendering.text
    assert len(page.encode()) < 5_000_000


def test_the_table_starts_with_the_worst_case_and_sorts_by_its_headings(tmp_path, overlays):
    write_report(tmp_path / "report.html", synthetic_evaluation(), overlays)
    names = '[...document.querySelector("table.sortable").tBodies[0].rows].map(row => row.cells[0].textContent)'
    click = 'document.querySelectorAll("table.sortable")[0].querySelectorAll("th button")[COLUMN].click()'
    with chromium() as browser:
        page = (tmp_path / "report.html").read_text()
        assert render_page(browser, page, DESKTOP, names).result == WORST_FIRST
        by_volume = render_page(browser, page, DESKTOP, f"{click.replace('COLUMN', '8')}; {names}").result
        assert by_volume == ["healthy", "case_0", "case_1", "case_2", "case_3"]


def test_a_refusal_starts_with_the_rule_that_failed(tmp_path, overlays):
    write_report(tmp_path / "report.html", synthetic_evaluation(max_regression=0.0, min_case_dice=0.4), overlays)
    text = (tmp_path / "report.html").read_text()
    sentence = "Refused: Dice of the worst case (case_0) is 0.3000, below the limit of 0.4."
    assert sentence in text
    assert text.index(sentence) < text.index("<table")


def test_the_model_card_has_all_sections_and_valid_tables(tmp_path):
    write_model_card(tmp_path / "card.md", synthetic_evaluation(), "CC BY 4.0 | or so")
    card = (tmp_path / "card.md").read_text()
    for heading in (
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ):
        assert f"\n## {heading}\n" in card
    for phrase in (
        DIGEST,
        "CC BY 4.0 \\| or so",
        "| Training: precision | a\\|b |",
        "| training | 2 | 2 | a, b | hu |",
    ):
        assert phrase in card
    assert "history" not in card
    # Every row of a table has as many cells as its header.
    rows = [line.replace("\\|", "") for line in card.splitlines()]
    for above, line in pairwise(rows):
        if above.startswith("|") and line.startswith("|"):
            assert above.count("|") == line.count("|"), line


def test_the_report_of_many_cases_stays_small(tmp_path, overlays):
    evaluation = synthetic_evaluation()
    many = [case_score(0.3, f"c_{index}", champion_dice=0.3) for index in range(2000)]
    evaluation.scores.extend(many)
    for row in many:
        (overlays / f"{row.case_id}.svg").symlink_to("case_0.svg")
    write_report(tmp_path / "report.html", evaluation, overlays)
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
