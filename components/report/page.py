"""Self-contained HTML pages: the Kubeflow UI shows them in a sandboxed frame without network.

A report is a Jinja template next to the code that renders it. It extends the frame in this folder:

    {% extends "page.html.jinja" %}
    {% block title %}Evaluation{% endblock %}
    {% block content %} ... {% endblock %}

`write_page` writes it. Values are escaped; a missing value is an error. The frame embeds images and styles elements:

    <img src="{{ curve | data_uri }}" alt="...">     PNG or SVG bytes; the page's policy blocks every other image
    {{ overlay | inline_svg }}                       SVG elements in the page, which its style can size
    <header class="verdict pass">    first element of the page, with an <h1>; also `fail`, and `note` for neither
    <div class="wide">               around every table: the table scrolls, not the page
    <table class="narrow">           as wide as its text, for two or three columns
    <table class="sortable">         a click on a heading sorts; `<td data-sort="3">` overrides the cell's text
    <div class="figures">            <figure>s side by side, stacked on a phone
    class="words", "note", "tiles"   a cell that wraps, a remark, a row of <div><b>0.83</b>mean Dice</div>

The palette is readable with any color vision (Okabe and Ito, 2008): `BLUE`, `ORANGE`, ... here, `var(--blue)` in the
style. Never encode information in color alone; add a dash pattern or a word.
"""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from components.runtime.files import atomic_write

BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
INK = "#222222"

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
    environment.filters |= {"data_uri": data_uri, "inline_svg": inline_svg}
    environment.globals |= {"sort_script": Markup(_SORT_SCRIPT), "sort_script_digest": script_digest(_SORT_SCRIPT)}
    return environment.get_template(template.name).render(**context)


def write_page(path: Path, template: Path, **context: Any) -> None:
    """Render a template and write the page atomically."""
    page = render(template, **context)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def script_digest(script: str) -> Markup:
    """Return the SHA-256 by which the page's content security policy allows an inline script."""
    return Markup(b64encode(sha256(script.encode()).digest()).decode())


def data_uri(content: bytes) -> str:
    """Encode a PNG or SVG file as an image address."""
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/svg+xml"
    return f"data:{kind};base64,{b64encode(content).decode()}"


def inline_svg(content: bytes) -> Markup:
    """Return an SVG file as page elements, unescaped: only for files drawn by this package."""
    text = content.decode()
    return Markup(text[text.index("<svg") :])
