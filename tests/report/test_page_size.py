"""Every artifact that the Kubeflow UI shows stays small, whatever the cohort's size.

frontend/src/components/viewers of kubeflow/pipelines: MetricsVisualizations.tsx:865 fetches a page whole ("TODO: Limit
the size of HTML file fetching to prevent UI frozen"), and MarkdownViewer.tsx:58 cuts Markdown at 400,000 characters.
"""

import re
from pathlib import Path

import pytest

from components.report.page import MAX_PAGE_BYTES, write_page
from tests.report.large_cohort import PAGES

MAX_MARKDOWN_CHARACTERS = 50 * 1000 * 8
OUTPUT = re.compile(r"(\w+): dsl\.Output\[dsl\.(?:HTML|Markdown)\]")


def test_every_page_of_every_component_is_measured():
    outputs = {
        (path.parent.name, match[1])
        for path in Path("components").glob("*/component.py")
        for match in OUTPUT.finditer(path.read_text())
    }
    assert outputs == set(PAGES)


@pytest.mark.parametrize("count", [500, 5000])
@pytest.mark.parametrize("output", PAGES, ids="/".join)
def test_a_page_of_noise_with_findings_in_many_cases_stays_small(output, count, tmp_path):
    page = PAGES[output](tmp_path, count)
    if page.suffix == ".md":
        assert len(page.read_text()) <= MAX_MARKDOWN_CHARACTERS
    else:
        assert page.stat().st_size <= MAX_PAGE_BYTES == 5_000_000


@pytest.fixture
def template(tmp_path) -> Path:
    path = tmp_path / "report.html.jinja"
    path.write_text(
        '{% extends "page.html.jinja" %}{% block title %}T{% endblock %}{% block content %}'
        '{{ rows | omission("the first", "rows.csv") }}'
        "{% for picture in pictures %}<b>{{ picture }}</b>{% endfor %}"
        "{% for row in rows[:max_rows] %}<i>{{ row }}</i>{% endfor %}{% endblock %}"
    )
    return path


@pytest.mark.parametrize(
    ("picture_kb", "row_kb", "pictures", "rows"),
    [(10, 1, 60, 1000), (100, 1, 39, 1000), (6000, 1, 0, 1000), (10, 9, 0, 500), (10, 100, 0, 31)],
)
def test_pictures_are_dropped_before_rows_until_the_page_fits(template, picture_kb, row_kb, pictures, rows, tmp_path):
    names = [f"{index:03}" + "p" * picture_kb * 1000 for index in range(80)]
    write_page(tmp_path / "p.html", template, pictures=names, rows=["r" * row_kb * 1000] * 1001)
    page = (tmp_path / "p.html").read_text()
    assert len(page) <= MAX_PAGE_BYTES
    assert (page.count("<i>"), [int(name) for name in re.findall(r"<b>(\d+)", page)]) == (rows, list(range(pictures)))
    assert f"the first {rows:,} of 1,001; rows.csv has all" in page


def test_a_page_that_cannot_be_reduced_is_written_and_logged(template, tmp_path, caplog):
    template.write_text("{{ text }}")
    write_page(tmp_path / "p.html", template, text="x" * (MAX_PAGE_BYTES + 1))
    assert (tmp_path / "p.html").stat().st_size == MAX_PAGE_BYTES + 1
    assert "5,000,001 bytes" in caplog.text
