"""Sums over the last seconds, kept in bins of one second: constant work per second, whatever was counted in them."""

from __future__ import annotations

from collections import deque

from opsq.autoscale import arrivals

LONG_S = 60
SHORT_S = 15
#: Run times are read over the long window, or over so much more when too few tasks ended in it.
RARE_S = 600
ENOUGH = 50


class Window:
    """Sums of several numbers over the last ``seconds``. Thread: one.

    Seconds are those of a monotonic clock; ``add`` and ``sums`` are called with times that do not run backwards.
    """

    def __init__(self, seconds: int, width: int) -> None:
        self.seconds = seconds
        self._bins: deque[tuple[int, list[float]]] = deque()
        self._sums = [0.0] * width

    def add(self, now: float, *numbers: float) -> None:
        """Count ``numbers`` in the second of ``now``."""
        second = int(now)
        if not self._bins or self._bins[-1][0] < second:
            self._bins.append((second, [0.0] * len(self._sums)))
        held = self._bins[-1][1]
        for place, number in enumerate(numbers):
            held[place] += number
            self._sums[place] += number
        self._forget(second)

    def sums(self, now: float) -> tuple[float, ...]:
        """What was counted in the last ``seconds``."""
        self._forget(int(now))
        return tuple(self._sums)

    def since(self, now: float, seconds: float) -> float:
        """The first number, over fewer seconds than the window has."""
        return sum(held[0] for second, held in self._bins if second > int(now) - seconds)

    def by_second(self, now: float) -> list[float]:
        """The first number of each second of the window, newest first, empty ones included."""
        counts = {second: held[0] for second, held in self._bins}
        return [counts.get(int(now) - back, 0.0) for back in range(self.seconds)]

    def _forget(self, second: int) -> None:
        while self._bins and self._bins[0][0] <= second - self.seconds:
            for place, number in enumerate(self._bins.popleft()[1]):
                self._sums[place] -= number
        if not self._bins:
            self._sums = [0.0] * len(self._sums)


class Arrivals:
    """Messages that came for one queue, and how old those are that wait still."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._counts = Window(LONG_S, 2)

    def add(self, now: float, count: float, again: float) -> None:
        """Count messages; again: those of them that are retries."""
        self._counts.add(now, count, again)

    def rates(self, now: float) -> tuple[float, float, float]:
        """(a second over the long window, over the short one, retries a second over the long one)."""
        lasted = max(1.0, now - self._began)
        count, again = self._counts.sums(now)
        long_s, short_s = min(lasted, LONG_S), min(lasted, SHORT_S)
        return max(0.0, count) / long_s, self._counts.since(now, SHORT_S) / short_s, max(0.0, again) / long_s

    def dispersion(self, now: float) -> float:
        """Variance over mean of the arrivals per second, of the whole seconds since it began."""
        lasted = int(min(now - self._began, LONG_S))
        return arrivals.dispersion(self._counts.by_second(now)[1 : lasted + 1])

    def ages(self, now: float, waiting: float, oldest_s: float | None = None) -> tuple[float, ...]:
        """How long messages have waited at even places of the queue, oldest first; see ``arrivals.waiting_ages``."""
        return arrivals.waiting_ages(self._counts.by_second(now), waiting, oldest_s)


class RunTimes:
    """How long the runs of one task type took and how much of it was CPU time, as far as they did not fail."""

    def __init__(self) -> None:
        # (runs, seconds, squares, CPU seconds, runs of which the CPU time is known, seconds of these)
        self._near, self._far = Window(LONG_S, 6), Window(RARE_S, 6)
        self._now = Window(SHORT_S, 2)

    def add(self, now: float, sums: tuple[float, ...]) -> None:
        """Count runs, as sums in the order of above."""
        self._near.add(now, *sums)
        self._far.add(now, *sums)
        self._now.add(now, *sums[:2])

    def sums(self, now: float) -> tuple[float, ...]:
        """The sums of the long window, or of more when too few runs ended in it."""
        near = self._near.sums(now)
        return near if near[0] >= ENOUGH else self._far.sums(now)

    def recent(self, now: float) -> tuple[float, float]:
        """(runs, seconds) of the short window."""
        runs, seconds = self._now.sums(now)
        return runs, seconds
