"""Time as an object, so that tests can hold it still.

``SystemClock`` reads the machine, ``ManualClock`` moves only when told to. Epoch seconds order
things for people and across machines; monotonic seconds measure. ``LamportClock`` orders events
between processes that exchange messages.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Where a component takes the time from."""

    def now(self) -> float:
        """Epoch seconds, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clocks. Thread: any."""

    def now(self) -> float:
        """Epoch seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until ``advance`` is called. Thread: any."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        """Epoch seconds, as last set."""
        return self._now

    def monotonic(self) -> float:
        """The same seconds; this clock has one hand."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forwards by ``seconds`` (≥ 0)."""
        if seconds < 0:
            raise ValueError(f"a clock moves forwards, got {seconds}")
        with self._lock:
            self._now += seconds


class LamportClock:
    """A logical clock: every send ticks it, every receive moves it past what was seen.

    Thread: any. Source: Celery event protocol, field ``clock``.
    """

    def __init__(self, value: int = 0) -> None:
        self._value = value
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        """The last value given out."""
        return self._value

    def tick(self, by: int = 1) -> int:
        """Advance by ``by`` and return the first new value: it and those after it are for as many outgoing messages."""
        with self._lock:
            first = self._value + 1
            self._value += by
            return first

    def witness(self, seen: int) -> int:
        """Move past ``seen``, a value from an incoming message, and return the new value."""
        with self._lock:
            self._value = max(self._value, seen) + 1
            return self._value
