"""Screenshot of an evaluation report for the README: the top of the page as a compact PNG.

Run: python -m tests.bench.report_screenshots PAGE.html docs/images/report-evaluate.png
"""

import io
import sys
from pathlib import Path

from PIL import Image, ImageColor

from components.report.page import BLUE, GREEN, ORANGE, SKY, VERMILION
from tests.report.browser import chromium, render_page

_SIZE = (1000, 940)  # CSS pixels
_GRAYS, _TINTS = 40, (0.25, 0.5, 0.75, 1.0)  # scans are gray; the few line colors blend with their background
_BACKGROUNDS = ((255, 255, 255), (60, 60, 60), (128, 128, 128))
_HIDE_SCROLLBARS = "document.documentElement.style.overflow = 'hidden'; null"


def main(page: Path, png: Path) -> None:
    """Render the page and write the screenshot."""
    with chromium() as browser:
        rendered = render_page(browser, page.read_text(), _SIZE, _HIDE_SCROLLBARS)
    image = Image.open(io.BytesIO(rendered.screenshot)).convert("RGB")
    image.quantize(palette=_palette(), dither=Image.Dither.NONE).save(png, optimize=True)
    print(f"{png}: {image.width}×{image.height}, {png.stat().st_size / 1000:.0f} kB")


def _palette() -> Image.Image:
    """Return the colors of a page: grays, and each report color blended with white, gray and black."""
    colors = [3 * (round(255 * step / (_GRAYS - 1)),) for step in range(_GRAYS)]
    colors += [(238, 246, 251), (244, 244, 244)]  # background of the verdict
    for color in (ImageColor.getrgb(name) for name in (BLUE, SKY, ORANGE, VERMILION, GREEN)):
        colors += [
            tuple(round(share * c + (1 - share) * b) for c, b in zip(color, background, strict=True))
            for share in _TINTS
            for background in _BACKGROUNDS
        ]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for color in dict.fromkeys(colors) for part in color])
    return palette


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
