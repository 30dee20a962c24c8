"""The plots of an evaluation, each as the bytes of an SVG file."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from components.evaluate.levels import THRESHOLDS, Reliability, Roc
from components.evaluate.scores import CaseScore
from components.evaluate.threshold import ThresholdChoice
from components.report.page import BLUE, GREEN, INK, VERMILION
from components.report.plots import create_plot, render_svg


def threshold_curve(choice: ThresholdChoice) -> bytes:
    """Draw the validation cases' mean Dice against the threshold, the chosen one marked."""
    figure, axes = create_plot()
    axes.plot(THRESHOLDS, choice.curve, color=BLUE, label="mean Dice, validation cases")
    axes.plot(choice.threshold, choice.validation_dice, "o", color=VERMILION, label=f"chosen: {choice.threshold:.3f}")
    axes.set_ylim(0, 1)
    return render_svg(figure, axes, "threshold on the lesion probability", "mean Dice")


def roc_curve(roc: Roc) -> bytes:
    """Draw the share of lesion voxels found against the share of background marked."""
    figure, axes = create_plot()
    axes.plot(roc.false_positive_rate, roc.true_positive_rate, color=BLUE, label=f"area {roc.auc:.3f}")
    axes.plot([0, 1], [0, 1], color=INK, linestyle="dotted", linewidth=1, label="chance")
    return render_svg(figure, axes, "share of background voxels marked", "share of lesion voxels marked")


def reliability_curve(reliability: Reliability) -> bytes:
    """Draw how often voxels were lesion against the probability they were given."""
    figure, axes = create_plot()
    axes.plot(
        reliability.probability,
        reliability.lesion_share,
        "o-",
        color=BLUE,
        label=f"this model, ECE {reliability.expected_calibration_error:.4f}",
    )
    axes.plot([0, 1], [0, 1], color=INK, linestyle="dotted", linewidth=1, label="taken at its word")
    return render_svg(figure, axes, "probability given", "share that is lesion")


def dice_by_volume(scores: Sequence[CaseScore]) -> bytes:
    """Draw each case's Dice, and the ceiling that its grid sets, against its lesion volume."""
    figure, axes = create_plot()
    volumes = [row.lesion_ml for row in scores]
    axes.plot(
        volumes, [row.round_trip_dice for row in scores], "_", color=GREEN, markersize=9, label="ceiling of the grid"
    )
    axes.plot(volumes, [row.dice for row in scores], "o", color=BLUE, alpha=0.8, label="reached")
    smallest = min((volume for volume in volumes if volume > 0), default=1.0)
    if min(volumes) > 0:
        axes.set_xscale("log")
    else:  # a scan without lesion has its place too
        axes.set_xscale("symlog", linthresh=smallest)
        axes.set_xlim(left=-0.1 * smallest)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda volume, _: f"{volume:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.03, 1.03)
    return render_svg(figure, axes, "lesion volume in mL (logarithmic)", "Dice")


def bland_altman(scores: Sequence[CaseScore]) -> bytes:
    """Draw the error of each predicted volume against the mean of both (Bland and Altman, 1986)."""
    figure, axes = create_plot()
    errors = np.array([row.volume_error_ml for row in scores])
    axes.plot([(row.lesion_ml + row.predicted_ml) / 2 for row in scores], errors, "o", color=BLUE, alpha=0.8)
    axes.axhline(errors.mean(), color=VERMILION, label=f"mean error {errors.mean():+.2f} mL")
    if len(errors) > 1:
        spread = 1.96 * errors.std(ddof=1)
        for limit, label in ((errors.mean() - spread, "95 % limits of agreement"), (errors.mean() + spread, None)):
            axes.axhline(limit, color=VERMILION, linestyle="dashed", label=label)
    return render_svg(figure, axes, "mean of true and predicted volume in mL", "predicted − true in mL")
