"""Collect the predictions of all parts: masks, one summary, and a gallery page."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.report.page import MAX_PICTURES, write_page
from components.report.slice_image import webp
from serving.client.scans import MASK_SUFFIX
from serving.client.summary import SUMMARY_FILE, read_summary, write_summary


def collect_parts(parts: Sequence[Path], results: Path, page: Path) -> list[dict[str, str]]:
    """Merge folders of the predict step into `results/masks/` and `results/summary.csv`, and write the gallery.

    Returns:
        The rows of the summary as text, most lesion first.
    """
    (results / "masks").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    previews: dict[str, Path] = {}
    for part in parts:
        rows += read_summary(part / SUMMARY_FILE)
        for mask in part.glob(f"*{MASK_SUFFIX}"):
            shutil.copyfile(mask, results / "masks" / mask.name)
        previews |= {png.stem: png for png in part.glob("*.png")}
    rows.sort(key=lambda row: (-float(row["lesion_ml"] or -1), row["case"]))
    write_summary(results / SUMMARY_FILE, rows)
    write_gallery(page, rows, previews)
    return rows


def write_gallery(path: Path, rows: Sequence[Mapping[str, str]], previews: Mapping[str, Path]) -> None:
    """Write a page with the rows in order, after those with an error, and the first of the PNG previews by case."""
    with_preview = [row for row in rows if row["case"] in previews]
    write_page(
        path,
        Path(__file__).parent / "gallery.html.jinja",
        pictures=[(row, webp(previews[row["case"]].read_bytes())) for row in with_preview[:MAX_PICTURES]],
        rows=sorted(rows, key=lambda row: not row["error"]),
        with_preview=len(with_preview),
        failed=sum(bool(row["error"]) for row in rows),
        with_lesion=sum(float(row["lesion_ml"] or 0) > 0 for row in rows),
    )
