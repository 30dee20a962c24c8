"""The model card, in Markdown.

Headings follow Mitchell et al. (2019, arXiv:1810.03993); the fields on the network's input and output follow MONAI's
`metadata.json`.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.ct.cases import Case
from components.ct.intensity import WINDOW_HU
from components.evaluate.evaluation import Evaluation
from components.evaluate.rules import TRIVIAL_ML
from components.runtime.files import atomic_write

_TEMPLATE = "model_card.md.jinja"
# The Kubeflow UI cuts Markdown at 400,000 characters: kubeflow/pipelines 2.17.0, viewers/MarkdownViewer.tsx:58.
_MAX_ROWS = 500  # of 220 characters for a case
_PACKAGES = ("lung-ct-pipelines", "tensorflow", "keras", "numpy")


def write_model_card(path: Path, evaluation: Evaluation, data_license: str) -> None:
    """Write the card of the evaluated model as a Markdown file; `data_license` is free text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _escape_cell
    cases = evaluation.split_cases
    splits = {"training": cases.train, "validation": cases.validation, "test": cases.test}
    card = environment.get_template(_TEMPLATE).render(
        evaluation=evaluation,
        metrics=evaluation.summary(),
        max_rows=_MAX_ROWS,
        size=cases.image_size,
        window_hu=WINDOW_HU,
        trivial_ml=TRIVIAL_ML,
        data_license=data_license,
        splits={name: _describe(cases) for name, cases in splits.items()},
        settings={
            name: value for name, value in evaluation.training.items() if isinstance(value, str | int | float | bool)
        },
        packages={name: version(name) for name in _PACKAGES},
    )
    with atomic_write(path) as temporary:
        temporary.write_text(card, encoding="utf-8")


def _describe(cases: Sequence[Case]) -> dict[str, Any]:
    return {
        "cases": len(cases),
        "patients": len({case.patient_id for case in cases}),
        "sites": ", ".join(sorted({case.site for case in cases})) or "none",
        "intensities": ", ".join(sorted({case.intensity for case in cases})) or "none",
    }


def _escape_cell(text: Any) -> str:
    """Escape text that would end a table cell or begin markup."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
