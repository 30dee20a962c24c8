"""The evaluation as one HTML page that needs nothing else: styles and pictures are in it."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.ct.atomic import written_whole
from components.evaluate.figures import threshold_curve, training_curves
from components.evaluate.scores import CaseScore, worst_first
from components.evaluate.threshold import ThresholdChoice
from components.evaluate.verdict import Verdict

_PAGE = "report.html.jinja"


@dataclass(frozen=True)
class Picture:
    """An overlay in the report: a test case's PNG and what it stands for."""

    title: str
    score: CaseScore
    png: bytes


def write_report(
    path: Path,
    verdict: Verdict,
    scores: Sequence[CaseScore],
    choice: ThresholdChoice,
    history: Mapping[str, Sequence[float | None]],
    overlays: Path,
) -> None:
    """Write the report of an evaluation.

    Args:
        path: the HTML file.
        verdict: the decision.
        scores: of the test cases.
        choice: the threshold and its curve.
        history: values of each epoch of training, by name.
        overlays: folder of the overlays, `<case id>.png`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    ordered = worst_first(scores)
    page = environment.get_template(_PAGE).render(
        verdict=verdict,
        scores=ordered,
        choice=choice,
        pictures=[
            Picture(title, row, (overlays / f"{row.case_id}.png").read_bytes())
            for title, row in _worst_median_best(ordered)
        ],
        training=training_curves(history),
        threshold=threshold_curve(choice),
        mean=_mean,
        median=median,
    )
    with written_whole(path) as temporary:
        temporary.write_text(page)


def _worst_median_best(ordered: Sequence[CaseScore]) -> list[tuple[str, CaseScore]]:
    """Three rows of a table ordered worst first, or fewer if it is that short."""
    if len(ordered) < 3:
        return list(zip(("Worst case", "Best case"), ordered, strict=False)) if ordered[1:] else _only(ordered)
    return [
        ("Worst case", ordered[0]),
        ("Median case", ordered[(len(ordered) - 1) // 2]),
        ("Best case", ordered[-1]),
    ]


def _only(ordered: Sequence[CaseScore]) -> list[tuple[str, CaseScore]]:
    return [("The only case", row) for row in ordered]


def _mean(scores: Sequence[CaseScore], name: str) -> float:
    return fmean(getattr(row, name) for row in scores)


def _data_uri(content: bytes) -> str:
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/svg+xml"
    return f"data:{kind};base64,{b64encode(content).decode()}"
