"""The model card: what a person has to know before using the model, in Markdown.

The headings are those of Mitchell et al. (2019, arXiv:1810.03993); what they hold follows the fields of MONAI's
`metadata.json` where those ask for more, as the format of the network's input and output.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.ct.cases import Case
from components.ct.intensity import WINDOW_HU
from components.evaluate.outcome import Evaluation
from components.evaluate.rules import TRIVIAL_ML
from components.runtime.files import atomic_write

_TEMPLATE = "model_card.md.jinja"
_PACKAGES = ("lung-ct-pipelines", "tensorflow", "keras", "numpy")


def write_model_card(path: Path, found: Evaluation, data_license: str) -> None:
    """Write the card of the model that was judged.

    Args:
        path: the Markdown file.
        found: what came out of the evaluation.
        data_license: under which terms the scans may be used, in words.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _cell
    held_out = found.held_out
    card = environment.get_template(_TEMPLATE).render(
        found=found,
        numbers=found.summary(),
        size=held_out.image_size,
        window_hu=WINDOW_HU,
        trivial_ml=TRIVIAL_ML,
        data_license=data_license,
        parts=[
            (name, _described(cases))
            for name, cases in (
                ("training", held_out.train),
                ("validation", held_out.validation),
                ("test", held_out.test),
            )
        ],
        settings={name: value for name, value in found.training.items() if _is_plain(value)},
        versions={name: version(name) for name in _PACKAGES},
    )
    with atomic_write(path) as temporary:
        temporary.write_text(card, encoding="utf-8")


def _described(cases: Sequence[Case]) -> dict[str, Any]:
    return {
        "cases": len(cases),
        "patients": len({case.patient_id for case in cases}),
        "sites": ", ".join(sorted({case.site for case in cases})) or "none",
        "intensities": ", ".join(sorted({case.intensity for case in cases})) or "none",
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _cell(text: Any) -> str:
    """Text that can neither end a table's cell nor begin markup."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
