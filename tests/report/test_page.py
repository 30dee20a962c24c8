"""The frame of the reports: escaping, inlined images, and sorting in a real browser."""

import re
from pathlib import Path

import jinja2
import pytest

from components.report.page import data_uri, inline_svg, render, write_page
from tests.report.browser import DESKTOP, PHONE, chromium, render_page

TEMPLATE = """{% extends "page.html.jinja" %}
{% block title %}A report{% endblock %}
{% block content %}
<header class="verdict pass"><h1>{{ sentence }}</h1></header>
<div class="wide"><table class="sortable"><thead><tr><th>Case</th><th>Dice</th></tr></thead><tbody>
{% for name, dice in rows %}<tr><td>{{ name }}</td><td data-sort="{{ dice }}">{{ dice }} of 1</td></tr>{% endfor %}
</tbody></table></div>
{% endblock %}"""
ROWS = [("b", 0.5), ("a", 0.25), ("c", 10)]
SORT_TWICE = """(() => {
  const heading = document.querySelectorAll("th")[COLUMN];
  const names = () => [...document.querySelectorAll("tbody td:first-child")].map(cell => cell.textContent).join("");
  heading.querySelector("button").click(); const first = names();
  heading.querySelector("button").click(); return [first, names(), heading.getAttribute("aria-sort")];
})()"""
TEMPLATES = sorted(Path("components").rglob("*.html.jinja"))


@pytest.fixture
def template(tmp_path) -> Path:
    path = tmp_path / "report.html.jinja"
    path.write_text(TEMPLATE)
    return path


def test_values_are_escaped(template):
    page = render(template, sentence="<script>alert(1)</script>", rows=[])
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 1


def test_a_missing_value_is_an_error_and_leaves_no_page(template, tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="rows"):
        write_page(tmp_path / "page.html", template, sentence="x")
    assert not (tmp_path / "page.html").exists()
    write_page(tmp_path / "page.html", template, sentence="x", rows=ROWS)
    assert (tmp_path / "page.html").read_text() == render(template, sentence="x", rows=ROWS)


def test_images_are_recognized_by_content():
    assert data_uri(b"\x89PNG...").startswith("data:image/png;base64,")
    assert data_uri(b"<svg/>") == "data:image/svg+xml;base64,PHN2Zy8+"
    assert inline_svg(b'<?xml version="1.0"?>\n<svg></svg>') == "<svg></svg>"


@pytest.mark.parametrize("path", TEMPLATES, ids=str)
def test_headings_leave_their_button_to_the_sort_script(path):
    assert not re.search(r"<th\b[^>]*>(?:(?!</th>).)*<button", path.read_text(), re.DOTALL)


def test_columns_sort_and_foreign_scripts_and_images_are_blocked(template):
    page = render(template, sentence="Fine", rows=ROWS)
    with chromium() as browser:
        by_dice = render_page(browser, page, DESKTOP, SORT_TWICE.replace("COLUMN", "1"))
        assert by_dice.result == ["abc", "cba", "descending"]
        assert render_page(browser, page, PHONE, SORT_TWICE.replace("COLUMN", "0")).result[0] == "abc"
        assert (by_dice.problems, by_dice.requests) == ([], [])
        injected = page.replace("Fine", "<script>document.title = 'Other'</script><img src='http://127.0.0.1:9/x.png'>")
        rendering = render_page(browser, injected, DESKTOP, "document.title")
        assert rendering.result == "A report"
        assert len(rendering.problems) == 2  # the page's policy blocked both
