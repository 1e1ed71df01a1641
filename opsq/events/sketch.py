"""Latency sketches: counts in logarithmic buckets, relative error at most 2 %, mergeable and bounded.

A sketch is a plain ``dict`` from bucket index to count, so merging is adding and taking away is subtracting:
when evidence changes, what a row contributed can be taken back. Values from 1 µs to about 8 years have buckets
of their own, everything beyond shares the last; at most ``MAX_INDEX + 1`` entries exist.
Source: the logarithmic mapping of DDSketch (Masson, Rim, Lee, VLDB 2019), without its collapsing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, log
from typing import Final

RELATIVE_ERROR: Final = 0.019
SMALLEST_S: Final = 1e-6
_GAMMA: Final[float] = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG: Final = 1.0 / log(_GAMMA)
_OFFSET: Final = ceil(log(SMALLEST_S) * _PER_LOG)
MAX_INDEX: Final = ceil(log(2.5e8) * _PER_LOG) - _OFFSET

#: The longest duration of each bucket but the last. Looked up, because a logarithm a value takes longer.
_BOUNDS: Final = tuple(_GAMMA ** (bucket + _OFFSET) for bucket in range(MAX_INDEX))

Sketch = dict[int, int]


def index(value_s: float) -> int:
    """The bucket of a duration in seconds; 0 holds everything up to a microsecond."""
    return bisect_left(_BOUNDS, value_s)


def value(bucket: int) -> float:
    """The duration in seconds that stands for a bucket, within ``RELATIVE_ERROR`` of all it holds."""
    if bucket <= 0:
        return 0.0
    power: float = _GAMMA ** (bucket + _OFFSET)
    return 2.0 * power / (_GAMMA + 1.0)


def merge(into: Sketch, other: Mapping[int, int], sign: int = 1) -> None:
    """Add another sketch, or take it away with ``sign`` −1; empty buckets disappear."""
    if not into and sign == 1:
        into.update(other)
        return
    for bucket, count in other.items():
        total = into.get(bucket, 0) + sign * count
        if total:
            into[bucket] = total
        else:
            into.pop(bucket, None)


def merged(sketches: Iterable[Mapping[int, int]]) -> Sketch:
    """The sum of sketches."""
    total: Sketch = {}
    for sketch in sketches:
        merge(total, sketch)
    return total


def count(sketch: Mapping[int, int]) -> int:
    """How many values it holds."""
    amounts = sketch.values()
    return sum(amounts) if min(amounts, default=1) > 0 else sum(amount for amount in amounts if amount > 0)


def quantiles(sketch: Mapping[int, int], shares: Sequence[float]) -> list[float] | None:
    """The values in seconds at ascending ``shares`` (0–1), ``None`` when it is empty."""
    buckets = sorted(sketch.items())
    if min(sketch.values(), default=1) <= 0:  # rare: of what was taken away before it was added
        buckets = [(bucket, amount) for bucket, amount in buckets if amount > 0]
    total = count(sketch)
    if not total:
        return None
    found: list[float] = []
    below = 0
    position = 0
    for share in shares:
        rank = share * (total - 1)
        while below + buckets[position][1] <= rank:
            below += buckets[position][1]
            position += 1
        found.append(value(buckets[position][0]))
    return found
