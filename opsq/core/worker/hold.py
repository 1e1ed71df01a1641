"""Where accepted deliveries wait: for their time to come, or for their task type's rate.

Pure: time is an argument. The owner thread asks at every tick what is due and how long it may
sleep. Waiting for a time is measured on the wall clock, because an ETA is one; waiting for a rate
on the monotonic clock, so that a step of the wall clock neither bursts nor stalls a task type.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import deque

from opsq.errors import ConfigError, Fault

_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:/\s*([smh]))?\s*$")
_PER_S = {"s": 1.0, "m": 60.0, "h": 3600.0}

CATCH_UP_S = 0.05
RATE_HELD_MAX = 1_000
"""So many waiting for a rate do not count as prefetched; beyond, a long queue of one type would move here."""


class EtaHeap:
    """Keys with the epoch second before which they must not run. Thread: the owner's."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._held: set[int] = set()

    def __len__(self) -> int:
        return len(self._held)

    def push(self, until: float, key: int) -> None:
        """Hold ``key`` until the epoch second ``until``."""
        self._held.add(key)
        heapq.heappush(self._heap, (until, key))

    def discard(self, key: int) -> bool:
        """Stop holding ``key``; true when it was held."""
        if key not in self._held:
            return False
        self._held.remove(key)
        # Otherwise what was revoked long before its time would stay in the heap until then.
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._held):
            self._heap = [item for item in self._heap if item[1] in self._held]
            heapq.heapify(self._heap)
        return True

    def due(self, now: float) -> list[int]:
        """Release and return every key whose time has come, earliest first."""
        keys = []
        while self._heap and self._heap[0][0] <= now:
            key = heapq.heappop(self._heap)[1]
            if key in self._held:
                self._held.remove(key)
                keys.append(key)
        return keys

    def next_at(self) -> float | None:
        """The epoch second of the earliest key; None when nothing is held."""
        while self._heap and self._heap[0][1] not in self._held:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def times(self) -> dict[int, float]:
        """What is held, with its epoch second. Thread: any."""
        return {key: until for until, key in self._heap.copy() if key in self._held}

    def clear(self) -> list[int]:
        """Release everything at once and return the keys."""
        keys, self._held, self._heap = list(self._held), set(), []
        return keys


def parse_rate(text: str | float | None) -> float:
    """Read ``"10/m"``, ``"5/s"``, ``"2/h"`` or a number per second; 0.0 means no limit.

    Raises: ConfigError.
    """
    if text is None or text == "":
        return 0.0
    match = _RATE.match(str(text))
    if match is None:
        raise ConfigError([Fault(f"expected a rate such as 10/s, 100/m or 5/h, got {text!r}", "rate_limit")])
    return float(match[1]) / _PER_S[match[2] or "s"]


class RateGate:
    """The token bucket of one task type, and the keys that wait for a token.

    Capacity is one token, as in Celery: time without work is never made up for by a burst. Only
    lateness of the ticks is, up to ``CATCH_UP_S``, so that a busy machine does not lower the rate.
    closed: nothing passes, because the task type is paused. Thread: the owner's.
    """

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self.closed = False
        self._last_at = -math.inf
        self._next_at = -math.inf
        self._waiting: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def set_rate(self, per_s: float) -> None:
        """Let keys pass at another rate, counted from the last that passed; 0.0 for no limit."""
        self.per_s = per_s
        self._next_at = self._last_at + 1.0 / per_s if per_s > 0 else -math.inf

    def take(self, key: int, now: float) -> bool:
        """Pass at once, or queue ``key`` and answer false. ``now`` in monotonic seconds."""
        if self.closed:
            self._waiting.append(key)
            return False
        if self.per_s <= 0:
            return True
        if not self._waiting and now >= self._next_at:
            self._passed(now, now)
            return True
        self._waiting.append(key)
        return False

    def due(self, now: float) -> list[int]:
        """Keys that may pass now, in order of arrival."""
        if self.closed:
            return []
        if self.per_s <= 0:
            return self.clear()
        keys = []
        while self._waiting and now >= self._next_at:
            keys.append(self._waiting.popleft())
            self._passed(now, max(self._next_at, now - CATCH_UP_S))
        return keys

    def wait_s(self, now: float) -> float | None:
        """Seconds until the next key may pass; None when none waits."""
        return max(0.0, self._next_at - now) if self._waiting and not self.closed else None

    def waiting(self) -> list[int]:
        """The keys that wait, in order. Thread: any."""
        return list(self._waiting)

    def _passed(self, now: float, counted_from: float) -> None:
        self._last_at = now
        self._next_at = counted_from + 1.0 / self.per_s

    def discard(self, key: int) -> bool:
        """Stop holding ``key``; true when it waited here."""
        try:
            self._waiting.remove(key)
        except ValueError:
            return False
        return True

    def clear(self) -> list[int]:
        """Stop holding anything and return the keys."""
        keys = list(self._waiting)
        self._waiting.clear()
        return keys
