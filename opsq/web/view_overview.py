"""The overview: is it bad, since when, where do I click. Records in, view records out; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import Overview, Point, QueueItem, TaskTypeItem, WorkerItem
from opsq.web import charts, words
from opsq.web.charts_data import Plot, heat_axis, moment
from opsq.web.faces import LIMITS
from opsq.web.view_charts import failed, latency, throughput
from opsq.web.view_common import Ask, Link, Places, percentile_links, range_links, row_id
from opsq.web.view_errors import Counted, ErrorLine, Since, error_line
from opsq.web.view_range import Range, Ranges
from opsq.web.view_trouble import Verdict, is_behind, verdict
from opsq.web.view_types import TypeRow, type_rows
from opsq.web.view_workers import WorkerRow, served_slots, told_paused, worker_rows

MAX_TYPES: Final = 8
MAX_CHANGES: Final = 7


@dataclass(frozen=True, slots=True)
class QueueRow:
    """One queue in the overview. target_percent: how much of its target the oldest has used up."""

    id: str
    name: str
    href: str
    behind: bool
    waiting: str
    taken: str
    oldest: str
    target: str
    target_percent: int
    arrive: str
    done: str
    drained: str
    never: bool
    served: str
    spark: charts.Trace | None
    paused: bool = False
    squares: tuple[str, ...] = ()
    slots: str = ""
    slots_total: str = ""
    slots_full: bool = False


@dataclass(frozen=True, slots=True)
class OverviewView:
    """All that the overview shows."""

    verdict: Verdict
    ranges: Ranges
    range_label: str
    cell_label: str
    from_clock: str
    to_clock: str
    heat_plot: Plot | None
    charts: tuple[charts.Chart, ...]
    percentiles: tuple[Link, ...]
    queues: tuple[QueueRow, ...]
    workers: tuple[WorkerRow, ...]
    types: tuple[TypeRow, ...]
    types_total: int
    types_href: str
    workers_href: str
    queues_href: str
    errors: tuple[ErrorLine, ...]
    errors_total: int
    errors_href: str
    audit_href: str
    shown: Range
    broker: str
    most_changes: int = MAX_CHANGES


@dataclass(frozen=True, slots=True)
class OverviewFacts:
    """What the overview is made from, all read at one moment. errors: those that came most in the range."""

    overview: Overview
    points: Sequence[Point]
    queues: Sequence[QueueItem]
    queue_points: Mapping[str, Sequence[Point]]
    workers: Sequence[WorkerItem]
    worker_points: Mapping[str, Sequence[Point]]
    types: Sequence[TaskTypeItem]
    errors: Sequence[Counted]
    errors_total: int
    since: Since


def overview_view(facts: OverviewFacts, ask: Ask, places: Places, broker: str, now: float) -> OverviewView:
    """Build the whole page from facts of one moment."""
    points = facts.points
    all_told = all(worker.queues for worker in facts.workers if worker.status == "online")
    return OverviewView(
        verdict=verdict(facts.overview, facts.queues, facts.workers, places, now),
        ranges=range_links(ask, places, "/"),
        range_label=ask.range.said,
        cell_label=_cell(points),
        from_clock=moment(points[0].at, points[0].width_s) if points else "",
        to_clock=moment(min(now, points[-1].at + points[-1].width_s), points[-1].width_s) if points else "",
        heat_plot=heat_axis(points),
        charts=(throughput(points, now), latency(points, now, ask.percentile), failed(points, now)),
        percentiles=percentile_links(ask, places, "/"),
        queues=tuple(queue_row(q, facts.queue_points.get(q.name, ()), places, all_told) for q in _worst(facts.queues)),
        workers=worker_rows(facts.workers, places, now, facts.worker_points),
        types=type_rows(facts.types, places)[:MAX_TYPES],
        types_total=len(facts.types),
        types_href=places.to("/types"),
        workers_href=places.to("/workers"),
        queues_href=places.to("/queues"),
        errors=tuple(error_line(each, facts.since, places, now) for each in facts.errors),
        errors_total=facts.errors_total,
        errors_href=places.to("/errors") + ask.query(p=""),
        audit_href=places.to("/audit") if "audit" in ask.visitor.grants else "",
        shown=ask.range,
        broker=broker,
    )


def _cell(points: Sequence[Point]) -> str:
    """Say how long one bucket is: ``a minute``, ``10 s``."""
    width = points[0].width_s if points else 60
    return "a minute" if width == 60 else f"each {words.duration(width)}"


def _worst(queues: Sequence[QueueItem]) -> list[QueueItem]:
    """Order queues by trouble first, then by name, so that rows keep their places while nothing is wrong."""
    return sorted(queues, key=lambda queue: (not is_behind(queue), queue.name))


def queue_row(
    queue: QueueItem,
    points: Sequence[Point],
    places: Places,
    all_told: bool = True,
    workers: Sequence[WorkerItem] = (),
) -> QueueRow:
    """Say how one queue stands against its target. all_told: every worker says which queues it serves.

    workers: of the whole fleet; the slots of those that serve it are counted.
    """
    serving = [worker for worker in workers if queue.name in worker.queues or worker.name in queue.workers]
    squares, said, total, full = served_slots(serving)
    paused = bool(serving) and all(f"queue {queue.name}" in told_paused(worker) for worker in serving)
    behind = is_behind(queue)
    share = 0.0 if queue.oldest_age_s is None else queue.oldest_age_s / LIMITS.oldest_s
    drained, never = _drained(queue)
    depths = [None if point.ready_max is None else float(point.ready_max) for point in points]
    known = any(depth is not None for depth in depths)
    return QueueRow(
        id="q-" + row_id(queue.name),
        name=queue.name,
        href=places.page("queues", queue.name),
        behind=behind,
        waiting=words.count(queue.ready),
        taken=words.count(queue.unacked),
        oldest=words.NOT_APPLICABLE if queue.ready == 0 else words.duration(queue.oldest_age_s),
        target=words.duration(LIMITS.oldest_s),
        target_percent=0 if share <= 0 else min(100, max(1, round(share * 100))),
        arrive=words.significant(round(queue.arrived_per_s, 2)),
        done=words.significant(round(queue.done_per_s, 2)),
        drained="paused" if paused else drained,
        never=never,
        served=_served(queue, all_told),
        spark=charts.spark(depths, width=120) if known else None,
        paused=paused,
        squares=squares,
        slots=said or _served(queue, all_told),
        slots_total=total,
        slots_full=full,
    )


def _served(queue: QueueItem, all_told: bool) -> str:
    if queue.workers:
        return words.plural(len(queue.workers), "worker")
    if queue.consumers:
        return words.plural(queue.consumers, "consumer")
    return "no worker" if all_told else words.UNKNOWN


def _drained(queue: QueueItem) -> tuple[str, bool]:
    """Say when the queue is empty at this pace: ``never`` is trouble only when something waits."""
    if queue.ready is None:
        return words.UNKNOWN, False
    if queue.ready == 0:
        return words.NOT_APPLICABLE, False
    if queue.drain_s is not None:
        return words.duration(queue.drain_s), False
    grows = (queue.arrived_per_s - queue.done_per_s) * 60
    if grows >= 0.5:
        return f"never, grows {words.significant(round(grows))}/min", is_behind(queue)
    if queue.done_per_s > 0:
        return words.duration(queue.ready / queue.done_per_s), False
    return "nothing moves", is_behind(queue)
