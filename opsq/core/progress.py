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


def progress_of(wanted: Any, total: int | None = None) -> Report:
    """What to pass the steps of a plan through.

    wanted: none shows nothing; true shows a bar on standard error when that is a terminal; a function
    is called with the number of calls so far. total: how many there will be, where that is known.
    """
    if wanted is None or wanted is False:
        return lambda steps: steps
    if callable(wanted):
        return lambda steps: _told(steps, wanted)
    return lambda steps: _told(steps, _Line(total)) if sys.stderr.isatty() else steps


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
    """One line, written anew ten times a second. Without a total, as of a generator, the bar moves to and fro."""

    def __init__(self, total: int | None) -> None:
        self._total = total
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
        bar = "=" * _WIDTH if end else self._bar(count, elapsed_s)
        share = f"{count:,} of {self._total:,}" if self._total is not None else f"{count:,}"
        sys.stderr.write(f"{start}[{bar}] {share} tasks published, {count / elapsed_s:,.0f}/s {end}")
        sys.stderr.flush()

    def _bar(self, count: int, elapsed_s: float) -> str:
        if self._total:
            return ("=" * (count * _WIDTH // self._total)).ljust(_WIDTH)
        place = int(elapsed_s / _EVERY_S) % (2 * _WIDTH)
        place = place if place < _WIDTH else 2 * _WIDTH - 1 - place
        return " " * place + "=" + " " * (_WIDTH - 1 - place)
