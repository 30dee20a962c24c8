"""The plots of an evaluation, each as the bytes of an SVG file. Nothing is shown on a screen.

No line is told by its colour alone: each has a dash pattern or a mark of its own, and a name.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.evaluate.levels import THRESHOLDS, Reliability, Roc
from components.evaluate.scores import CaseScore
from components.evaluate.threshold import ThresholdChoice
from components.report.page import BLUE, GREEN, INK, VERMILION

_SIZE_INCHES = (4.6, 3.3)  # text stays readable when a phone shows a plot at its full width


def training_curves(history: Mapping[str, Sequence[float | None]]) -> list[bytes]:
    """Draw the loss, and the Dice on the network's grid, over the epochs; what has no values is left out.

    Args:
        history: values by epoch; names with `dice` go to one plot, names with `loss` to the other, and a
            leading `val_` marks validation.
    """
    plots = []
    for kind, label in (("loss", "loss"), ("dice", "Dice of slices on the network's grid")):
        curves = {
            name: np.array(values, float)
            for name, values in history.items()
            if kind in name and not (kind == "loss" and "dice" in name)
        }
        if not any(np.isfinite(values).any() for values in curves.values()):
            continue
        figure, axes = _plot()
        for name, values in curves.items():
            validation = name.startswith("val_")
            axes.plot(
                np.arange(1, len(values) + 1),
                values,
                color=VERMILION if validation else BLUE,
                linestyle="dashed" if validation else "solid",
                marker="." if len(values) < 30 else None,
                label="validation" if validation else "training",
            )
        plots.append(_finish(figure, axes, "epoch", label))
    return plots


def threshold_curve(choice: ThresholdChoice) -> bytes:
    """Draw the validation cases' mean Dice against the threshold, the chosen one marked."""
    figure, axes = _plot()
    axes.plot(THRESHOLDS, choice.curve, color=BLUE, label="mean Dice, validation cases")
    axes.plot(choice.threshold, choice.validation_dice, "o", color=VERMILION, label=f"chosen: {choice.threshold:.3f}")
    axes.set_ylim(0, 1)
    return _finish(figure, axes, "threshold on the lesion probability", "mean Dice")


def roc_curve(roc: Roc) -> bytes:
    """Draw the share of lesion voxels found against the share of background marked."""
    figure, axes = _plot()
    axes.plot(roc.false_positive_rate, roc.true_positive_rate, color=BLUE, label=f"area {roc.auc:.3f}")
    axes.plot([0, 1], [0, 1], color=INK, linestyle="dotted", linewidth=1, label="chance")
    return _finish(figure, axes, "share of background voxels marked", "share of lesion voxels marked")


def reliability_curve(reliability: Reliability) -> bytes:
    """Draw how often voxels were lesion against the probability they were given."""
    figure, axes = _plot()
    axes.plot(
        reliability.probability,
        reliability.lesion_share,
        "o-",
        color=BLUE,
        label=f"this model, ECE {reliability.expected_calibration_error:.4f}",
    )
    axes.plot([0, 1], [0, 1], color=INK, linestyle="dotted", linewidth=1, label="taken at its word")
    return _finish(figure, axes, "probability given", "share that is lesion")


def dice_by_volume(scores: Sequence[CaseScore]) -> bytes:
    """Draw each case's Dice, and the ceiling that its grid sets, against its lesion volume."""
    figure, axes = _plot()
    volumes = [row.lesion_ml for row in scores]
    axes.plot(
        volumes, [row.ceiling_dice for row in scores], "_", color=GREEN, markersize=9, label="ceiling of the grid"
    )
    axes.plot(volumes, [row.dice for row in scores], "o", color=BLUE, alpha=0.8, label="reached")
    smallest = min((volume for volume in volumes if volume > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=smallest)  # a scan without lesion has its place too
    axes.set_xlim(left=-0.1 * smallest)
    axes.set_ylim(-0.03, 1.03)
    return _finish(figure, axes, "lesion volume in mL (logarithmic)", "Dice")


def bland_altman(scores: Sequence[CaseScore]) -> bytes:
    """Draw the error of each predicted volume against the mean of both (Bland and Altman, 1986)."""
    figure, axes = _plot()
    errors = np.array([row.volume_error_ml for row in scores])
    axes.plot([(row.lesion_ml + row.predicted_ml) / 2 for row in scores], errors, "o", color=BLUE, alpha=0.8)
    axes.axhline(errors.mean(), color=VERMILION, label=f"mean error {errors.mean():+.2f} mL")
    if len(errors) > 1:
        spread = 1.96 * errors.std(ddof=1)
        for limit, label in ((errors.mean() - spread, "95 % limits of agreement"), (errors.mean() + spread, None)):
            axes.axhline(limit, color=VERMILION, linestyle="dashed", label=label)
    return _finish(figure, axes, "mean of true and predicted volume in mL", "predicted − true in mL")


def _plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    return figure, figure.subplots()


def _finish(figure: Figure, axes: Axes, x: str, y: str) -> bytes:
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    file = io.BytesIO()
    # Without date, program or random ids, so that the same numbers give the same bytes.
    with rc_context({"svg.hashsalt": "lung-ct"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
