"""Self-contained HTML pages: the Kubeflow UI shows them in a sandboxed frame without network.

A report is a Jinja template next to the code that renders it. It extends the frame in this folder:

    {% extends "page.html.jinja" %}
    {% block title %}Evaluation{% endblock %}
    {% block content %} ... {% endblock %}

`write_page` writes it. Values are escaped; a missing value is an error. The frame embeds images and styles elements:

    <img src="{{ curve | data_uri }}" alt="...">     PNG, WebP or SVG bytes; the page's policy blocks every other image
    {{ overlay | inline_svg }}                       SVG elements in the page, which its style can size
    <header class="verdict pass">    first element of the page, with an <h1>; also `fail`, and `note` for neither
    <div class="wide">               around every table: a wide table scrolls, not the page; so does a long sortable one
    <table class="narrow">           as wide as its text, for two or three columns
    <table class="sortable">         a click on a heading sorts; `<td data-sort="3">` overrides the cell's text
    <div class="figures">            <figure>s side by side, stacked on a phone
    class="words", "note", "tiles"   a cell that wraps, a remark, a row of <div><b>0.83</b>mean Dice</div>

The Kubeflow UI loads a page whole, so `write_page` keeps it within `MAX_PAGE_BYTES`. What grows with the cohort is in
`pictures` or in a table of `max_rows` rows, the most informative first:

    {% for picture in pictures %}    as many of those passed to `write_page` as fit
    {% for row in rows[:max_rows] %}
    {{ rows | omission("the worst", "cases.csv") }}    says below the heading which rows are left out, if any

The palette is readable with any color vision (Okabe and Ito, 2008): `BLUE`, `ORANGE`, ... here, `var(--blue)` in the
style. Never encode information in color alone; add a dash pattern or a word.
"""

import logging
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from components.runtime.files import atomic_write

BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
INK = "#222222"
# kubeflow/pipelines 2.17.0, frontend/src/components/viewers/MetricsVisualizations.tsx:865, fetches a page whole.
MAX_PAGE_BYTES = 5_000_000
MAX_PICTURES, MAX_ROWS = 60, 1000

_log = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
_SORT_SCRIPT = (_FOLDER / "sort.js").read_text()


def render(template: Path, **context: Any) -> str:
    """Render a template that extends `page.html.jinja` to HTML.

    Raises:
        jinja2.UndefinedError: `context` lacks a value that the template uses.
    """
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(template.parent), FileSystemLoader(_FOLDER)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "inline_svg": inline_svg, "omission": _omission}
    environment.globals |= {"sort_script": Markup(_SORT_SCRIPT), "sort_script_digest": script_digest(_SORT_SCRIPT)}
    return environment.get_template(template.name).render(**context)


def write_page(path: Path, template: Path, *, pictures: Sequence[Any] = (), **context: Any) -> None:
    """Render a template and write the page atomically.

    A page above `MAX_PAGE_BYTES` loses pictures from the end, then rows of its tables. Its step never fails for it.

    Args:
        path: HTML file to write.
        template: extends `page.html.jinja`.
        pictures: pictures in any form that the template shows, the most informative first.
        context: the other values of the template.
    """
    shown, max_rows = list(pictures[:MAX_PICTURES]), MAX_ROWS
    while True:
        page = render(template, pictures=shown, max_rows=max_rows, **context).encode()
        if len(page) <= MAX_PAGE_BYTES or not (shown or max_rows):
            break
        if shown:
            del shown[min(len(shown) - 1, len(shown) * MAX_PAGE_BYTES // len(page)) :]
        else:
            max_rows //= 2
    if len(page) > MAX_PAGE_BYTES:
        _log.warning("%s: %s bytes; the Kubeflow UI may be slow to show it", path, f"{len(page):,}")
    with atomic_write(path) as temporary:
        temporary.write_bytes(page)


@pass_context
def _omission(context: Context, rows: Sequence[Any], choice: str, file: str) -> str:
    """Say that a table shows only `max_rows` of its rows; empty if it shows all."""
    max_rows: int = context["max_rows"]
    if len(rows) <= max_rows:
        return ""
    return f"This table shows {choice} {max_rows:,} of {len(rows):,}; {file} has all."


def script_digest(script: str) -> Markup:
    """Return the SHA-256 by which the page's content security policy allows an inline script."""
    return Markup(b64encode(sha256(script.encode()).digest()).decode())


def data_uri(content: bytes) -> str:
    """Encode a PNG, WebP or SVG file as an image address."""
    kinds = {b"\x89PNG": "image/png", b"RIFF": "image/webp"}
    kind = kinds.get(content[:4], "image/svg+xml")
    return f"data:{kind};base64,{b64encode(content).decode()}"


def inline_svg(content: bytes) -> Markup:
    """Return an SVG file as page elements, unescaped: only for files drawn by this package."""
    text = content.decode()
    return Markup(text[text.index("<svg") :])
