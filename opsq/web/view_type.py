"""The page of one task type: how long it runs and how that changes, how often it fails, what it costs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import FacetValue, Percentiles, Point, TaskItem, TaskTypeItem
from opsq.events.shape import Column
from opsq.events.views import ErrorGroup
from opsq.web import charts, words
from opsq.web.view_charts import failed, latency, throughput
from opsq.web.view_common import Ask, Link, Places, range_links
from opsq.web.view_tasks import TaskRow, task_rows

LATEST: Final = 12
MAX_BINS: Final = 14


@dataclass(frozen=True, slots=True)
class BinRow:
    """Runs of one length. cells: heat of each bucket of time, None where nothing ran."""

    label: str
    count: str
    percent: int
    cells: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class TypeView:
    """The page of one task type."""

    name: str
    crumbs: tuple[Link, ...]
    sentence: str
    ranges: tuple[Link, ...]
    range_label: str
    figures: tuple[tuple[str, str, str], ...]
    charts: tuple[charts.Chart, ...]
    bins: tuple[BinRow, ...]
    from_clock: str
    segments: tuple[tuple[str, str, str, str, str], ...]
    errors: tuple[tuple[Link, str], ...]
    queues: tuple[tuple[Link, str], ...]
    workers: tuple[tuple[Link, str], ...]
    rows: tuple[TaskRow, ...]
    all_href: str
    failed_href: str


@dataclass(frozen=True, slots=True)
class TypeFacts:
    """What the page of one type is made from. whole_s: slot time of all types in the range."""

    name: str
    item: TaskTypeItem | None
    whole_s: float
    points: Sequence[Point]
    columns: Sequence[Column]
    errors: Sequence[ErrorGroup]
    queues: Sequence[FacetValue]
    workers: Sequence[FacetValue]
    latest: Sequence[TaskItem]


def type_view(facts: TypeFacts, ask: Ask, places: Places, now: float) -> TypeView:
    """Build the page of one task type."""
    item, points = facts.item, facts.points
    return TypeView(
        name=facts.name,
        crumbs=(Link("Task types", places.to("/types")),),
        sentence=_story(item, ask),
        ranges=range_links(ask, places, places.page("types", facts.name).removeprefix(places.prefix)),
        range_label=ask.range.label,
        figures=_figures(item, facts.whole_s),
        charts=(throughput(points, now), latency(points, ask.percentile), failed(points, now)),
        bins=_bins(facts.columns),
        from_clock=words.clock(facts.columns[0].at) if facts.columns else "",
        segments=_segments(item),
        errors=tuple(
            (Link(f"{group.type} {group.title.removeprefix(group.type)}"[:120], places.page("errors", group.fault)),
             words.count(group.failed))
            for group in facts.errors
        ),
        queues=tuple(
            (Link(one.value, places.page("queues", one.value)), words.count(one.count))
            for one in facts.queues
            if one.value
        ),
        workers=tuple(
            (Link(words.short_host(one.value), places.page("workers", one.value)), words.count(one.count))
            for one in facts.workers
            if one.value
        ),
        rows=task_rows(facts.latest, places, now),
        all_href=places.search(type=facts.name),
        failed_href=places.search(type=facts.name, state="failed"),
    )  # fmt: skip


def _story(item: TaskTypeItem | None, ask: Ask) -> str:
    if item is None or not item.runs:
        return f"It did not run in the last {ask.range.label}."
    ended = item.succeeded + item.failed
    fails = f"{words.percent(item.failed / ended)} failed" if item.failed and ended else "none failed"
    usual = f", usually {words.duration(item.run.p50)}, p95 {words.duration(item.run.p95)}" if item.run else ""
    return f"{words.plural(item.runs, 'run')} in the last {ask.range.label}, {fails}{usual}."


def _figures(item: TaskTypeItem | None, whole_s: float) -> tuple[tuple[str, str, str], ...]:
    if item is None:
        return ()
    ended = item.succeeded + item.failed
    share = item.total_s / whole_s if whole_s > 0 else 0.0
    return (
        ("Runs", words.count(item.runs), ""),
        ("Failed", words.count(item.failed), words.percent(item.failed / ended) if ended else ""),
        ("Retried", words.count(item.retried), ""),
        ("Slot time", words.duration(item.total_s), f"{words.percent(share)} of all types"),
        ("A run costs", words.duration(item.total_s / item.runs) if item.runs else words.NOT_APPLICABLE, "of a slot"),
    )


def _segments(item: TaskTypeItem | None) -> tuple[tuple[str, str, str, str, str], ...]:
    if item is None:
        return ()
    named: tuple[tuple[str, str, Percentiles | None], ...] = (
        ("In broker", "waiting", item.broker), ("Prefetched", "prefetched", item.prefetch),
        ("Run", "running", item.run), ("Whole", "", item.total),
    )  # fmt: skip
    return tuple(
        (label, css, *((words.NOT_APPLICABLE,) * 3 if found is None else
                       (words.duration(found.p50), words.duration(found.p95), words.duration(found.p99))))
        for label, css, found in named
    )  # fmt: skip


def _bins(columns: Sequence[Column]) -> tuple[BinRow, ...]:
    """Put the longest on top, as on a chart; the shortest bins beyond the most that are shown fold into the last."""
    totals: dict[int, int] = {}
    for column in columns:
        for bin, count in column.counts.items():
            totals[bin] = totals.get(bin, 0) + count
    if not totals:
        return ()
    high = max(totals)
    low = max(min(totals), high - MAX_BINS + 1)
    folded = [{max(low, bin): 0 for bin in column.counts} for column in columns]
    for into, column in zip(folded, columns, strict=True):
        for bin, count in column.counts.items():
            into[max(low, bin)] += count
    most = max((count for column in folded for count in column.values()), default=1)
    whole = sum(totals.values())
    rows = []
    for bin in range(high, low - 1, -1):
        count = sum(column.get(bin, 0) for column in folded)
        cells = charts.heat_steps([column.get(bin, 0) / most if column else None for column in folded])
        label = f"to {words.duration(2.0 ** (bin + 1))}"
        rows.append(BinRow(label, words.count(count), round(100 * count / whole) if count else 0, cells))
    return tuple(rows)
