"""How many deliveries a consumer holds at once."""

from __future__ import annotations

from typing import Protocol

# Rates are judged over at least this long, or over this many settlements, whichever comes first.
_WINDOW_S = 0.05
_IDLE_S = 1.0


class Prefetch(Protocol):
    """A policy for the number of unsettled deliveries. Thread: the owner's."""

    @property
    def limit(self) -> int:
        """Most deliveries to hold now."""
        ...

    def observe(self, settled: int, full: bool, now: float) -> None:
        """Be told what was settled, whether the limit was reached, and the monotonic time."""
        ...


class Fixed:
    """Always the same number."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)

    @property
    def limit(self) -> int:
        """The number."""
        return self._limit

    def observe(self, settled: int, full: bool, now: float) -> None:
        """Learn nothing."""


class Adaptive:
    """As many deliveries as are worked off in ``target_s`` seconds, by measurement.

    It starts at ``floor`` (one per slot), at most doubles each time the limit proves too small,
    drops at once when work slows down, and starts anew after a second without work: a worker that
    has just run a thousand quick tasks must not take a thousand slow ones from its neighbours.
    Only time spent at the limit counts, since an empty queue says nothing about speed.
    """

    def __init__(self, floor: int, *, target_s: float = 0.1, ceiling: int = 10_000) -> None:
        self.floor = max(floor, 1)
        self.target_s = target_s
        self.ceiling = max(ceiling, self.floor)
        self._limit = self.floor
        self._since = 0.0
        self._settled = 0
        self._full = False
        self._busy_at = 0.0

    @property
    def limit(self) -> int:
        """Most deliveries to hold now."""
        return self._limit

    def observe(self, settled: int, full: bool, now: float) -> None:
        """Count, and judge once per window."""
        self._settled += settled
        self._full = self._full or full
        if settled:
            self._busy_at = now
        elapsed = now - self._since
        if elapsed < _WINDOW_S and self._settled < 2 * self._limit:
            return
        if self._settled == 0 and elapsed < self.target_s * 5:
            return  # tasks longer than the window: judged when the first of them ends
        if self._full:
            self._judge(self._settled / max(elapsed, 1e-4))
        elif now - self._busy_at > _IDLE_S:
            self._limit = self.floor
        self._since, self._settled, self._full = now, 0, False

    def _judge(self, per_second: float) -> None:
        # The floor runs; the work ahead comes on top, or a slot would idle until the next fetch.
        wanted = self.floor + int(per_second * self.target_s)
        self._limit = min(wanted, 2 * self._limit, self.ceiling)
