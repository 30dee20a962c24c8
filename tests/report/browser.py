"""A headless Chromium that renders reports as the Kubeflow UI does: in a sandboxed frame that may only run scripts."""

import html
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, sync_playwright

PHONE, DESKTOP = (390, 844), (1280, 900)  # CSS pixels
_FRAME = """<!doctype html>
<style>body { margin: 0 } iframe { border: 0; display: block; width: 100%; height: 100vh }</style>"""


@dataclass(frozen=True)
class RenderedPage:
    """A page as the browser rendered it.

    Attributes:
        text: visible text.
        problems: script errors, console errors and warnings, violations of the page's content security policy.
        requests: requested addresses other than inlined data.
        overflow_px: by how much the page is wider than the window.
        result: value of the script that ran in the page.
        screenshot: PNG of the top of the page.
    """

    text: str
    problems: list[str]
    requests: list[str]
    overflow_px: int
    result: Any
    screenshot: bytes


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """Start the system's Chromium; skip the test where it is not installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed; run: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *flags])
        yield browser
        browser.close()


def render_page(browser: Browser, page_html: str, size: tuple[int, int], script: str = "null") -> RenderedPage:
    """Open a page in a window of this (width, height) and evaluate a script in it."""
    problems: list[str] = []
    requests: list[str] = []

    def record(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            problems.append(message.text)

    with browser.new_page(viewport={"width": size[0], "height": size[1]}) as tab:
        tab.on("console", record)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.set_content(f'{_FRAME}<iframe sandbox="allow-scripts" srcdoc="{html.escape(page_html)}"></iframe>')
        frame = tab.frames[1]
        frame.wait_for_load_state()
        result = frame.evaluate(script)
        text = frame.evaluate("document.body.innerText")
        overflow_px = frame.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        remote = [url for url in requests if not url.startswith(("data:", "about:"))]
        return RenderedPage(text, problems, remote, overflow_px, result, tab.screenshot())
