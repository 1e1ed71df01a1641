"""Cameras: they look at the cluster's state at intervals.

For ``opsq events --camera`` and Celery users' own cameras. Source: Celery's ``celery.events.snapshot``.
"""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from opsq.events.state import State

__all__ = ["Polaroid", "State"]


class Polaroid:
    """A camera: subclass it and write ``on_shutter(state)``, called every ``freq`` seconds when events have come.

    maxrate: most pictures per second, or ``"10/m"``; the rest are left out. clear_after: forget after
    each picture all but the tasks that are under way. Thread: the one that calls ``tick``.
    """

    clear_after: ClassVar[bool] = False

    def __init__(
        self,
        state: State,
        freq: float = 1.0,
        maxrate: float | str | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: Any = None,
    ) -> None:
        self.state = state
        self.app = app
        self.freq = freq
        self.cleanup_freq = cleanup_freq
        self.pictures = 0
        self._between_s = _between_s(maxrate)
        self._next_at = time.monotonic() + freq
        self._clean_at = time.monotonic() + cleanup_freq
        self._taken_at = float("-inf")
        self._lock = threading.Lock()

    def on_shutter(self, state: State) -> None:
        """Look at ``state``; for you to write."""

    def on_cleanup(self) -> None:
        """Throw away what is old, every ``cleanup_freq`` seconds; for you to write."""

    def install(self) -> None:
        """Nothing to do; Celery's cameras set their timers here."""

    def tick(self) -> float:
        """Take a picture if it is time; seconds until the next."""
        now = time.monotonic()
        if now >= self._clean_at:
            self._clean_at = now + self.cleanup_freq
            self.on_cleanup()
        if now >= self._next_at:
            self._next_at = now + self.freq
            if now - self._taken_at >= self._between_s:
                self._taken_at = now
                self.capture()
        return max(0.0, min(self._next_at, self._clean_at) - now)

    def capture(self) -> None:
        """Take a picture now, unless nothing was heard since the last."""
        with self._lock:
            if self.state.event_count:
                self.on_shutter(self.state)
                self.pictures += 1
            if self.clear_after:
                self.state.clear()

    def cancel(self) -> None:
        """Take no more pictures."""
        self._next_at = self._clean_at = float("inf")

    def __enter__(self) -> Polaroid:
        self.install()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()


def _between_s(maxrate: float | str | None) -> float:
    """Seconds between two pictures at this rate. Raises: ValueError."""
    if not maxrate:
        return 0.0
    number, _, unit = str(maxrate).partition("/")
    return {"s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}[unit.strip()] / float(number)
