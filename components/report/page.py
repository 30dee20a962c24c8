"""HTML pages that need nothing but themselves: the Kubeflow UI shows them in a sandboxed frame without network.

A report is a Jinja template beside the code that fills it. It extends the frame in this folder:

    {% extends "page.html.jinja" %}
    {% block title %}Evaluation{% endblock %}
    {% block content %} ... {% endblock %}

and is written by `write_page(path, Path(__file__).parent / "report.html.jinja", rows=rows, curve=svg)`. Values
are escaped, and a name that is not given is an error. Pictures are given as bytes and put into the page:

    <img src="{{ curve | data_uri }}" alt="...">     PNG or SVG; the frame lets no other image in
    {{ overlay | inline_svg }}                       SVG as part of the page, sized by the page's own style

What the frame's style knows, for templates to use:

    <header class="verdict pass">    the first thing on the page, an <h1> in it; also `fail`, or `note` for neither
    <div class="wide">               around every table: it scrolls there, not the page
    <table class="narrow">           no wider than its text, for two or three columns
    <table class="sortable">         sorted by a click on a heading; `<td data-sort="3">` where the text does not sort
    <div class="figures">            <figure>s side by side, or one below the other on a phone
    class="words", "note", "tiles"   a cell that may wrap, a remark, a row of <div><b>0.83</b>mean Dice</div>

Colors that readers with any color vision can tell apart (Okabe and Ito, 2008) are `BLUE`, `ORANGE`, ...
here, and in the style as `var(--blue)`. A line's dash or a word must always tell what its color tells.
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

_ROOM = Path(__file__).parent
_SCRIPT = (_ROOM / "sort.js").read_text()


def render(template: Path, **context: Any) -> str:
    """Fill a report's template.

    Args:
        template: file that extends `page.html.jinja`, as the head of this module shows.
        context: the names that the template uses.
    """
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(template.parent), FileSystemLoader(_ROOM)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "inline_svg": inline_svg}
    environment.globals |= {"sort_script": Markup(_SCRIPT), "sort_script_digest": script_digest(_SCRIPT)}
    return environment.get_template(template.name).render(**context)


def write_page(path: Path, template: Path, **context: Any) -> None:
    """Fill a report's template and write the page, whole or not at all."""
    page = render(template, **context)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def script_digest(script: str) -> Markup:
    """What the page's policy allows this very script by, so that no other text can become one."""
    return Markup(b64encode(sha256(script.encode()).digest()).decode())


def data_uri(content: bytes) -> str:
    """A PNG or SVG file as the address of an image."""
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/svg+xml"
    return f"data:{kind};base64,{b64encode(content).decode()}"


def inline_svg(content: bytes) -> Markup:
    """An SVG file as part of a page. Only for files that our own code drew: it is not escaped."""
    text = content.decode()
    return Markup(text[text.index("<svg") :])
