"""Show how far the publishing of a large workflow is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from opsq.core.canvas import Planned, Step

Report = Callable[[Iterable[Step]], Iterable[Step]]

_EVERY_S: Final = 0.1
_WIDTH: Final = 24


def progress_of(wanted: Any) -> Report:
    """What to pass the steps of a plan through.

    wanted: none shows nothing; true shows a line on standard error when that is a terminal; a function
    is called with the number of calls so far.
    """
    if wanted is None or wanted is False:
        return lambda steps: steps
    if callable(wanted):
        return lambda steps: _told(steps, wanted)
    return lambda steps: _told(steps, _Line()) if sys.stderr.isatty() else steps


def _told(steps: Iterable[Step], tell: Callable[[int], object]) -> Iterator[Step]:
    count = 0
    for step in steps:
        yield step
        if isinstance(step, Planned):
            count += 1
            tell(count)
    close = getattr(tell, "close", None)
    if close is not None:
        close(count)


class _Line:
    """One line, written anew ten times a second. The total is not known, so the bar moves to and fro."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next = self._began

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY_S
            self._write(count, now, "\r")

    def close(self, count: int) -> None:
        """Leave the last figure standing."""
        self._write(count, time.monotonic(), "\r", "\n")

    def _write(self, count: int, now: float, start: str, end: str = "") -> None:
        elapsed_s = max(now - self._began, 1e-9)
        place = int(elapsed_s / _EVERY_S) % (2 * _WIDTH)
        place = place if place < _WIDTH else 2 * _WIDTH - 1 - place
        bar = "=" * _WIDTH if end else " " * place + "=" + " " * (_WIDTH - 1 - place)
        sys.stderr.write(f"{start}[{bar}] {count:,} tasks published, {count / elapsed_s:,.0f}/s {end}")
        sys.stderr.flush()
