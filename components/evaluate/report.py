"""The evaluation as one HTML page: what was decided and by which rule, then everything that bears on it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from components.evaluate.figures import (
    bland_altman,
    dice_by_volume,
    reliability_curve,
    roc_curve,
    threshold_curve,
)
from components.evaluate.outcome import Evaluation
from components.evaluate.scores import CaseScore, worst_first
from components.report.page import write_page
from components.report.plots import plot_training_curves

_TEMPLATE = Path(__file__).parent / "report.html.jinja"


@dataclass(frozen=True)
class Picture:
    """An overlay in the report: a test case's SVG and what it stands for."""

    title: str
    score: CaseScore
    svg: bytes

    @property
    def view_box(self) -> str:
        """The SVG's own, for the same slice without the lines."""
        return re.search(rb'viewBox="([^"]*)"', self.svg)[1].decode()  # type: ignore[index]


@dataclass(frozen=True)
class Plot:
    """A plot with the words for it: what it shows, and what that means."""

    svg: bytes
    alt: str
    caption: str


def write_report(path: Path, found: Evaluation, overlays: Path) -> None:
    """Write the report of an evaluation.

    Args:
        path: the HTML file.
        found: what came out.
        overlays: folder of the overlays, `<case id>.svg`.
    """
    ordered = worst_first(found.scores)
    write_page(
        path,
        _TEMPLATE,
        found=found,
        verdict=found.verdict,
        scores=ordered,
        numbers=found.summary(),
        mean=lambda name: fmean(getattr(row, name) for row in ordered),
        pictures=[
            Picture(title, row, (overlays / f"{row.case_id}.svg").read_bytes())
            for title, row in _worst_median_best(ordered)
        ],
        plots=_plots(found),
        confusion=found.counts.confusion(found.choice.threshold),
    )


def _plots(found: Evaluation) -> list[Plot]:
    plots = [
        Plot(
            threshold_curve(found.choice),
            "Mean Dice of the validation cases against the threshold",
            f"A voxel counts as lesion from a probability of {found.choice.threshold:.3f} on: the best mean Dice of "
            f"the validation cases ({found.choice.validation_dice:.3f}). The test cases had no part in the choice.",
        )
    ]
    if found.scores:
        plots += [
            Plot(
                dice_by_volume(found.scores),
                "Dice of each test case against its lesion volume",
                "Small lesions are harder. The ceiling is what a perfect answer on the network's grid would reach.",
            ),
            Plot(
                bland_altman(found.scores),
                "Bland-Altman plot of the volumes",
                "Above zero the model marks too much, below too little. Milliliters are as true as the files' spacing.",
            ),
            Plot(
                reliability_curve(found.counts.reliability()),
                "Reliability curve of the voxels of all test cases",
                "Below the dotted line probabilities are too high, above it too low. Most voxels lie near 0.",
            ),
        ]
    roc = found.counts.roc()
    if roc:
        caption = "Over the voxels of all test cases. With so much background the area is near 1 for poor models too."
        plots.append(Plot(roc_curve(roc), "ROC curve of the voxels of all test cases", caption))
    curves = plot_training_curves(found.training["history"], found.training.get("best_epoch"))
    caption = "Training by epoch, of augmented slices; validation is dashed, and chose the epoch that was kept."
    return plots + [Plot(svg, "Training and validation by epoch", caption) for svg in curves]


def _worst_median_best(ordered: Sequence[CaseScore]) -> list[tuple[str, CaseScore]]:
    """Three rows of a table ordered worst first, or fewer if it is that short."""
    if len(ordered) < 3:
        titles = ("Worst case", "Best case") if len(ordered) == 2 else ("The only case",)
        return list(zip(titles, ordered, strict=False))
    return [
        ("Worst case", ordered[0]),
        ("Median case", ordered[(len(ordered) - 1) // 2]),
        ("Best case", ordered[-1]),
    ]
