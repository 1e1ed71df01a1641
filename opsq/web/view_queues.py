"""The page of queues, and the page of one: what waits, since when, who serves it, when it is empty. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import FacetValue, Percentiles, Point, QueueItem, TaskItem, WorkerItem
from opsq.events.views import Signals
from opsq.web import charts, words
from opsq.web.faces import LIMITS
from opsq.web.view_charts import Area, area_chart, oldest_chart, rates_chart
from opsq.web.view_common import Ask, Head, Link, Places, range_links
from opsq.web.view_overview import QueueRow, queue_row
from opsq.web.view_range import Ranges
from opsq.web.view_tasks import TaskRow, task_rows
from opsq.web.view_trouble import is_behind
from opsq.web.view_workers import WorkerRow, worker_rows

LATEST: Final = 12
HEADS: Final = (
    Head("Queue"),
    Head("Waiting", "num"),
    Head("Trend", "p2"),
    Head("Oldest", "num"),
    Head("of its target"),
    Head("Prefetched", "num p3"),
    Head("Arrive /s", "num p2"),
    Head("Done /s", "num p2"),
    Head("Drained in"),
    Head("Slots"),
)


@dataclass(frozen=True, slots=True)
class QueuesView:
    """The page of queues, the one in most trouble first. verbs: what a visitor may do with each, by the row's id."""

    sentence: str
    queues: tuple[QueueRow, ...]
    heads: tuple[Head, ...]
    ranges: Ranges
    range_label: str
    quarantine_href: str
    broker: str
    verbs: Mapping[str, Link]


@dataclass(frozen=True, slots=True)
class Named:
    """A name with a count and where it leads."""

    name: str
    href: str
    count: str


@dataclass(frozen=True, slots=True)
class QueueView:
    """The page of one queue. paused: somebody told its workers not to take from it."""

    name: str
    crumbs: tuple[Link, ...]
    row: QueueRow
    strong: str
    sentence: str
    ranges: Ranges
    range_label: str
    charts: tuple[charts.Chart, ...]
    workers: tuple[WorkerRow, ...]
    waits: tuple[tuple[str, str], ...]
    runs: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    types: tuple[Named, ...]
    rows: tuple[TaskRow, ...]
    waiting_href: str
    all_href: str
    broker: str


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What the page of one queue is made from, all read at one moment."""

    queue: QueueItem
    signals: Signals
    points: Sequence[Point]
    workers: Sequence[WorkerItem]
    types: Sequence[FacetValue]
    latest: Sequence[TaskItem]


def queues_view(
    queues: Sequence[QueueItem],
    points: Mapping[str, Sequence[Point]],
    workers: Sequence[WorkerItem],
    ask: Ask,
    places: Places,
    broker: str,
    *,
    can_act: bool = False,
) -> QueuesView:
    """Build the page of queues. can_act: the monitor does not only watch."""
    behind = sum(is_behind(queue) for queue in queues)
    trouble = f", {behind} in trouble" if behind else ", all on target" if queues else ""
    ordered = sorted(queues, key=lambda queue: (not is_behind(queue), queue.name))
    rows = tuple(queue_row(queue, points.get(queue.name, ()), places, workers=workers) for queue in ordered)
    return QueuesView(
        sentence=f"{words.plural(len(queues), 'queue')}{trouble}" if queues else "No queue has been seen",
        queues=rows,
        heads=HEADS,
        ranges=range_links(ask, places, "/queues"),
        range_label=ask.range.said,
        quarantine_href=places.to("/quarantine"),
        broker=broker,
        verbs={row.id: _verb(row, places) for row in rows} if can_act and "act" in ask.visitor.grants else {},
    )


def _verb(row: QueueRow, places: Places) -> Link:
    act, label = ("queue-resume", "Resume…") if row.paused else ("queue-pause", "Pause…")
    return Link(label, places.to(f"/act/{act}", target=row.name))


def queue_view(facts: QueueFacts, ask: Ask, places: Places, broker: str, now: float) -> QueueView:
    """Build the page of one queue."""
    queue, points = facts.queue, facts.points
    row = queue_row(queue, points, places, workers=facts.workers)
    serving = [worker for worker in facts.workers if queue.name in worker.queues or worker.name in queue.workers]
    strong, sentence = _story(queue, row)
    return QueueView(
        name=queue.name,
        crumbs=(Link("Queues", places.to("/queues")),),
        row=row,
        strong=strong,
        sentence=sentence,
        ranges=range_links(ask, places, places.page("queues", queue.name).removeprefix(places.prefix)),
        range_label=ask.range.said,
        charts=(
            area_chart(Area("depth", "Waiting", "tasks", axis=False), [p.ready_max for p in points], points, now),
            oldest_chart(points),
            rates_chart(points, now),
        ),
        workers=worker_rows(serving, places, now),
        waits=_percentiles(_newest(points, "broker")),
        runs=_percentiles(facts.signals.run),
        facts=(
            ("Target", f"start within {words.duration(LIMITS.oldest_s)}"),
            ("Consumers", words.count(queue.consumers)),
            ("Not acknowledged", words.count(queue.unacked)),
            ("Arrived", _both(facts.signals.arrived_15_s, facts.signals.arrived_60_s)),
            ("Done", _both(facts.signals.done_15_s, facts.signals.done_60_s)),
            ("Failed", "no run ended in 60 s" if facts.signals.failed_share is None
             else f"{words.percent(facts.signals.failed_share)} of 60 s"),
            ("Asked the broker", words.ago(max(0.0, now - queue.sampled_at)) if queue.sampled_at else words.UNKNOWN),
        ),
        types=tuple(
            Named(value.value, places.page("types", value.value), words.count(value.count))
            for value in facts.types[:LATEST]
            if value.value
        ),
        rows=task_rows(facts.latest, places, now),
        waiting_href=places.search(queue=queue.name, state="waiting"),
        all_href=places.search(queue=queue.name),
        broker=broker,
    )  # fmt: skip


def _both(short: float, long: float) -> str:
    return f"{words.rate(short)} over 15 s, {words.rate(long)} over 60 s"


def _story(queue: QueueItem, row: QueueRow) -> tuple[str, str]:
    """Say who works on it and whether that is enough; the first part is the finding."""
    moves = f"{words.rate(queue.arrived_per_s)} arrive, {words.rate(queue.done_per_s)} are done."
    if row.paused:
        return "Paused by remote control", f"nothing is taken from it. {moves}"
    if not queue.workers and not queue.consumers:
        waits = f"{words.plural(queue.ready, 'task')} wait" if queue.ready else "nothing waits"
        return "No worker takes tasks from it", f"{waits}. {moves}"
    if row.slots_full:
        return f"All {row.slots_total} slots are busy", moves
    if row.behind:
        return f"The oldest waits {row.oldest}", f"where {row.target} is the target. {moves}"
    return "On target", moves


def _newest(points: Sequence[Point], segment: str) -> Percentiles | None:
    return next((point.latency[segment] for point in reversed(points) if segment in point.latency), None)


def _percentiles(found: Percentiles | None) -> tuple[tuple[str, str], ...]:
    if found is None:
        return ()
    return (("p50", words.duration(found.p50)), ("p95", words.duration(found.p95)), ("p99", words.duration(found.p99)),
            ("of", words.plural(found.count, "run")))  # fmt: skip
