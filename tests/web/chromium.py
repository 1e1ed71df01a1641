"""A headless Chromium driven over its debugging pipe: no driver program, no extra package.

Speaks the DevTools protocol as null-ended JSON on two file descriptors.
Source: Chrome DevTools Protocol, ``--remote-debugging-pipe``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-extensions", "--remote-debugging-pipe",
)  # fmt: skip
ANSWER_S = 30.0
# Chromium reads its pipe on descriptor 3 and writes on 4; both are moved up first, or one might sit on the other.
_EXEC = """import fcntl, os, sys
ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 20) for fd in sys.argv[1:3]]
for place, fd in zip((3, 4), ends): os.dup2(fd, place, inheritable=True)
os.execv(sys.argv[3], sys.argv[3:])"""


LEFT = ("navigated or closed", "context was destroyed", "Cannot find context", "Promise was collected")


class PageLeft(RuntimeError):
    """The page that was asked is not there any more: it went to another."""


def find_chromium() -> str | None:
    """Where a Chromium is, None when there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Chromium:
    """One browser with one tab. Thread: one. said: console lines, exceptions and violations since the last page."""

    def __init__(self) -> None:
        path = find_chromium()
        if path is None:
            raise RuntimeError("no Chromium here; install the package chromium")
        self._profile = tempfile.mkdtemp(prefix="opsq-chromium-")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the browser)
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        command = [sys.executable, "-c", _EXEC, str(to_child), str(from_child), path, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(to_child, from_child), stdout=subprocess.DEVNULL, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        self._buffer = b""
        self._next = 0
        self.said: list[str] = []
        target = self.call("Target.createTarget", {"url": "about:blank"}, tab=False)["targetId"]
        attach = {"targetId": target, "flatten": True}
        self._session: str | None = self.call("Target.attachToTarget", attach, tab=False)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, params: dict[str, Any] | None = None, *, tab: bool = True) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params or {}}
        if tab:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            answer = self._receive(deadline)
            if answer.get("id") == self._next:
                if "error" in answer:
                    left = any(text in str(answer["error"]) for text in LEFT)
                    raise (PageLeft if left else RuntimeError)(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
        raise TimeoutError(f"{method}: no answer from Chromium in {ANSWER_S} s")

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return {}
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError(f"Chromium ended with {self._process.wait(10)}: {self._last_words()}")
            self._buffer += part
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Log.entryAdded":
            self.said.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.said.append(f"exception: {details.get('exception', {}).get('description') or details['text']}")
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.said.append(f"{params['type']}: {[arg.get('value') for arg in params['args']]}")

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-1000:].decode(errors="replace")

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the size and the colour scheme of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", {"media": "", "features": scheme})

    def open(self, url: str, ready: str = "document.readyState === 'complete'") -> None:
        """Open a page and wait until the expression ``ready`` is true."""
        # Over an empty page: what the one before says while its stream is cut off would be heard as this one's.
        self.call("Page.navigate", {"url": "about:blank"})
        self.until("location.href === 'about:blank' && document.readyState === 'complete'")
        self.said.clear()
        self.call("Page.navigate", {"url": url})
        self.until(f"location.href !== 'about:blank' && ({ready})")

    def until(self, expression: str, timeout_s: float = 30.0) -> None:
        """Wait until an expression is true in the page, or in the one that it leads to. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        # A page that does not have its body yet has nothing to ask about either.
        look = f"(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"
        body = (
            "new Promise((done) => { const end = Date.now() + 1000;"
            f"(function look() {{ if ({look}) done(true); else if (Date.now() > end) done(false);"
            "else setTimeout(look, 20); })() })"
        )
        asked = {"expression": body, "awaitPromise": True, "returnByValue": True}
        while time.monotonic() < deadline:
            try:
                if self.call("Runtime.evaluate", asked).get("result", {}).get("value"):
                    return
            except PageLeft:
                continue  # the page went elsewhere meanwhile; the one that came is asked
        raise TimeoutError(f"{expression} was not true in {timeout_s} s; the page said {self.said}")

    def value(self, expression: str) -> Any:
        """Evaluate an expression (or a promise) in the page."""
        found = self.call("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression[:80]}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def key(self, key: str) -> None:
        """Press and release one key."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38}.get(key)
        extra: dict[str, Any] = {"windowsVirtualKeyCode": code} if code else {"text": key}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, **extra})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", "key": key, **extra})

    def move(self, x: float, y: float) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def drag(self, x: float, y: float, to_x: float) -> None:
        """Press at a place, move along and let go."""
        held = {"button": "left", "clickCount": 1}
        self.move(x, y)
        self.call("Input.dispatchMouseEvent", {"type": "mousePressed", "x": x, "y": y, **held})
        for step in range(1, 6):
            at = x + (to_x - x) * step / 5
            moved = {"type": "mouseMoved", "x": at, "y": y, "button": "left", "buttons": 1}
            self.call("Input.dispatchMouseEvent", moved)
        self.call("Input.dispatchMouseEvent", {"type": "mouseReleased", "x": to_x, "y": y, **held})

    def box(self, selector: str) -> dict[str, float]:
        """Where the first element of a selector is, once it stands still: x, y, width, height."""
        find = f"JSON.stringify(document.querySelector({json.dumps(selector)})?.getBoundingClientRect() ?? null)"
        self.until(f"document.querySelector({json.dumps(selector)})")
        found: dict[str, float] = json.loads(self.value(find))
        return found

    def shoot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        shot = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser and remove its profile."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._write)
        os.close(self._read)
        self._log.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
