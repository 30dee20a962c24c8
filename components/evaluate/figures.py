"""The pictures of an evaluation, each as the bytes of a PNG or SVG file. Nothing is shown on a screen.

Colours are of the palette that readers with any colour vision can tell apart (Okabe and Ito, 2008), and no
line is told by its colour alone: each has a dash pattern and a name of its own.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from components.ct.intensity import WINDOW_HU
from components.evaluate.threshold import THRESHOLDS, ThresholdChoice

TRUTH_COLOUR, PREDICTION_COLOUR = "#56B4E9", "#E69F00"  # sky blue and orange stand out from grey tissue
_INK = "#222222"


def shown_slice(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> int:
    """Which of (n, h, w) slices to show: the one with most lesion, or most prediction, or the middle one."""
    for mask in (truth, prediction):
        area = np.count_nonzero(mask, axis=(1, 2))
        if area.any():
            return int(area.argmax())
    return len(truth) // 2


def overlay(
    slice_hu: NDArray[np.int16],
    truth: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    pixel_mm: tuple[float, float],
) -> bytes:
    """Draw an axial slice, plain and with both masks outlined, as PNG.

    Args:
        slice_hu: (rows, columns) int16.
        truth: (rows, columns) mask of the radiologist.
        prediction: (rows, columns) mask of the model.
        pixel_mm: height and width of a pixel.
    """
    aspect = pixel_mm[0] / pixel_mm[1]
    tall = np.clip(slice_hu.shape[0] * aspect / slice_hu.shape[1], 0.4, 1.6)
    figure = Figure(figsize=(9, 4.5 * tall + 0.35), dpi=110, facecolor="black")
    top = 1 - 0.35 / figure.get_figheight()
    for column in range(2):
        axes = figure.add_axes((0.5 * column, 0, 0.5, top))
        axes.imshow(slice_hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
        axes.set_axis_off()
    for mask, colour, line in ((truth, TRUTH_COLOUR, "solid"), (prediction, PREDICTION_COLOUR, "dashed")):
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], linewidths=1.4, colors=colour, linestyles=line)
    figure.legend(
        handles=[
            Line2D([], [], color=TRUTH_COLOUR, linestyle="solid", label="radiologist (solid)"),
            Line2D([], [], color=PREDICTION_COLOUR, linestyle="dashed", label="model (dashed)"),
        ],
        loc="upper right",
        ncols=2,
        frameon=False,
        labelcolor="white",
        borderaxespad=0.1,
    )
    return _file(figure, "png")


def training_curves(history: Mapping[str, Sequence[float | None]]) -> bytes:
    """Draw loss and Dice over the epochs, training and validation, as SVG.

    Args:
        history: values by epoch; names with `dice` go to one panel, names with `loss` to the other, and a
            leading `val_` marks validation.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2)
    for axes, kind in zip(panels, ("loss", "dice"), strict=True):
        for name, values in history.items():
            if kind not in name or (kind == "loss" and "dice" in name):
                continue
            validation = name.startswith("val_")
            axes.plot(
                np.arange(1, len(values) + 1),
                np.array(values, float),
                color="#D55E00" if validation else "#0072B2",
                linestyle="dashed" if validation else "solid",
                marker="." if len(values) < 30 else None,
                label="validation" if validation else "training",
            )
        _finish(axes, "epoch", kind if kind == "loss" else "Dice of slices on the network's grid")
    return _file(figure, "svg")


def threshold_curve(choice: ThresholdChoice) -> bytes:
    """Draw the validation cases' mean Dice against the threshold, the chosen one marked, as SVG."""
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(THRESHOLDS, choice.curve, color="#0072B2", label="mean Dice, validation cases")
    axes.plot(choice.threshold, choice.validation_dice, "o", color="#D55E00", label=f"chosen: {choice.threshold:.3f}")
    axes.set_ylim(0, 1)
    _finish(axes, "threshold on the lesion probability", "mean Dice")
    return _file(figure, "svg")


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, color=_INK)
    axes.set_ylabel(y, color=_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _file(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    # Without date, program or random ids, so that the same numbers give the same bytes.
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "lung-ct"}):
        figure.savefig(file, format=kind, facecolor=figure.get_facecolor(), metadata=metadata)
    return file.getvalue()
