"""How long the runs of a task type took, as counts by length and time, for histograms and heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log2
from typing import Final

from msgspec import Struct

from opsq.events import series as rolled
from opsq.events import sketch
from opsq.events.rollup import SEGMENTS, decode_slice
from opsq.events.store import Store

_RUN: Final = SEGMENTS.index("run")
_LEAST_S: Final = 1e-4
#: A sketch tells lengths to 2 %, so that bins a fifth wide are honest.
BINS_PER_DOUBLING: Final = 4


class Column(Struct, frozen=True):
    """One bucket of time. counts: runs that ended in it, by bin; bin ``n`` holds 2^(n/4) to 2^((n+1)/4) seconds."""

    at: float
    width_s: int
    counts: Mapping[int, int]


def run_shape(
    store: Store, type: str, window_s: float, now: float, until: float | None = None, most: int = 60
) -> tuple[Column, ...]:
    """Runs of a task type over the window, oldest first, the empty buckets too. Blocks on the store.

    until: end of the window in epoch seconds, ``None`` for now.
    """
    end = now if until is None else min(until, now)
    width_s = rolled.tier_for(window_s, most, now - end)
    first = int(end - window_s + width_s)
    first -= first % width_s
    found = store.slices(width_s, first, int(end) + 1, series="t:" + type)
    held = {start: decode_slice(data).sketches.get(_RUN, {}) for start, _, data in found}
    return tuple(Column(at, width_s, _bins(held.get(at, {}))) for at in range(first, int(end) + 1, width_s))


def _bins(held: Mapping[int, int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for bucket, amount in held.items():
        if amount > 0:
            bin = floor(BINS_PER_DOUBLING * log2(max(_LEAST_S, sketch.value(bucket))))
            counts[bin] = counts.get(bin, 0) + amount
    return counts
