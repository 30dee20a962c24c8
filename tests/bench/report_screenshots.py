"""Pictures of the reports of a run for the README: the top of each page on a desk, as compact PNG.

Run: python -m tests.bench.report_screenshots docs/images validate=PAGE.html train=PAGE.html evaluate=PAGE.html
"""

import io
import sys
from pathlib import Path

from PIL import Image, ImageColor

from components.report.page import BLUE, GREEN, ORANGE, SKY, VERMILION
from tests.report.browser import chromium, render_page

WIDTH, HEIGHTS = 1000, {"validate": 890, "train": 585, "evaluate": 893}  # CSS pixels
_GRAYS, _TINTS = 40, (0.25, 0.5, 0.75, 1.0)  # scans are gray; lines have few colors, mixed with what they lie on
_GROUNDS = ((255, 255, 255), (60, 60, 60), (128, 128, 128))
_WITHOUT_BARS = "document.documentElement.style.overflow = 'hidden'; null"


def main(folder: Path, pages: dict[str, Path]) -> None:
    """Write `report-<name>.png` for each page."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, page in pages.items():
            shown = render_page(browser, page.read_text(), (WIDTH, HEIGHTS[name]), _WITHOUT_BARS)
            picture = Image.open(io.BytesIO(shown.screenshot)).convert("RGB")
            path = folder / f"report-{name}.png"
            picture.quantize(palette=_palette(), dither=Image.Dither.NONE).save(path, optimize=True)
            print(f"{path}: {picture.width}×{picture.height}, {path.stat().st_size / 1000:.0f} kB")


def _palette() -> Image.Image:
    """The colors of a page: grays, and each color of the reports upon white, gray and black."""
    colors = [3 * (round(255 * step / (_GRAYS - 1)),) for step in range(_GRAYS)]
    colors += [(238, 246, 251), (244, 244, 244)]  # behind the first sentence
    for color in (ImageColor.getrgb(name) for name in (BLUE, SKY, ORANGE, VERMILION, GREEN)):
        colors += [
            tuple(round(share * c + (1 - share) * g) for c, g in zip(color, ground, strict=True))
            for share in _TINTS
            for ground in _GROUNDS
        ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for color in dict.fromkeys(colors) for part in color])
    return palette


if __name__ == "__main__":
    main(Path(sys.argv[1]), {name: Path(page) for name, _, page in (word.partition("=") for word in sys.argv[2:])})
