"""The frame of the reports: escaping, inlined pictures, and the one script, in a real browser."""

from pathlib import Path

import jinja2
import pytest

from components.report.page import data_uri, inline_svg, render, write_page
from tests.report.headless import DESKTOP, PHONE, chromium

TEMPLATE = """{% extends "page.html.jinja" %}
{% block title %}A report{% endblock %}
{% block content %}
<header class="verdict pass"><h1>{{ sentence }}</h1></header>
<div class="wide"><table class="sortable"><thead><tr><th>Case</th><th>Dice</th></tr></thead><tbody>
{% for name, dice in rows %}<tr><td>{{ name }}</td><td data-sort="{{ dice }}">{{ dice }} of 1</td></tr>{% endfor %}
</tbody></table></div>
{% endblock %}"""
ROWS = [("b", 0.5), ("a", 0.25), ("c", 10)]
SORTED = """(() => {
  const heading = document.querySelectorAll("th")[COLUMN];
  const names = () => [...document.querySelectorAll("tbody td:first-child")].map(cell => cell.textContent).join("");
  heading.querySelector("button").click(); const first = names();
  heading.querySelector("button").click(); return [first, names(), heading.getAttribute("aria-sort")];
})()"""


@pytest.fixture
def template(tmp_path) -> Path:
    path = tmp_path / "report.html.jinja"
    path.write_text(TEMPLATE)
    return path


def test_a_value_cannot_become_markup(template):
    page = render(template, sentence="<script>alert(1)</script>", rows=[])
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 1


def test_a_name_that_is_not_given_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        render(template, sentence="x")


def test_a_page_is_written_whole_or_not_at_all(template, tmp_path):
    with pytest.raises(jinja2.UndefinedError):
        write_page(tmp_path / "page.html", template, sentence="x")
    assert not (tmp_path / "page.html").exists()
    write_page(tmp_path / "page.html", template, sentence="x", rows=ROWS)
    assert (tmp_path / "page.html").read_text() == render(template, sentence="x", rows=ROWS)


def test_pictures_are_told_by_their_content():
    assert data_uri(b"\x89PNG...").startswith("data:image/png;base64,")
    assert data_uri(b"<svg/>") == "data:image/svg+xml;base64,PHN2Zy8+"
    assert inline_svg(b'<?xml version="1.0"?>\n<svg></svg>') == "<svg></svg>"


def test_the_script_sorts_and_no_other_script_runs(template, tmp_path):
    page = render(template, sentence="Fine", rows=ROWS)
    with chromium(tmp_path) as browser:
        by_dice = browser.show(page, DESKTOP, SORTED.replace("COLUMN", "1"))
        assert by_dice.answer == ["abc", "cba", "descending"]
        assert browser.show(page, PHONE, SORTED.replace("COLUMN", "0")).answer[0] == "abc"
        assert (by_dice.problems, by_dice.requests) == ([], [])
        injected = page.replace("Fine", "<script>document.title = 'taken'</script><img src='http://127.0.0.1:9/x.png'>")
        shown = browser.show(injected, DESKTOP, "document.title")
        assert shown.answer == "A report"
        assert shown.problems  # the page's own policy refused both
