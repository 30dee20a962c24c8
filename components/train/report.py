"""The training run as one HTML page: what was trained, on what, and the curves of loss and Dice."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from components.report.page import BLUE, VERMILION, write_page
from components.train.record import Training


def write_report(path: Path, run: Training, preset: str) -> None:
    """Write the page of a finished run.

    Args:
        path: the HTML file.
        run: what `train` returned.
        preset: name of the recipe.
    """
    settings = {setting.name: getattr(run.recipe, setting.name) for setting in fields(run.recipe)}
    write_page(
        path,
        Path(__file__).parent / "report.html.jinja",
        run=run,
        preset=preset,
        settings=settings,
        curves=draw_curves(run.history, run.best_epoch),
    )


def draw_curves(history: Mapping[str, Sequence[float]], best_epoch: int) -> bytes:
    """Loss and Dice by epoch, training solid and validation dashed, as an SVG file.

    Args:
        history: `loss`, `dice`, `val_loss` and `val_dice`, one value for each epoch.
        best_epoch: the epoch whose weights were kept, from 1.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), (("loss", "loss"), ("dice", "Dice")), strict=True):
        epochs = range(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], color=BLUE, label="training, augmented slices")
        axes.plot(epochs, history[f"val_{name}"], color=VERMILION, linestyle="dashed", label="validation, by case")
        axes.axvline(best_epoch, color="#767676", linestyle="dotted", label=f"kept: epoch {best_epoch}")
        axes.set(xlabel="epoch", ylabel=title)
        axes.grid(color="#dddddd")
        axes.legend(frameon=False)
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
