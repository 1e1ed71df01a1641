"""Doing what a person does on the pages: a monitor, a browser, buttons and dialogs; with workers of either kind."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opsq.monitor import build
from opsq.settings import Settings
from opsq.web.server import WebServer
from tests.web.chromium import Chromium

PATIENCE_S = 60.0


@contextmanager
def running_monitor(settings: Settings) -> Iterator[str]:
    """A monitor of a broker; gives the URL of its pages."""
    graph = build(settings)
    graph.start()
    try:
        yield graph.provided[WebServer].address.url
    finally:
        graph.stop(5.0)


def until(look: Callable[[], Any], what: str) -> Any:
    """Look until something is there."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come about in {PATIENCE_S} s"
        time.sleep(0.05)
    return found


class Hand:
    """A person with a mouse before one browser. script: the pages run their script."""

    def __init__(self, browser: Chromium, url: str) -> None:
        self.browser = browser
        self.url = url
        self.script = True

    @contextmanager
    def without_script(self) -> Iterator[None]:
        """For the block, read and act as a browser without script does."""
        self._run_script(False)
        try:
            yield
        finally:
            self._run_script(True)

    def _run_script(self, on: bool) -> None:
        self.script = on
        self.browser.call("Emulation.setScriptExecutionDisabled", {"value": not on})

    def open(self, page: str) -> None:
        """Open a page and wait until it is whole. Timers do not run without script, so the browser is asked again."""
        self.browser.said.clear()
        self.browser.call("Page.navigate", {"url": self.url + page})
        self.wait_for("document.readyState === 'complete'")

    def act(self, page: str, label: str, fills: dict[str, str] | None = None) -> str:
        """Open a page once the act's button is there and possible, press it, fill in, confirm; what was said then."""
        self.open_ask(page, label)
        return self._confirmed(fills or {})

    def open_ask(self, page: str, label: str) -> None:
        """Open a page once a button is there and possible, press it, and wait for what it asks or shows."""
        buttons = "[...document.querySelectorAll('a.button')]"
        self._open_with(page, f"{buttons}.find(a => a.innerText.startsWith({json.dumps(label)}))")
        self.wait_for(f"document.querySelector('{self._where} [data-sheet]')")

    def look(self, page: str, label: str, words: str) -> None:
        """Press the button of a look and wait until its answer has certain words."""
        self.open_ask(page, label)
        self.wait_for(f"document.querySelector('{self._where} [data-sheet]')?.innerText.includes({json.dumps(words)})")

    @property
    def _where(self) -> str:
        return "#ask" if self.script else "main"

    def turn(self, page: str, act: str, fills: dict[str, str], of: str = "") -> str:
        """Fill in a small form of a worker's control table and press its button, then confirm; what was said then.

        of: the form that stands beside this, such as a queue's name, where there are several.
        """
        forms = f"[...document.querySelectorAll('#worker-control form[action$=\"/act/{act}\"]')]"
        form = f"{forms}.find(form => form.innerText.includes({json.dumps(of)}))"
        self._open_with(page, f"{form}?.querySelector('button:not([disabled])')", form, fills)
        return self._confirmed({})

    def rows(self, page: str, selector: str) -> list[str]:
        """The texts of the rows of a table."""
        self.open(page)
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return list(self.browser.value(f"{found}.map(row => row.innerText)"))

    def _open_with(self, page: str, button: str, form: str = "", fills: dict[str, str] | None = None) -> None:
        def there() -> bool:
            self.open(page)
            return bool(self.browser.value(f"Boolean({button})"))

        until(there, f"{button} of {page}")
        for name, value in (fills or {}).items():
            self.browser.value(f"void ({form}.querySelector('[name={name}]').value = {json.dumps(value)})")
        self.press(button)

    def _confirmed(self, fills: dict[str, str]) -> str:
        where = self._where
        self.wait_for(f"document.querySelector('{where} form [id=do-it]')")
        for name, value in fills.items():
            field = f"document.querySelector('{where} [name={name}]')"
            self.browser.value(f"void ({field}.value = {json.dumps(value)})")
            self.browser.value(f"void {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
        self.press(f"document.querySelector('{where} [id=do-it]')")
        self.wait_for(f"document.querySelector('{where} [id=outcome]')")
        said = str(self.browser.value(f"document.querySelector('{where}').innerText"))
        assert ": done" in said, said
        return said

    def press(self, element: str) -> None:
        """Click in the middle of an element, as a mouse does; what lies over it would get the click."""
        self.browser.value(f"void {element}.scrollIntoView({{block: 'center'}})")
        middle = "[b.x + b.width / 2, b.y + b.height / 2]"
        box = self.browser.value(f"(() => {{ const b = {element}.getBoundingClientRect(); return {middle}; }})()")
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.call(
                "Input.dispatchMouseEvent", {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            )

    def enter(self) -> None:
        """Press Enter on what has the focus."""
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        self.browser.call("Input.dispatchKeyEvent", {"type": "keyDown", "text": "\r", **key})
        self.browser.call("Input.dispatchKeyEvent", {"type": "keyUp", **key})

    def wait_for(self, expression: str) -> None:
        """Wait for something of this page or the next; a question that the old page was asked dies with it."""

        def there() -> bool:
            try:
                return bool(self.browser.value(f"Boolean({expression})"))
            except RuntimeError as error:
                if "navigated" not in str(error) and "context" not in str(error):
                    raise
                return False

        until(there, expression)
