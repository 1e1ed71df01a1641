"""Latency sketches of all time as histograms with fixed bounds; what did not change is not counted again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Final

from opsq.events import sketch
from opsq.events.bounds import LATENCY_S, Buckets, Exemplar, places
from opsq.events.rollup import SEGMENTS, Slice, Sums
from opsq.web.metrics_names import OTHER

_PLACES: Final = places(LATENCY_S)
_VALUES: Final = tuple(sketch.value(bucket) for bucket in range(sketch.MAX_INDEX + 1))
_RUN: Final = SEGMENTS.index("run")

#: Counts by place, not added up, and the sum in seconds.
_Counted = tuple[list[int], float]
_BySegment = tuple[_Counted, ...]
#: By (label value, position in SEGMENTS), then by position among LATENCY_S.
Examples = Mapping[tuple[str, int], Mapping[int, Exemplar]]


class Latencies:
    """Histograms by label value and segment. Thread: one scrape at a time."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Sums, _BySegment]] = {}

    def rows(
        self, sums: Mapping[str, Sums], whole: Slice, kept: Callable[[str], str], examples: Examples | None = None
    ) -> Mapping[str, tuple[Buckets | None, ...]]:
        """Count the sketches of each name that is told apart; of the others, what is left of the ``whole``.

        Gives, by label value, a histogram for each segment or None where nothing was measured.
        """
        known: dict[str, tuple[Sums, _BySegment]] = {}
        for name, data in sums.items():
            if kept(name) == name:
                before = self._known.get(name)
                known[name] = before if before is not None and before[0] is data else (data, _counted(data))
        self._known = known
        found = {name: counted for name, (_, counted) in known.items()}
        if len(known) < len(sums):
            found[OTHER] = _without(_counted(whole), found.values())
        return {
            label: tuple(
                _buckets(counted, (examples or {}).get((label, segment), {}))
                for segment, counted in enumerate(by_segment)
            )
            for label, by_segment in found.items()
        }


def _counted(data: Slice | Sums) -> _BySegment:
    sketches = data.sketches
    return tuple(
        _count(sketches.get(segment, {}), data.run_s if segment == _RUN else None) for segment in range(len(SEGMENTS))
    )


def _count(held: Mapping[int, int], sum_s: float | None) -> _Counted:
    counts = [0] * (len(LATENCY_S) + 1)
    total_s = 0.0
    for bucket, amount in held.items():
        counts[_PLACES[bucket]] += amount
        total_s += _VALUES[bucket] * amount
    return counts, total_s if sum_s is None else sum_s


def _without(whole: _BySegment, parts: Iterable[_BySegment]) -> _BySegment:
    left = [(list(counts), sum_s) for counts, sum_s in whole]
    for part in parts:
        left = [
            ([one - other for one, other in zip(counts, taken, strict=True)], sum_s - taken_s)
            for (counts, sum_s), (taken, taken_s) in zip(left, part, strict=True)
        ]
    return tuple(left)


def _buckets(counted: _Counted, examples: Mapping[int, Exemplar]) -> Buckets | None:
    # Of two looks at a history that moves, the second may have more: nothing is ever below zero.
    whole = tuple(accumulate(max(0, count) for count in counted[0]))
    return Buckets(LATENCY_S, whole, max(0.0, counted[1]), examples) if whole[-1] else None
