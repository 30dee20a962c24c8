"""Every HTML and Markdown artifact for a cohort of any size, at its worst: noise, long ids, findings in many cases."""

import csv
import json
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from kfp import dsl
from numpy.typing import NDArray

from components.assign_folds.folds import FOLDS_FILE
from components.collect_predictions.collect import collect_parts
from components.ct.cases import Case
from components.evaluate import model_card, report, scores
from components.evaluate.cohort import Comparison, group_scores
from components.evaluate.evaluation import Evaluation
from components.evaluate.labeled_scan import LabeledScan, SplitCases
from components.evaluate.levels import LevelCounts, choose_threshold
from components.evaluate.limits import GateLimits
from components.evaluate.verdict import judge
from components.report.slice_image import overlay_svg, preview_png, thumbnail_png
from components.report_refusal.component import report_refusal
from components.summarize_folds.fold_scores import read_fold_scores, write_fold_scores
from components.train.recipe import select_recipe
from components.train.record import Training
from components.train.record import write_report as write_training_report
from components.validate.facts import CaseFacts, fact_table
from components.validate.outcome import Outcome, join_findings
from components.validate.profile import Drift
from components.validate.report import write_report as write_validation_report
from components.validate.resize_audit import ResizeAudit
from components.validate.suite import check_facts
from components.view_3d.view import write_view
from serving.client.scans import MASK_SUFFIX
from serving.client.summary import SUMMARY_FILE, SummaryRow, write_summary
from tests.evaluate.synthetic_scores import case_score

SITES = 97


def long_id(index: int) -> str:
    """Return an id of 64 characters, such as a pseudonym."""
    return sha256(str(index).encode()).hexdigest()


def _noise(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1250, 250, shape, dtype=np.int16)


def _blob(*shape: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(n // 3, n // 2) for n in shape)] = True
    return mask


def _cases(count: int) -> list[Case]:
    ids = [long_id(index) for index in range(count)]
    return [Case(i, i, _site(n), "scan", "mask", "hu", i, i) for n, i in enumerate(ids)]


def _site(index: int) -> str:
    return f"hospital_{index % SITES}_{'x' * 40}"


def gallery(folder: Path, count: int) -> Path:
    """Collect five parts of the predict step; every tenth scan failed, every third has no lesion."""
    preview = folder / "preview.png"
    preview.write_bytes(preview_png(_noise(512, 512, 3), _blob(512, 512, 3).astype(np.uint8), (0.7, 0.7, 5.0)))
    parts = [folder / f"part_{index}" for index in range(5)]
    for number, part in enumerate(parts):
        part.mkdir()
        rows = []
        for index in range(number, count, len(parts)):
            case = long_id(index)
            if index % 10 == 9:
                rows.append(SummaryRow(case, error=f"{case}.nii.gz: truncated at 1,234,567 bytes; copy the file again"))
                continue
            ml = 0.0 if index % 3 == 0 else index / 7
            rows.append(SummaryRow(case, ml, ml / 100, index, index + 300, "hu", 17))
            (part / f"{case}.png").symlink_to(preview)
            (part / f"{case}{MASK_SUFFIX}").touch()
        write_summary(part / SUMMARY_FILE, rows)
    collect_parts(parts, folder / "results", folder / "gallery.html")
    return folder / "gallery.html"


@cache
def _evaluation(count: int) -> Evaluation:
    draw = np.random.default_rng(0)
    rows = [
        case_score(
            float(draw.random()),
            case.case_id,
            **{name: float(draw.random()) for name in ("round_trip_dice", "surface_dice", "sensitivity", "precision")},
            site=case.site,
            lesion_ml=0.0 if index % 5 == 0 else float(draw.lognormal(3, 2)),
            predicted_ml=float(draw.lognormal(3, 2)),
            volume_error_ml=float(draw.normal(0, 50)),
            hd95_mm=float(draw.random() * 300),
            champion_dice=float(draw.random()),
        )
        for index, case in enumerate(_cases(count))
    ]
    counts = LevelCounts()
    truth = draw.random((2, 64, 64)) < 0.2
    counts.add(draw.random(truth.shape, np.float32), truth)
    comparison = Comparison.from_scores(rows, "version 3", unknown_cases=count)
    limits = GateLimits(min_site_dice=0.99, min_case_dice=0.1)
    cases = _cases(count)
    history = {name: draw.random(300).tolist() for name in ("loss", "val_loss", "dice", "val_dice")}
    return Evaluation(
        verdict=judge(rows, limits, comparison, model_sha256=long_id(0), threshold=0.5),
        scores=rows,
        threshold_choice=choose_threshold([counts]),
        counts=counts,
        slice_auc=0.9,
        groups=group_scores(rows, [cases[0].case_id]),
        comparison=comparison,
        split_cases=SplitCases(cases, cases, cases, 128),
        training={"history": history, "best_epoch": 7, "seed": 7},
    )


def evaluation_report(folder: Path, count: int) -> Path:
    """Write the report of `count` test cases with overlays of noise."""
    evaluation, overlays = _evaluation(count), folder / "overlays"
    overlays.mkdir()
    mask = np.random.default_rng(0).random((640, 640)) < 0.01
    (folder / "overlay.svg").write_bytes(overlay_svg("x", _noise(640, 640), mask, ~mask, (0.7, 0.7)))
    for case in evaluation.scores:
        (overlays / f"{case.case_id}.svg").symlink_to(folder / "overlay.svg")
    report.write_report(folder / "report.html", evaluation, overlays)
    return folder / "report.html"


def card(folder: Path, count: int) -> Path:
    """Write the model card of a model with `count` test cases."""
    model_card.write_model_card(folder / "card.md", _evaluation(count), "CC BY 4.0")
    return folder / "card.md"


def refusal(folder: Path, count: int) -> Path:
    """Report a refusal by the rules of every site."""
    _evaluation(count).verdict.write(folder)
    report_refusal.python_func(dsl.Artifact(uri=str(folder)), dsl.Markdown(uri=str(folder / "refusal.md")))
    return folder / "refusal.md"


def validation_report(folder: Path, count: int) -> Path:
    """Check a cohort with unreadable files, duplicates, differing grids and implausible facts in every case."""
    draw, cases = np.random.default_rng(0), _cases(count)
    numbers = [field.name for field in fields(CaseFacts) if field.type == float | None]
    grid = "512×512×300 LAS affine [-0.703125 0 0 179.648 | 0 0.703125 0 -179.648 | 0 0 1.25 -312.5]"
    rows = []
    for index, case in enumerate(cases):
        facts = CaseFacts(case.case_id, case.patient_id, case.site)
        if index % 10 == 9:
            error = f"case {case.case_id}: scans/{case.case_id}.nii.gz is truncated; expected 157,286,400 bytes"
            rows.append(replace(facts, read_error=error))
            continue
        values: dict[str, float | str] = {name: float(draw.lognormal(4, 4)) for name in numbers}
        values |= {"orientation": "LAS", "stored_dtype": "float64", "intensity": "hu", "stored_range": "-1024 to 3071"}
        values |= {"mask_labels": "0 1 2 3 4 5 6 7 … (200 values)"}
        if index % 4 == 1:
            values |= {"unexpected_labels": "0 1 2 3 4 5 6 7 … (200 values)"}
            values |= {"grid_difference": f"scan {grid}, mask {grid}"}
        rows.append(replace(facts, **values))
    # Every second scan file is that of another case.
    table = fact_table(rows, [replace(case, sha256_scan=long_id(n // 2)) for n, case in enumerate(cases)])
    findings = check_facts(table).findings
    critical = [finding for finding in findings if finding.is_critical]
    invalid_ids = sorted({finding.case_id for finding in critical if finding.case_id})
    audits = [ResizeAudit(case.case_id, 128, 12, 3, 123_456, 2345, 0.1234, 0.2345, 0.45) for case in cases]
    drifts = [Drift(name, "123.4 (12 to 345)", "12 (1 to 34)", "shift", 1.2, 1.0) for name in numbers[:15]]
    refusal = f"validation of {count} cases failed: {join_findings(critical)}"
    outcome = Outcome([], invalid_ids, findings, refusal, drifts, audits)
    picture = thumbnail_png(_noise(512, 512), _blob(512, 512), (0.7, 0.7))
    pictures = {case.case_id: picture for case in cases}
    write_validation_report(folder / "validation.html", table, outcome, 128, pictures)
    return folder / "validation.html"


def training_report(folder: Path, count: int) -> Path:
    """Write the report of a training of `count` epochs; its length is independent of the cohort's size."""
    draw = np.random.default_rng(0)
    history = {name: draw.random(count).tolist() for name in ("loss", "val_loss", "dice", "val_dice")}
    run = Training(select_recipe("default"), 128, 7, "float32", 1_945_233, 350_000, 130_000, history, 2, 0.4, 61.4)
    write_training_report(folder / "training.html", run, "default")
    return folder / "training.html"


def fold_report(folder: Path, count: int) -> Path:
    """Summarize five folds of `count` cases."""
    evaluations = [folder / f"fold_{number}" for number in range(5)]
    folds = [[long_id(index) for index in range(number, count, 5)] for number in range(5)]
    (folder / FOLDS_FILE).write_text(json.dumps(folds))
    for evaluation, ids in zip(evaluations, folds, strict=True):
        evaluation.mkdir()
        with (evaluation / scores.SCORES_FILE).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["case_id", "patient_id", "lesion_ml", "predicted_ml", "dice"])
            table.writerows([case, case, 12.345, 12.345, 1 / (1 + index)] for index, case in enumerate(ids))
    write_fold_scores(read_fold_scores(folder, evaluations), folder / "table", folder / "folds.html")
    return folder / "folds.html"


def view(folder: Path, count: int) -> Path:
    """Write the 3-D view of a scan that is noise, of `count` test cases."""
    scan, mask = _noise(150, 150, 150), np.random.default_rng(1).random((150, 150, 150)) < 0.5
    case = replace(_cases(1)[0], case_id=long_id(0))
    write_view(folder / "view.html", LabeledScan(case, scan, mask, (1.0, 1.0, 1.0)), ~mask, count)
    return folder / "view.html"


# By component and output.
PAGES: dict[tuple[str, str], Callable[[Path, int], Path]] = {
    ("collect_predictions", "gallery"): gallery,
    ("evaluate", "report"): evaluation_report,
    ("evaluate", "model_card"): card,
    ("report_refusal", "refusal"): refusal,
    ("summarize_folds", "report"): fold_report,
    ("train", "report"): training_report,
    ("validate", "report"): validation_report,
    ("view_3d", "report"): view,
}
