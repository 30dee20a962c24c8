"""The page to look through a batch: a table of all scans, and pictures of those with most lesion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.report.page import write_page

_MOST_PICTURE_BYTES = 6 << 20  # what the Kubeflow UI shows without strain


def write_gallery(path: Path, rows: Sequence[Mapping[str, str]], previews: Mapping[str, bytes]) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        rows: the summary, in the order to show it in.
        previews: PNG by case.
    """
    shown: list[tuple[Mapping[str, str], bytes]] = []
    room = _MOST_PICTURE_BYTES
    for row in rows:
        png = previews.get(row["case"])
        if png is None:
            continue
        room -= len(png)
        if room < 0:
            break
        shown.append((row, png))
    failed = [row for row in rows if row["error"]]
    write_page(
        path,
        Path(__file__).parent / "gallery.html.jinja",
        rows=rows,
        shown=shown,
        failed=failed,
        found=sum(float(row["lesion_ml"] or 0) > 0 for row in rows),
        left_out=len(previews) - len(shown),
    )
