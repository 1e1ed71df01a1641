"""How often each error came over a window, all groups at once: the trends of a list of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from opsq.events import series as rolled
from opsq.events.life import OUTCOMES
from opsq.events.rollup import FAULT, decode_slice
from opsq.events.store import Store

MOST_BUCKETS: Final = 60
_COUNTED: Final = (OUTCOMES.index("failed"), OUTCOMES.index("retried"))


class ErrorTrends(Struct, frozen=True):
    """Failures and retries of each group by bucket, oldest first. A group that did not fail then is not in it."""

    start_at: float
    width_s: int
    counts: Mapping[str, tuple[int, ...]]


def error_trends(store: Store, window_s: float, now: float, until: float | None = None) -> ErrorTrends:
    """Read the trends over a window that ends at ``until`` or now. Blocks on the store."""
    end = now if until is None else min(until, now)
    width_s = rolled.tier_for(window_s, MOST_BUCKETS, now - end)
    first = int(end - window_s + width_s)
    first -= first % width_s
    buckets = len(range(first, int(end) + 1, width_s))
    found: dict[str, list[int]] = {}
    for start, name, data in store.slices(width_s, first, int(end) + 1, prefix=FAULT):
        counts = decode_slice(data).counts
        row = found.setdefault(name.removeprefix(FAULT), [0] * buckets)
        row[(start - first) // width_s] += sum(max(0, counts[kind]) for kind in _COUNTED)
    return ErrorTrends(first, width_s, {fault: tuple(row) for fault, row in found.items() if any(row)})
