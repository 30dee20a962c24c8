"""The plots of the reports, each as the bytes of an SVG file. Nothing is shown on a screen.

No line is told by its color alone: each has a dash pattern or a mark of its own, and a name above the plot, where
it hides no point.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from components.report.page import BLUE, INK, VERMILION

_SIZE_INCHES = (4.6, 3.4)  # text stays readable when a phone shows a plot at its full width


def new_plot() -> tuple[Figure, Axes]:
    """An empty plot."""
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    return figure, figure.subplots()


def as_svg(figure: Figure, axes: Axes, x: str, y: str) -> bytes:
    """Name the axes, tell the lines' names above the plot, and draw it: the same numbers give the same bytes."""
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", frameon=False, ncols=3, columnspacing=1.2, handlelength=1.6)
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "lung-ct"}):  # without date, program or random ids
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def training_curves(history: Mapping[str, Sequence[float | None]], kept_epoch: int = 0) -> list[bytes]:
    """Draw the loss, and the Dice on the network's grid, over the epochs; what has no values is left out.

    Args:
        history: values by epoch, of which `loss`, `val_loss`, `dice` and `val_dice` are drawn.
        kept_epoch: the epoch whose weights were kept, from 1; 0 if it is not known.
    """
    plots = []
    for kind, label in (("loss", "loss"), ("dice", "Dice on the network's grid")):
        figure, axes = new_plot()
        for name, who, color, dashes in (
            (kind, "training", BLUE, "solid"),
            (f"val_{kind}", "validation", VERMILION, "dashed"),
        ):
            values = np.array(history.get(name, []), float)
            if np.isfinite(values).any():
                mark = "." if len(values) < 30 else None
                epochs = np.arange(1, len(values) + 1)
                axes.plot(epochs, values, color=color, linestyle=dashes, marker=mark, label=who)
        if not axes.lines:
            continue
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if kept_epoch:
            axes.axvline(kept_epoch, color="#767676", linestyle="dotted", label=f"kept: epoch {kept_epoch}")
        plots.append(as_svg(figure, axes, "epoch", label))
    return plots
