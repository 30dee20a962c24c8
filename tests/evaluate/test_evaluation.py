"""The evaluate step on a tiny cohort: scores on the scans' own voxels, files on disk, and errors."""

import csv
import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from components.ct.cases import read_cases, write_cases
from components.ct.inference import keras_network
from components.evaluate.evaluate import Inputs, Outputs, evaluate_model
from components.evaluate.evaluation import Evaluation
from components.evaluate.labeled_scan import SplitCases
from components.evaluate.limits import GateLimits
from components.evaluate.scores import count_levels, score_case
from components.evaluate.verdict import require_pass
from components.runtime.errors import CohortError, InputError, VolumeError
from components.runtime.files import sha256_of
from components.slice.split import Split
from tests.evaluate.tiny_cohort import Cohort, step_network, write_case

DEFAULTS = GateLimits()


def evaluate(cohort: Cohort, limits: GateLimits = DEFAULTS, champion: str | None = None) -> Evaluation:
    folder = cohort.cases.parent
    return evaluate_model(
        Inputs(cohort.cases, cohort.shards, cohort.model, champion),
        Outputs(folder / "evaluation", folder / "report.html", folder / "model_card.md"),
        limits,
    )


def test_a_network_that_predicts_the_lesion_passes_and_may_be_exported(cohort):
    evaluation = evaluate(cohort)
    assert evaluation.verdict.verdict == "pass"
    assert evaluation.verdict.test_dice > 0.9
    path = cohort.cases.parent / "evaluation" / "verdict.json"
    model_sha256 = sha256_of(cohort.model / "model.keras")
    verdict = require_pass(path, model_sha256=model_sha256, verdict_sha256=evaluation.verdict.sha256)
    assert verdict == evaluation.verdict


def test_a_network_that_predicts_no_lesion_fails_despite_high_accuracy(cohort):
    step_network(at_hu=5000).save(cohort.model / "model.keras")
    evaluation = evaluate(cohort)
    assert evaluation.verdict.verdict == "fail"
    assert evaluation.verdict.test_dice == 0.0  # the healthy case, which scores 1, does not count
    assert min(row.accuracy for row in evaluation.scores) > 0.85
    assert all(row.dice == row.all_background_dice for row in evaluation.scores)


def test_cases_are_scored_on_the_scans_own_voxels(cohort):
    scores = {row.case_id: row for row in evaluate(cohort).scores}
    # 12 × 12 × 31 voxels of 10 mm³, as large as the network's grid: exact.
    assert scores["test_1"].lesion_ml == pytest.approx(44.64)
    assert scores["test_1"].dice == 1.0
    assert scores["test_1"].slices == 35
    # 12 × 12 × 3 voxels, downsampled by two with edges on cell borders: exact too.
    assert scores["test_2"].lesion_ml == pytest.approx(4.32)
    assert scores["test_2"].dice == 1.0
    assert scores["test_healthy"].dice == 1.0
    assert scores["test_healthy"].lesion_ml == 0.0


def test_the_level_counts_agree_with_the_scored_mask(cohort):
    network = keras_network(step_network(at_hu=50))
    for case in read_cases(cohort.cases):
        result = score_case(network, cohort.cases, case, size=32, threshold=0.25)
        assert result.counts.confusion(0.25).dice == result.score.dice
        counts = count_levels(network, cohort.cases, case, 32)
        np.testing.assert_array_equal(counts.lesion, result.counts.lesion)
        np.testing.assert_array_equal(counts.background, result.counts.background)


def test_the_table_has_one_row_per_test_case_worst_first(cohort):
    evaluation = evaluate(cohort)
    with (cohort.cases.parent / "evaluation" / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["case_id"] for row in rows) == ["test_1", "test_2", "test_healthy"]
    assert [float(row["dice"]) for row in rows] == sorted(row.dice for row in evaluation.scores)


def test_metrics_are_finite_with_and_without_test_cases(cohort):
    metrics = evaluate(cohort).summary()
    assert {"test_dice", "validation_dice", "threshold", "test_dice_worst"} <= set(metrics)
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    Split({"train": ["train_1"], "validation": ["validation_1"], "test": []}, 32, 0).write(cohort.shards)
    evaluation = evaluate(cohort)
    assert evaluation.verdict.verdict == "fail"
    assert all(math.isfinite(value) for value in evaluation.summary().values())
    assert "no test case of 0 has lesion" in (cohort.cases.parent / "report.html").read_text()


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (["test_healthy"], "no test case of 1 has lesion"),
        (["test_1", "test_healthy"], "mean Dice over 1 test case with lesion is 0.0000"),
    ],
)
def test_a_network_that_predicts_nothing_is_refused_whatever_share_of_test_cases_is_empty(cohort, test, reason):
    step_network(at_hu=5000).save(cohort.model / "model.keras")
    Split({"train": ["train_1"], "validation": ["validation_1"], "test": test}, 32, 0).write(cohort.shards)
    evaluation = evaluate(cohort)
    assert (evaluation.verdict.verdict, evaluation.verdict.test_dice) == ("fail", 0.0)
    assert reason in evaluation.verdict.sentence
    metrics = evaluation.summary()
    assert (metrics["test_cases"], metrics["test_cases_with_lesion"]) == (len(test), len(test) - 1)
    assert metrics["test_false_positive_ml"] == 0
    assert not {1.0} & {value for name, value in metrics.items() if "dice" in name and "round_trip" not in name}
    report, card = ((cohort.cases.parent / name).read_text() for name in ("report.html", "model_card.md"))
    assert "in 1 test case without lesion" in report
    assert f"{len(test) - 1} of {len(test)} test cases have lesion" in card


def test_the_same_inputs_give_identical_files(cohort):
    evaluate(cohort)
    folder = cohort.cases.parent

    def contents():
        files = [*(folder / "evaluation").rglob("*.*"), folder / "report.html", folder / "model_card.md"]
        return {path.name: path.read_bytes() for path in files}

    first = contents()
    assert {"verdict.json", "cases.csv", "test_1.svg", "model_card.md"} <= set(first)
    evaluate(cohort)
    assert contents() == first


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.alternatives: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag == "script":
            self.scripts += 1
        if tag == "img":
            self.alternatives.append(attributes.get("alt", ""))


def test_the_report_is_self_contained(cohort):
    evaluate(cohort)
    text = (cohort.cases.parent / "report.html").read_text()
    page = _Page(text)
    # Overlays of the two cases with lesion, each repeated without outlines, and seven plots.
    assert sum(link.startswith("data:image/png") for link in page.links) == 2
    assert sum(link.startswith("#scan-") for link in page.links) == 2
    assert sum(link.startswith("data:image/svg") for link in page.links) == 7
    assert len(page.links) == 11
    assert len(page.alternatives) == 7
    assert all(page.alternatives)
    assert len(text) < 5_000_000


def test_the_report_starts_with_the_verdict_and_compares_accuracy_with_all_background(cohort):
    step_network(at_hu=5000).save(cohort.model / "model.keras")
    evaluate(cohort)
    text = " ".join((cohort.cases.parent / "report.html").read_text().split())
    assert text.index("Refused: mean Dice over 2 test cases with lesion is 0.0000") < text.index("<table")
    assert "below the limit of 0.5" in text
    assert "All background" in text
    for case_id in ("test_1", "test_2", "test_healthy"):
        assert f"<td>{case_id}</td>" in text


def test_names_in_the_report_are_escaped(cohort):
    rows = [replace(row, site="<script>alert(1)</script>") for row in read_cases(cohort.cases)]
    write_cases(cohort.cases, rows)
    evaluate(cohort)
    text = (cohort.cases.parent / "report.html").read_text()
    assert _Page(text).scripts == 1  # the page's own sort script
    assert "alert(1)</script>" not in text
    assert "&lt;script&gt;" in text


def test_a_scan_changed_since_ingest_is_named_and_nothing_is_written(cohort):
    path = cohort.cases / "scans" / "test_2.nii.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(VolumeError, match="case test_2"):
        evaluate(cohort)
    assert not (cohort.cases.parent / "evaluation").exists()
    assert not (cohort.cases.parent / "report.html").exists()
    assert not (cohort.cases.parent / "model_card.md").exists()


def test_a_network_that_returns_nan_raises_with_the_case(cohort):
    import keras

    network = keras.Sequential([keras.layers.Input((32, 32)), keras.layers.Rescaling(float("nan"))])
    case = SplitCases.read(cohort.cases, cohort.shards).test[0]
    with pytest.raises(InputError, match=r"case test_1: .*NaN"):
        score_case(keras_network(network), cohort.cases, case, size=32, threshold=0.5)


def test_a_mask_of_another_shape_is_refused_with_the_case(cohort):
    rows = read_cases(cohort.cases)
    other = write_case(cohort.cases, "other", (8, 8, 2), None)
    odd = replace(rows[0], mask=other.mask, sha256_mask=other.sha256_mask)
    with pytest.raises(VolumeError, match=rf"case {odd.case_id}: .* mask \(8, 8, 2\)"):
        count_levels(keras_network(step_network(0)), cohort.cases, odd, 32)


def test_a_split_of_another_cohort_is_refused(cohort):
    Split({"train": [], "validation": ["validation_1"], "test": ["stranger"]}, 32, 0).write(cohort.shards)
    with pytest.raises(CohortError, match="stranger"):
        evaluate(cohort)


def test_a_patient_in_train_and_test_is_refused(cohort):
    rows = read_cases(cohort.cases)
    patients = {"train_1": "same", "test_1": "same"}
    write_cases(cohort.cases, [replace(row, patient_id=patients.get(row.case_id, row.patient_id)) for row in rows])
    with pytest.raises(CohortError, match="same in test and train"):
        evaluate(cohort)


@pytest.mark.parametrize("text", [None, "{", "{}", "[" * 100_000])
def test_a_model_without_training_history_is_refused(cohort, text):
    path = cohort.model / "training.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"training\.json"):
        evaluate(cohort)


def test_a_history_with_missing_values_is_plotted(cohort):
    (cohort.model / "training.json").write_text(json.dumps({"history": {"loss": [0.5, None], "lr": [1, 1]}}))
    assert evaluate(cohort).verdict.passed


def test_any_nonzero_mask_value_is_lesion(cohort):
    import nibabel as nib

    path = cohort.cases / "masks" / "test_1.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 255, image.affine), path)
    rows = [
        replace(row, sha256_mask=sha256_of(path)) if row.case_id == "test_1" else row
        for row in read_cases(cohort.cases)
    ]
    write_cases(cohort.cases, rows)
    assert {row.case_id: row.dice for row in evaluate(cohort).scores}["test_1"] == 1.0
