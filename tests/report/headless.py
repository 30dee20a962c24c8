"""A real headless Chromium for looking at reports, spoken to through its own debugging protocol.

Every page is shown as the Kubeflow UI shows it: in a sandboxed frame that may run scripts and nothing else.
"""

import base64
import html
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websocket

PHONE, DESKTOP = (390, 844), (1280, 900)  # CSS pixels
_START_S, _REPLY_S = 60, 60


@dataclass(frozen=True)
class Shown:
    """What a page came to in the browser.

    Attributes:
        text: what a reader sees.
        problems: script errors, console errors and violations of the page's own policy.
        requests: addresses that were asked for, other than inlined data.
        overflow_px: by how much the page is wider than its window.
        answer: of the script that was run in it.
        picture: PNG of the top of the page.
    """

    text: str
    problems: list[str]
    requests: list[str]
    overflow_px: int
    answer: Any
    picture: bytes


class Chromium:
    """One browser; `show` opens a page in a new tab and closes it again."""

    def __init__(self, address: str, folder: Path):
        self._socket = websocket.create_connection(address, timeout=_REPLY_S, suppress_origin=True)
        self._folder = folder
        self._ids = itertools.count(1)
        self._events: list[dict] = []

    def show(self, page: str, size: tuple[int, int], script: str = "null") -> Shown:
        """Open a page at a window's size, run a script in it, and tell what happened."""
        style = "<style>body { margin: 0 } iframe { border: 0; display: block; width: 100%; height: 100vh }</style>"
        frame = f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(page)}"></iframe>'
        (self._folder / "frame.html").write_text(f"<!doctype html>{style}{frame}")
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._events.clear()
        for domain in ("Page", "Network", "Runtime", "Log", "Audits"):
            self._call(f"{domain}.enable", session)
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", session, **metrics)
        self._call("Page.navigate", session, url=(self._folder / "frame.html").as_uri())
        context = self._frame_context(session)
        evaluate = {"contextId": context, "returnByValue": True, "awaitPromise": True}
        self._value(
            session,
            evaluate,
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))",
        )
        answer = self._value(session, evaluate, script)
        text = self._value(session, evaluate, "document.body.innerText")
        overflow = self._value(
            session, evaluate, "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        picture = base64.b64decode(self._call("Page.captureScreenshot", session)["data"])
        self._call("Target.closeTarget", targetId=target)
        return Shown(text, list(self._problems()), list(self._requests()), overflow, answer, picture)

    def close(self) -> None:
        """End the browser."""
        self._socket.close()

    def _frame_context(self, session: str) -> int:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            contexts = [
                event["params"]["context"]
                for event in self._events
                if event["method"] == "Runtime.executionContextCreated"
            ]
            tree = self._call("Page.getFrameTree", session)["frameTree"]
            for child in tree.get("childFrames", []):
                for context in contexts:
                    aux = context["auxData"]
                    if aux["frameId"] == child["frame"]["id"] and child["frame"]["url"] == "about:srcdoc":
                        return context["id"]
            time.sleep(0.05)
        raise TimeoutError("the page's frame did not appear")

    def _value(self, session: str, evaluate: dict, script: str) -> Any:
        reply = self._call("Runtime.evaluate", session, expression=script, **evaluate)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def _problems(self) -> Iterator[str]:
        for event in self._events:
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                yield json.dumps(params["exceptionDetails"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                yield json.dumps(params["args"])
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                yield params["entry"]["text"]
            elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
                yield json.dumps(params["issue"])

    def _requests(self) -> Iterator[str]:
        for event in self._events:
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                if not url.startswith(("data:", "about:", (self._folder / "frame.html").as_uri())):
                    yield url

    def _call(self, method: str, session: str | None = None, **params: Any) -> dict:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._socket.send(json.dumps(message))
        while True:
            reply = json.loads(self._socket.recv())
            if reply.get("id") == number:
                assert "error" not in reply, (method, reply)
                return reply["result"]
            if "method" in reply:
                self._events.append(reply)


@contextmanager
def chromium(folder: Path, *more_flags: str) -> Iterator[Chromium]:
    """Run Chromium with a profile in `folder`; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine; install it with: apt install chromium")
    profile = folder / "profile"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    # In one process with its parent, a sandboxed frame can be asked through the parent's session.
    flags += ["--remote-debugging-port=0", "--disable-features=IsolateSandboxedIframes", f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [program, *flags, *more_flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            browser = Chromium(_address(profile / "DevToolsActivePort", process), folder)
            yield browser
            browser.close()
        finally:
            process.terminate()


def _address(file: Path, process: subprocess.Popen) -> str:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        lines = file.read_text().split() if file.is_file() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        assert process.poll() is None, "Chromium ended at once"
        time.sleep(0.1)
    raise TimeoutError("Chromium did not open its debugging port")
