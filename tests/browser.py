"""Headless Chromium for tests of pages, driven by the DevTools protocol over a pipe: no driver, no port.

page = browser.open(path, width=400, dark=True)
page.click("#sort"); page.type("input[type=search]", "ann"); page.value("document.title")
assert page.troubles() == []       # console errors, exceptions, refused and made requests
assert page.findings() == []       # what axe-core finds, from "serious" on
page.screenshot(tmp_path / "a.png")
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 60.0
IMPACTS = ("minor", "moderate", "serious", "critical")
# Pages are read from files; no name is looked up, so nothing outside is ever reached.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--hide-scrollbars", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe", "about:blank",
)  # fmt: skip


def program() -> str | None:
    """The path of a Chromium, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class BrowserError(Exception):
    """The browser did not do what it was told."""


class Browser:
    """One Chromium for many pages. Use it as a context; it ends with its context."""

    def __init__(self, chromium: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        command = [chromium, f"--user-data-dir={self._folder.name}", *FLAGS]
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "chromium", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._folder.cleanup()

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to a command. Raises BrowserError when it is an error, or none comes."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        number, end = self._number, time.monotonic() + PATIENCE_S
        while (message := self.receive(end)).get("id") != number:
            pass
        if "error" in message:
            raise BrowserError(f"{method}: {message['error'].get('message')}")
        return dict(message["result"])

    def receive(self, end: float) -> dict[str, Any]:
        """The next message; an event is kept. end: on the monotonic clock."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            read = os.read(self._from, 1 << 20) if ready else b""
            if not read:
                raise BrowserError("the browser ended" if ready else f"no answer within {PATIENCE_S:g} s")
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def open(
        self, path: Path, width: int = 1400, height: int = 900, dark: bool = False, fragment: str = "", media: str = ""
    ) -> BrowserPage:
        """A page that was loaded from a file, in a window of so many CSS pixels. media: print, or as on a screen."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = BrowserPage(self, target, session, path)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.show(dark, media)
        self.events.clear()
        page.go(f"{path.resolve().as_uri()}{fragment}")
        return page


class BrowserPage:
    """A tab of a browser."""

    def __init__(self, browser: Browser, target: str, session: str, path: Path) -> None:
        self.browser, self.target, self.session, self.path = browser, target, session, path
        self.height = 900

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command about this page."""
        return self.browser.send(method, self.session, **parameters)

    def go(self, address: str) -> None:
        """Load an address and wait until all of it is there."""
        self.send("Page.navigate", url=address)
        end = time.monotonic() + PATIENCE_S
        while not any(e["method"] == "Page.loadEventFired" for e in self._events()):
            self.browser.receive(end)

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window in CSS pixels."""
        self.height = height
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def show(self, dark: bool = False, media: str = "") -> None:
        """Show the page in light or dark colours, on a screen or, with ``media="print"``, on paper."""
        wish = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", media=media, features=wish)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives, as JSON holds it; a promise is waited for."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """The text that is shown of the first element that matches."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """The text that is shown of each element that matches and is seen."""
        return list(
            self.value(
                f"[...document.querySelectorAll({json.dumps(selector)})]"
                ".filter(e => e.checkVisibility()).map(e => e.innerText)"
            )
        )

    def count(self, selector: str) -> int:
        """How many elements match and are seen."""
        return len(self.texts(selector))

    def click(self, selector: str, number: int = 0) -> None:
        """Click the middle of an element with the mouse; number: of those that match."""
        x, y = self.value(
            f"(e => {{e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2];})"
            f"(document.querySelectorAll({json.dumps(selector)})[{number}])"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put text into a field in place of what it holds, as typed."""
        self.value(f"(e => {{e.focus(); e.select();}})(document.querySelector({json.dumps(selector)}))")
        if text:
            self.send("Input.insertText", text=text)
        else:
            self.press("Delete")

    def press(self, key: str) -> None:
        """Press a key, such as Tab, Enter, ArrowRight or Delete."""
        codes = {"Enter": 13, "Tab": 9, "Delete": 46, "Escape": 27, "Space": 32, "ArrowRight": 39, "ArrowLeft": 37}
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        name = " " if key == "Space" else key
        about = {"key": name, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def is_wide(self) -> bool:
        """Whether the page goes beyond the right border of its window."""
        return bool(self.value("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def broken_images(self) -> list[str]:
        """The beginnings of the addresses of pictures that could not be shown; folded ones are tried as well."""
        return list(
            self.value(
                "Promise.all([...document.images].map(i => i.decode().then(() => '', () => i.src.slice(0, 60) || '?')))"
                ".then(found => found.filter(Boolean))"
            )
        )

    def requests(self) -> list[str]:
        """Addresses that were asked for, besides the page itself and what it holds."""
        sent = [e["params"]["request"]["url"] for e in self._events() if e["method"] == "Network.requestWillBeSent"]
        own = self.path.resolve().as_uri()
        return [url for url in sent if not url.startswith(("data:", "blob:", "about:")) and url.split("#")[0] != own]

    def troubles(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and requests of any kind."""
        self.value("new Promise(requestAnimationFrame)")  # what the browser still has to say
        found = []
        for event in self._events():
            about = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = about["exceptionDetails"]
                found.append(str(details.get("exception", {}).get("description") or details.get("text")))
            elif event["method"] == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                found.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
            elif event["method"] == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
                found.append(" ".join(str(each.get("value")) for each in about["args"]))
        return found + [f"request: {url}" for url in self.requests()]

    def findings(self, least: str = "serious") -> list[str]:
        """What axe-core finds, of that impact or worse: rule, help, and the first elements."""
        self.value(axe_source())
        found = self.value("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
        bad = IMPACTS[IMPACTS.index(least) :]
        return [
            f"{each['id']} ({each['impact']}): {each['help']}: "
            + "; ".join(f"{' '.join(map(str, node['target']))} {node['html'][:120]}" for node in each["nodes"][:4])
            for each in found
            if each["impact"] in bad
        ]

    def screenshot(self, path: Path, whole: bool = True) -> Path:
        """A PNG file of the whole page, or of what the window shows."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def pdf(self, path: Path) -> Path:
        """The page as the browser prints it, on A4."""
        answer = self.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def close(self) -> None:
        """Close the tab."""
        self.browser.send("Target.closeTarget", targetId=self.target)

    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self.browser.events if event.get("sessionId") == self.session]


def axe_source() -> str:
    """The program of axe-core, which comes with axe-core-python. Raises ModuleNotFoundError without it."""
    found = find_spec("axe_core_python")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("axe-core-python is missing: pip install -r requirements/dev.txt")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
