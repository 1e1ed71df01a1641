"""Histograms with fixed bounds, as Prometheus keeps them: how many values are at most so long."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

from msgspec import Struct

from opsq.events import sketch

#: Bounds, in seconds, of every latency segment.
LATENCY_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
#: What Prometheus' own clients take when nobody says otherwise: the bounds of Flower and of celery-exporter.
CLIENT_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
#: celery-exporter's bounds of the wait in a queue.
WAIT_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class Exemplar(Struct, frozen=True):
    """One task that fell in a bucket: its id, the value in seconds, when (epoch seconds)."""

    task_id: str
    value_s: float
    at: float


class Buckets(Struct, frozen=True):
    """counts: values of at most each of ``bounds``, and the count of all last. sum_s: their sum in seconds.

    exemplars: by position in ``counts``.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float
    exemplars: Mapping[int, Exemplar] = {}

    @property
    def count(self) -> int:
        """How many values there are."""
        return self.counts[-1]

    def at_least(self, before: Buckets | None) -> Buckets:
        """These, nowhere less than before: a corrected count would look like a restart to Prometheus."""
        if before is None or before.bounds != self.bounds:
            return self
        counts = tuple(map(max, self.counts, before.counts))
        return Buckets(self.bounds, counts, max(self.sum_s, before.sum_s), self.exemplars)


class Histogram:
    """Counts values as they come. Thread: one adds, any reads."""

    __slots__ = ("_bounds", "_counts", "_sum_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum_s = 0.0

    def add(self, value_s: float) -> None:
        """Count a value in seconds."""
        self._counts[bisect_left(self._bounds, value_s)] += 1
        self._sum_s += value_s

    def buckets(self) -> Buckets:
        """What was counted so far."""
        return Buckets(self._bounds, tuple(accumulate(self._counts)), self._sum_s)


def places(bounds: tuple[float, ...]) -> tuple[int, ...]:
    """For each bucket of a sketch, the position among ``bounds`` that it falls in, within the sketch's error."""
    return tuple(bisect_left(bounds, sketch.value(bucket)) for bucket in range(sketch.MAX_INDEX + 1))


def summed(parts: Iterable[Buckets], bounds: tuple[float, ...]) -> Buckets:
    """Several histograms of these bounds as one, without exemplars."""
    known = list(parts)
    counts = map(sum, zip(*(part.counts for part in known), strict=True)) if known else (0,) * (len(bounds) + 1)
    return Buckets(bounds, tuple(counts), sum(part.sum_s for part in known))
