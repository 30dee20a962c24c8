"""The evaluation report: one HTML page with the verdict and its rules first, then the evidence."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from components.evaluate.evaluation import Evaluation
from components.evaluate.levels import THRESHOLDS, Reliability, Roc, ThresholdChoice
from components.evaluate.scores import CaseScore, worst_first
from components.report.page import BLUE, GREEN, INK, VERMILION, write_page
from components.report.plots import create_plot, plot_training_curves, render_svg

_TEMPLATE = Path(__file__).parent / "report.html.jinja"
_VIEW_BOX = re.compile(rb'viewBox="([^"]*)"')


class Overlay(NamedTuple):
    """The overlay of one test case, and its view box, to show the slice again without outlines."""

    title: str
    score: CaseScore
    svg: bytes
    view_box: str


def write_report(path: Path, evaluation: Evaluation, overlays: Path) -> None:
    """Write the report as an HTML file; `overlays` is the folder of the overlays, `<case id>.svg`."""
    scores, counts, training = worst_first(evaluation.scores), evaluation.counts, evaluation.training
    roc = counts.roc()
    write_page(
        path,
        _TEMPLATE,
        evaluation=evaluation,
        verdict=evaluation.verdict,
        choice=evaluation.threshold_choice,
        scores=scores,
        metrics=evaluation.summary(),
        pictures=_worst_median_best(worst_first(evaluation.with_lesion) or scores, overlays),
        threshold_plot=plot_threshold(evaluation.threshold_choice),
        volume_plot=plot_dice_by_volume(scores) if scores else None,
        bland_altman_plot=plot_bland_altman(scores) if scores else None,
        reliability_plot=plot_reliability(counts.reliability()) if scores else None,
        roc_plot=plot_roc(roc) if roc else None,
        training_plots=plot_training_curves(training["history"], training.get("best_epoch")),
        confusion=counts.confusion(evaluation.threshold_choice.threshold),
    )


def _worst_median_best(scores: Sequence[CaseScore], overlays: Path) -> list[Overlay]:
    """Read up to three overlays of a table sorted worst first."""
    if len(scores) < 3:
        rows = list(zip(("Worst case", "Best case") if len(scores) == 2 else ("Only case",), scores, strict=False))
    else:
        rows = [("Worst case", scores[0]), ("Median case", scores[(len(scores) - 1) // 2]), ("Best case", scores[-1])]
    svgs = [(overlays / f"{score.case_id}.svg").read_bytes() for _, score in rows]
    return [Overlay(*row, svg, _VIEW_BOX.findall(svg)[0].decode()) for row, svg in zip(rows, svgs, strict=True)]


def plot_threshold(choice: ThresholdChoice) -> bytes:
    """Plot the mean Dice of the validation cases by threshold, as SVG."""
    figure, axes = create_plot()
    axes.plot(THRESHOLDS, choice.curve, color=BLUE, label="validation cases")
    axes.plot(choice.threshold, choice.validation_dice, "o", color=VERMILION, label=f"chosen: {choice.threshold:.3f}")
    axes.set_ylim(0, 1)
    return render_svg(figure, axes, "threshold", "mean Dice")


def plot_roc(roc: Roc) -> bytes:
    """Plot the ROC curve, as SVG."""
    figure, axes = create_plot()
    axes.plot(roc.false_positive_rate, roc.true_positive_rate, color=BLUE, label=f"AUC {roc.auc:.3f}")
    axes.plot([0, 1], [0, 1], color=INK, linestyle="dotted", linewidth=1, label="chance")
    return render_svg(figure, axes, "false positive rate", "true positive rate")


def plot_reliability(reliability: Reliability) -> bytes:
    """Plot the observed lesion fraction by predicted probability, as SVG."""
    figure, axes = create_plot()
    label = f"this model, ECE {reliability.expected_calibration_error:.4f}"
    axes.plot(reliability.mean_probability, reliability.lesion_fraction, "o-", color=BLUE, label=label)
    axes.plot([0, 1], [0, 1], color=INK, linestyle="dotted", linewidth=1, label="perfect calibration")
    return render_svg(figure, axes, "mean predicted probability", "fraction of lesion voxels")


def plot_dice_by_volume(scores: Sequence[CaseScore]) -> bytes:
    """Plot each case's Dice and round-trip Dice by lesion volume, as SVG."""
    figure, axes = create_plot()
    volumes, round_trip = [row.lesion_ml for row in scores], [row.round_trip_dice for row in scores]
    axes.plot(volumes, round_trip, "_", color=GREEN, markersize=9, label="grid round trip")
    axes.plot(volumes, [row.dice for row in scores], "o", color=BLUE, alpha=0.8, label="model")
    smallest = min((volume for volume in volumes if volume > 0), default=1.0)
    if min(volumes) > 0:
        axes.set_xscale("log")
    else:  # a logarithmic axis cannot show a scan without lesion
        axes.set_xscale("symlog", linthresh=smallest)
        axes.set_xlim(left=-0.1 * smallest)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda volume, _: f"{volume:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.03, 1.03)
    return render_svg(figure, axes, "lesion volume (mL, log scale)", "Dice")


def plot_bland_altman(scores: Sequence[CaseScore]) -> bytes:
    """Plot each volume error by the mean of both volumes (Bland and Altman, 1986), as SVG."""
    figure, axes = create_plot()
    errors = np.array([row.volume_error_ml for row in scores])
    axes.plot([(row.lesion_ml + row.predicted_ml) / 2 for row in scores], errors, "o", color=BLUE, alpha=0.8)
    axes.axhline(errors.mean(), color=VERMILION, label=f"mean error {errors.mean():+.2f} mL")
    if len(errors) > 1:
        spread = 1.96 * errors.std(ddof=1)
        for limit, label in ((errors.mean() - spread, "95 % limits of agreement"), (errors.mean() + spread, None)):
            axes.axhline(limit, color=VERMILION, linestyle="dashed", label=label)
    return render_svg(figure, axes, "mean of predicted and true volume (mL)", "predicted − true volume (mL)")
