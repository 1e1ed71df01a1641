"""Charts and task types from rolled-up history: which tier answers, and what its slices say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from opsq.events import sketch
from opsq.events.life import OUTCOMES
from opsq.events.records import Percentiles, Point, TaskTypeItem
from opsq.events.rollup import ARRIVED, SEGMENTS, STARTED, STORED_TIERS, Slice, decode_slice
from opsq.events.store import Store

MOST_POINTS: Final = 400
_SUCCEEDED, _FAILED, _RETRIED, _REVOKED, _REJECTED, _IGNORED = range(len(OUTCOMES))
SHARES: Final = (0.5, 0.95, 0.99)
#: A list of task types sums at most this many slices of each; beyond, a coarser tier answers.
_TYPE_SLICES: Final = 60


def tier_for(window_s: float, most_points: int = MOST_POINTS, ended_s: float = 0.0) -> int:
    """The finest stored bucket width, in seconds, that covers a window in so many points and is kept so long.

    ended_s: how long ago the window ended.
    """
    for tier in STORED_TIERS:
        if ended_s + window_s <= tier.keep_s and window_s / tier.width_s <= most_points:
            return tier.width_s
    return STORED_TIERS[-1].width_s


def points(
    store: Store, series: str, since: float, until: float, width_s: int, now: float, *, measured: bool = True
) -> tuple[Point, ...]:
    """Every bucket of a time range, the empty ones too, oldest first. measured: with their latencies."""
    first = int(since) - int(since) % width_s
    last = int(until)
    found = {start: decode_slice(data) for start, _, data in store.slices(width_s, first, last + 1, series=series)}
    return tuple(point(found.get(start), start, width_s, now, measured) for start in range(first, last + 1, width_s))


def point(data: Slice | None, start: int, width_s: int, now: float, measured: bool = True) -> Point:
    """One bucket as a chart shows it. measured: with its latencies, which take longest."""
    is_open = start <= now < start + width_s
    if data is None:
        return Point(at=start, width_s=width_s, open=is_open)
    counts = [max(0, count) for count in data.counts]
    return Point(
        at=start,
        width_s=width_s,
        arrived=counts[ARRIVED],
        started=counts[STARTED],
        succeeded=counts[_SUCCEEDED],
        failed=counts[_FAILED],
        retried=counts[_RETRIED],
        revoked=counts[_REVOKED] + counts[_REJECTED],
        run_s=max(0.0, data.run_s),
        ready_max=data.ready_max,
        oldest_max_s=data.oldest_max_s,
        running_max=data.running_max,
        cpu_max=data.cpu_max,
        rss_max=data.rss_max,
        latency=latency(data.sketches) if measured else {},
        open=is_open,
    )


def latency(sketches: Mapping[int, Mapping[int, int]]) -> dict[str, Percentiles]:
    """Percentiles by segment name, for the segments that have samples."""
    found = {}
    for index, name in enumerate(SEGMENTS):
        measured = percentiles(sketches.get(index, {}))
        if measured is not None:
            found[name] = measured
    return found


def percentiles(held: Mapping[int, int]) -> Percentiles | None:
    """p50, p95 and p99 of a sketch, ``None`` when it is empty."""
    values = sketch.quantiles(held, SHARES)
    return None if values is None else Percentiles(values[0], values[1], values[2], sketch.count(held))


def totals(slices: Iterable[Slice]) -> Slice:
    """The sum of slices."""
    total = Slice()
    for data in slices:
        total.add(data)
    return total


def task_types(store: Store, window_s: float, now: float, until: float | None = None) -> tuple[TaskTypeItem, ...]:
    """Every task type that did something in the window, most slot time first. until: its end, ``None`` for now."""
    by_name: dict[str, list[Slice]] = {}
    end = now if until is None else min(until, now)
    width_s = tier_for(window_s, _TYPE_SLICES, now - end)
    first = int(end - window_s)
    last = int(end) + (61 if until is None else 0)
    for _, series, data in store.slices(width_s, first - first % width_s, last, prefix="t:"):
        by_name.setdefault(series[2:], []).append(decode_slice(data))
    items = [_type_item(name, totals(slices)) for name, slices in by_name.items()]
    return tuple(sorted(items, key=lambda item: (-item.total_s, item.name)))


def _type_item(name: str, total: Slice) -> TaskTypeItem:
    counts: Sequence[int] = [max(0, count) for count in total.counts]
    measured = latency(total.sketches)
    return TaskTypeItem(
        name=name,
        runs=sum(counts[: len(OUTCOMES)]),
        succeeded=counts[_SUCCEEDED],
        failed=counts[_FAILED],
        retried=counts[_RETRIED],
        total_s=max(0.0, total.run_s),
        run=measured.get("run"),
        broker=measured.get("broker"),
        prefetch=measured.get("prefetch"),
        total=measured.get("total"),
    )
