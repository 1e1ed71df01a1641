"""Reads that many viewers share: the first of a moment pays, the others get the same answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from opsq.clock import Clock, SystemClock

T = TypeVar("T")

NOW_S: Final = 0.2
HISTORY_S: Final = 0.9
MOST_ANSWERS: Final = 256


class Memo:
    """Keeps answers for a fraction of a second. Thread: any; two that miss together both read, which is harmless."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._answers: dict[tuple[object, ...], tuple[float, Any]] = {}

    def get(self, key: tuple[object, ...], keep_s: float, read: Callable[[], T]) -> T:
        """Give the answer kept under ``key`` if it is younger than ``keep_s`` seconds, else read and keep it."""
        now = self._clock.monotonic()
        with self._lock:
            kept = self._answers.get(key)
        if kept is not None and now - kept[0] < keep_s:
            found: T = kept[1]
            return found
        answer = read()
        with self._lock:
            if len(self._answers) >= MOST_ANSWERS:
                self._answers.clear()
            self._answers[key] = (now, answer)
        return answer
