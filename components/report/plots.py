"""Plots of the reports as SVG files.

Lines differ in dash pattern or marker as well as in color. The legend is above the plot, where it covers no data.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.report.page import BLUE, INK, VERMILION

_SIZE_INCHES = (4.6, 3.4)  # readable at the width of a phone
_MAX_VECTOR_POINTS, _RASTER_DPI = 1000, 200  # the line of more points is an image, whose size they do not change


def create_plot() -> tuple[Figure, Axes]:
    """Create a figure with empty axes."""
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    return figure, figure.subplots()


def render_svg(figure: Figure, axes: Axes, x: str, y: str) -> bytes:
    """Label the axes, add the legend, and render the figure reproducibly as SVG."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", frameon=False, ncols=3, columnspacing=1.2, handlelength=1.6)
    for line in axes.lines:
        line.set_rasterized(np.size(line.get_xdata()) > _MAX_VECTOR_POINTS)
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "lung-ct"}):  # no date, program name or random ids
        figure.savefig(file, format="svg", dpi=_RASTER_DPI, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def plot_training_curves(history: Mapping[str, Sequence[float | None]], kept_epoch: int | None = None) -> list[bytes]:
    """Plot the loss and the grid Dice by epoch; omit a plot without values.

    Args:
        history: `loss`, `val_loss`, `dice` and `val_dice` by epoch; other keys are ignored.
        kept_epoch: epoch of the kept weights, from 1; None if unknown.
    """
    plots = []
    for metric, y_label in (("loss", "loss"), ("dice", "Dice on the network's grid")):
        figure, axes = create_plot()
        for name, label, color, dashes in (
            (metric, "training", BLUE, "solid"),
            (f"val_{metric}", "validation", VERMILION, "dashed"),
        ):
            values = np.array(history.get(name, []), float)
            if np.isfinite(values).any():
                marker = "." if len(values) < 30 else None
                epochs = np.arange(1, len(values) + 1)
                axes.plot(epochs, values, color=color, linestyle=dashes, marker=marker, label=label)
        if not axes.lines:
            continue
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if kept_epoch:
            axes.axvline(kept_epoch, color="#767676", linestyle="dotted", label=f"kept: epoch {kept_epoch}")
        plots.append(render_svg(figure, axes, "epoch", y_label))
    return plots
