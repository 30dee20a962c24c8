"""The training run as one HTML page: what was trained, on what, and the curves of loss and Dice."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from components.report.page import write_page
from components.report.plots import training_curves
from components.train.record import Training


def write_report(path: Path, run: Training, preset: str) -> None:
    """Write the page of a finished run.

    Args:
        path: the HTML file.
        run: what `train` returned.
        preset: name of the recipe.
    """
    write_page(
        path,
        Path(__file__).parent / "report.html.jinja",
        run=run,
        preset=preset,
        settings=list(_settings(run.recipe)),
        curves=training_curves(run.history, run.best_epoch),
    )


def _settings(recipe: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The names and values of a recipe, those of its parts behind the part's name."""
    for setting in fields(recipe):
        value = getattr(recipe, setting.name)
        if is_dataclass(value):
            yield from _settings(value, f"{above}{setting.name}.")
        else:
            yield f"{above}{setting.name}", value
