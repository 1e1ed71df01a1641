"""The page of one task type: how long it runs and how that changes, how often it fails, what it costs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import FacetValue, Percentiles, Point, TaskItem, TaskTypeItem
from opsq.events.shape import BINS_PER_DOUBLING, Column
from opsq.events.views import ErrorGroup
from opsq.web import charts, words
from opsq.web.charts_data import Plot, heat_axis, moment
from opsq.web.view_charts import failed, latency, throughput
from opsq.web.view_common import Ask, Link, Places, percentile_links, range_links
from opsq.web.view_range import Range, Ranges
from opsq.web.view_tasks import TaskRow, task_rows

LATEST: Final = 12
MAX_BINS: Final = 16
_FOLDS: Final = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class BinRow:
    """Runs of one length. percent: against the most frequent. cells: heat of each bucket, None where nothing ran."""

    label: str
    count: str
    share: str
    percent: int
    cells: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class TypeView:
    """The page of one task type."""

    name: str
    crumbs: tuple[Link, ...]
    sentence: str
    ranges: Ranges
    range_label: str
    shown: Range
    figures: tuple[tuple[str, str, str], ...]
    charts: tuple[charts.Chart, ...]
    percentiles: tuple[Link, ...]
    bins: tuple[BinRow, ...]
    bins_plot: Plot | None
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
        range_label=ask.range.said,
        figures=_figures(item, facts.whole_s),
        charts=(throughput(points, now), latency(points, now, ask.percentile), failed(points, now)),
        percentiles=percentile_links(ask, places, places.page("types", facts.name).removeprefix(places.prefix)),
        bins=_bins(facts.columns),
        bins_plot=heat_axis(facts.columns),
        from_clock=moment(facts.columns[0].at, facts.columns[0].width_s) if facts.columns else "",
        shown=ask.range,
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
        return f"It did not run {ask.range.when}."
    ended = item.succeeded + item.failed
    fails = f"{words.percent(item.failed / ended)} failed" if item.failed and ended else "none failed"
    usual = f", usually {words.duration(item.run.p50)}, p95 {words.duration(item.run.p95)}" if item.run else ""
    return f"{words.plural(item.runs, 'run')} {ask.range.when}, {fails}{usual}."


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
    """Put the longest on top, as on a chart, in bins as narrow as the rows allow."""
    known = [bin for column in columns for bin in column.counts]
    if not known:
        return ()
    fold = next(n for n in _FOLDS if n == _FOLDS[-1] or (max(known) // n) - (min(known) // n) < MAX_BINS)
    high = max(known) // fold
    low = max(min(known) // fold, high - MAX_BINS + 1)
    folded = [_folded(column.counts, fold, low) for column in columns]
    most = max((count for column in folded for count in column.values()), default=1)
    whole = sum(sum(column.values()) for column in folded)
    largest = max(sum(column.get(bin, 0) for column in folded) for bin in range(low, high + 1))
    rows = []
    for bin in range(high, low - 1, -1):
        count = sum(column.get(bin, 0) for column in folded)
        cells = charts.heat_steps([column.get(bin, 0) / most if column else None for column in folded])
        label = words.duration(2.0 ** ((bin + 1) * fold / BINS_PER_DOUBLING))
        share = words.percent(count / whole) if count else ""
        rows.append(BinRow(label, words.count(count), share, round(100 * count / largest), cells))
    return tuple(rows)


def _folded(counts: Mapping[int, int], fold: int, low: int) -> dict[int, int]:
    """Put bins together; the shortest beyond the rows that are shown count in the last."""
    found: dict[int, int] = {}
    for bin, count in counts.items():
        into = max(low, bin // fold)
        found[into] = found.get(into, 0) + count
    return found
