"""The questions the pages ask: the only place where pages meet the monitor's read side.

What many viewers look at is read once and shared for a moment; what must be of this instant is not.
Thread: any; each function blocks as long as the store takes, so the asyncio side calls it through a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec import structs

from opsq.errors import OpsqError
from opsq.events.faults import fault_of
from opsq.events.records import (
    Facets,
    Percentiles,
    Point,
    QueueItem,
    TaskDetail,
    TaskItem,
    TaskPage,
    TaskTypeItem,
    WorkerItem,
)
from opsq.events.search import of
from opsq.events.views import ErrorGroup, FlowItem
from opsq.events.workflows import Workflow
from opsq.web import api, hiding
from opsq.web.access.door import STRANGER, Visitor
from opsq.web.deps import Deps
from opsq.web.hands import SetAside
from opsq.web.memo import HISTORY_S, NOW_S
from opsq.web.metrics import Scrape
from opsq.web.terms import Filter
from opsq.web.view_common import RANGES, Ask, Range
from opsq.web.view_overview import MAX_FAILURES, OverviewFacts
from opsq.web.view_queues import LATEST, QueueFacts
from opsq.web.view_task import Usual
from opsq.web.view_tasks import series_of
from opsq.web.view_type import TypeFacts
from opsq.web.view_worker import MAX_RUNNING, WorkerFacts

T = TypeVar("T")

DAY: Final = next(each for each in RANGES if each.key == "24h")
PAGE_ROWS: Final = 50
MAX_QUEUE_SERIES: Final = 20
SETTLED_S: Final = 120.0
MOST_ERRORS_READ: Final = 20
MOST_ASIDE: Final = 200
BROKER_S: Final = 5.0
MAX_FLOWS: Final = 200
MAX_WORKER_SERIES: Final = 30
SCRAPE_WINDOW_S: Final = 300.0
USUAL_WINDOW_S: Final = 86_400.0
LEAST_POINTS: Final = 30


def _history(deps: Deps, key: tuple[object, ...], read: Callable[[], T]) -> T:
    return deps.memo.get(key, HISTORY_S, read)


def workers(deps: Deps) -> tuple[WorkerItem, ...]:
    """Read the workers, at most a fraction of a second old."""
    return deps.memo.get(("workers",), NOW_S, deps.query.workers)


def queues(deps: Deps) -> tuple[QueueItem, ...]:
    """Read the queues, at most a fraction of a second old."""
    return deps.memo.get(("queues",), NOW_S, deps.query.queues)


def width_for(chosen: Range) -> int | None:
    """Pick the bucket width of a range's charts; None leaves it to the history."""
    return {900: 10, 3600: 60}.get(int(chosen.length_s))


def range_for(deps: Deps, ask: Ask) -> Range:
    """Pick the range: what was asked, else 15 minutes while there is nothing older to see."""
    if ask.range_given:
        return ask.range
    older = _history(deps, ("older",), lambda: _has_older(deps))
    return ask.range if older else RANGES[0]


def _has_older(deps: Deps) -> bool:
    points = deps.query.series(RANGES[1].length_s)
    edge = deps.clock.now() - RANGES[0].length_s
    return any(point.arrived or point.done for point in points if point.at + point.width_s < edge)


def overview_facts(deps: Deps, ask: Ask, shown: Range) -> OverviewFacts:
    """Read what the overview is made from."""
    length, width = shown.length_s, width_for(shown)
    found_queues, found_workers = queues(deps), workers(deps)
    began_at = min((worker.first_seen_at for worker in found_workers), default=0.0)
    points = _history(deps, ("series", length), lambda: deps.query.series(length, width_s=width))
    skip = unwatched(points, began_at)
    return OverviewFacts(
        overview=deps.query.overview(),
        points=points[skip:],
        queues=found_queues,
        queue_points=_history(deps, ("queues", length), lambda: _queue_points(deps, found_queues, length, width, skip)),
        workers=found_workers,
        worker_points=_history(
            deps, ("heat", length), lambda: _worker_points(deps, found_workers, length, width, skip)
        ),
        types=task_types(deps, shown),
        failures=_failures(deps, ask.visitor),
    )


def _failures(deps: Deps, visitor: Visitor) -> tuple[TaskItem, ...]:
    newest = _history(deps, ("failures",), lambda: deps.query.tasks(of(state="failed"), limit=MAX_FAILURES))
    return hiding.page(newest, visitor).items


def unwatched(points: Sequence[Point], began_at: float) -> int:
    """Count the leading buckets from before anybody watched: they are not zero but unknown, and are not drawn."""
    seen = next((i for i, p in enumerate(points) if p.at + p.width_s > began_at or p.arrived or p.done), len(points))
    return max(0, min(seen, len(points) - LEAST_POINTS))


def _queue_points(
    deps: Deps, found: Sequence[QueueItem], length: float, width: int | None, skip: int
) -> dict[str, Sequence[Point]]:
    names = [queue.name for queue in found[:MAX_QUEUE_SERIES]]
    return {name: deps.query.series(length, queue=name, width_s=width)[skip:] for name in names}


def _worker_points(
    deps: Deps, found: Sequence[WorkerItem], length: float, width: int | None, skip: int
) -> dict[str, Sequence[Point]]:
    names = [worker.name for worker in found if worker.slots][:MAX_WORKER_SERIES]
    return {name: deps.query.series(length, worker=name, width_s=width)[skip:] for name in names}


def task_types(deps: Deps, shown: Range) -> tuple[TaskTypeItem, ...]:
    """Read the task types of a range."""
    return _history(deps, ("types", shown.key), lambda: deps.query.task_types(shown.length_s))


def task_page(deps: Deps, asked: Filter, ask: Ask) -> tuple[TaskPage, Facets]:
    """Read a page of tasks under a filter as the visitor may see it, and the counts beside it."""
    search = hiding.asked_by(asked, ask.visitor).search
    page = deps.query.tasks(search, before=ask.before, limit=ask.limit or PAGE_ROWS)
    return hiding.page(page, ask.visitor), deps.query.facets(search)


def filter_points(deps: Deps, asked: Filter, ask: Ask) -> tuple[Point, ...]:
    """Read the history of a filter, where it is kept: none of a filter that mixes names or looks into texts."""
    chosen = series_of(asked)
    if chosen is None:
        return ()
    return _one_series(deps, ask.range, type=chosen.type, queue=chosen.queue, worker=chosen.worker)


def task(deps: Deps, task_id: str, visitor: Visitor = STRANGER) -> TaskDetail | None:
    """Read one task as the visitor may see it."""
    found = deps.query.task(task_id)
    return None if found is None else hiding.detail(found, visitor)


def usual(deps: Deps, type_name: str | None) -> Usual:
    """Read what is usual for a type."""
    if type_name is None:
        return Usual()
    read = _history(deps, ("types", "usual"), lambda: deps.query.task_types(USUAL_WINDOW_S))
    found = next((item for item in read if item.name == type_name), None)
    return Usual(found.broker, found.prefetch, found.run) if found else Usual()


def queue_points(deps: Deps, shown: Range) -> dict[str, Sequence[Point]]:
    """Read the history of every queue over a range."""
    length, width = shown.length_s, width_for(shown)
    return _history(deps, ("queues", length), lambda: _queue_points(deps, queues(deps), length, width, 0))


def queue(deps: Deps, name: str, ask: Ask) -> QueueFacts | None:
    """Read one queue; None when neither broker nor events ever named it."""
    found = next((each for each in queues(deps) if each.name == name), None)
    if found is None:
        return None
    latest = deps.query.tasks(of(queue=literal(name)), limit=LATEST)
    return QueueFacts(
        queue=found,
        signals=_history(deps, ("queue", name), lambda: deps.views.queue_signals(name)),
        points=_one_series(deps, ask.range, queue=name),
        workers=workers(deps),
        types=_history(deps, ("queue-types", name), lambda: deps.query.facets(of(queue=literal(name)))).type,
        latest=hiding.page(latest, ask.visitor).items,
    )


def worker(deps: Deps, name: str, ask: Ask) -> WorkerFacts | None:
    """Read one worker; None when it was never heard."""
    found = next((each for each in workers(deps) if each.name == name), None)
    if found is None:
        return None
    running = deps.query.tasks(of(worker=literal(name), state="running"), limit=MAX_RUNNING)
    latest = deps.query.tasks(of(worker=literal(name)), limit=LATEST)
    types = _history(deps, ("worker-types", name), lambda: deps.query.facets(of(worker=literal(name)))).type
    return WorkerFacts(
        worker=found,
        points=_one_series(deps, ask.range, worker=name),
        running=hiding.page(running, ask.visitor).items,
        latest=hiding.page(latest, ask.visitor).items,
        history=deps.views.worker_history(name),
        types=sorted(value.value for value in types if value.value),
        usual=usual_runs(deps),
    )


def _one_series(
    deps: Deps, shown: Range, *, type: str | None = None, queue: str | None = None, worker: str | None = None
) -> tuple[Point, ...]:
    length, width = shown.length_s, width_for(shown)
    key = ("one", type, queue, worker, length)
    return _history(deps, key, lambda: deps.query.series(length, type=type, queue=queue, worker=worker, width_s=width))


def literal(name: str) -> str:
    """Write a name as a pattern that only fits itself; letters with a meaning fit any letter."""
    return "".join("?" if letter in "*?[]," else letter for letter in name)


def usual_runs(deps: Deps) -> dict[str, Percentiles | None]:
    """Read how long each task type ran over the last day."""
    read = _history(deps, ("types", "usual"), lambda: deps.query.task_types(USUAL_WINDOW_S))
    return {item.name: item.run for item in read}


def errors(deps: Deps, visitor: Visitor) -> tuple[ErrorGroup, ...]:
    """Read the error groups as the visitor may see them."""
    found = _history(deps, ("errors",), deps.views.errors)
    return tuple(_seen_error(group, visitor) for group in found)


def error(deps: Deps, fault: str, ask: Ask) -> ErrorGroup | None:
    """Read one error group as the visitor may see it."""
    length = ask.range.length_s
    found = _history(deps, ("error", fault, length), lambda: deps.views.error(fault, window_s=length))
    return None if found is None else _seen_error(found, ask.visitor)


def error_of(deps: Deps, detail: TaskDetail, ask: Ask) -> ErrorGroup | None:
    """Read the error group that a failed task belongs to; None when it did not fail or nothing tells its cause."""
    if detail.item.state not in ("FAILURE", "RETRY"):
        return None
    failed = next((one for one in reversed(detail.tries) if one.fingerprint or one.exception), None)
    if failed is None:
        return None
    # What is hidden from a visitor would make another cause of it; then only the worker's fingerprint tells.
    if failed.fingerprint is None and not hiding.sees_payload(ask.visitor):
        return None
    return error(deps, fault_of(failed.exception, failed.traceback, failed.fingerprint), ask)


def _seen_error(group: ErrorGroup, visitor: Visitor) -> ErrorGroup:
    """Leave of a group's texts the type alone: messages and tracebacks quote what was passed."""
    if hiding.sees_payload(visitor):
        return group
    return structs.replace(
        group, title=hiding.HIDDEN, exception=hiding.exception_type(group.exception) or "", traceback=""
    )


def last_start(deps: Deps) -> float | None:
    """Tell when a worker was last started, as far as this monitor saw: what is newer may come from a deploy."""
    return _history(deps, ("last-start",), lambda: _last_start(deps))


def _last_start(deps: Deps) -> float | None:
    known = workers(deps)[:MAX_WORKER_SERIES]
    # What started when this monitor began to watch says nothing: all errors would be new.
    began_at = min((found.first_seen_at for found in known), default=0.0)
    times = [
        entry.at
        for found in known
        for entry in deps.views.worker_history(found.name)
        if entry.what in ("started", "restarted") and entry.at > began_at + SETTLED_S
    ]
    return max(times, default=None)


def task_type(deps: Deps, name: str, ask: Ask) -> TypeFacts | None:
    """Read one task type; None when no task of it is known."""
    facets = _history(deps, ("type-facets", name), lambda: deps.query.facets(of(type=literal(name))))
    types = task_types(deps, ask.range)
    item = next((each for each in types if each.name == name), None)
    if item is None and not any(value.value == name for value in facets.type):
        return None
    latest = deps.query.tasks(of(type=literal(name)), limit=LATEST)
    length = ask.range.length_s
    failing = [deps.views.error(group.fault) for group in errors(deps, ask.visitor)[:MOST_ERRORS_READ]]
    return TypeFacts(
        name=name,
        item=item,
        whole_s=sum(each.total_s for each in types),
        points=_one_series(deps, ask.range, type=name),
        columns=_history(deps, ("shape", name, length), lambda: deps.views.run_shape(name, window_s=length)),
        errors=[_seen_error(group, ask.visitor) for group in failing if group is not None and name in group.types][:8],
        queues=facets.queue,
        workers=facets.worker,
        latest=hiding.page(latest, ask.visitor).items,
    )


def quarantine(deps: Deps, visitor: Visitor) -> tuple[tuple[SetAside, ...] | None, str]:
    """Read what was set aside as the visitor may see it, and in words why it could not be read. Asks the broker."""
    hands = deps.hands
    if hands is None:
        return None, "this monitor only watches"
    try:
        found = deps.memo.get(("quarantine",), BROKER_S, lambda: hands.quarantined(MOST_ASIDE))
    except OpsqError as error:
        return None, str(error)
    if hiding.sees_payload(visitor):
        return found, ""
    return tuple(structs.replace(one, reason=hiding.HIDDEN, details=()) for one in found), ""


def workflows(deps: Deps) -> tuple[FlowItem, ...]:
    """Read the workflows that moved of late."""
    return _history(deps, ("workflows",), lambda: deps.views.workflows(limit=MAX_FLOWS))


def workflow(deps: Deps, root: str) -> Workflow | None:
    """Read one workflow."""
    return _history(deps, ("workflow", root), lambda: deps.views.workflow(root))


def scrape(deps: Deps) -> Scrape:
    """Read everything that ``/metrics`` tells."""
    return Scrape(
        counters=deps.query.counters(),
        strip=deps.query.strip(),
        freshness=deps.query.freshness(),
        workers=deps.query.workers(),
        queues=deps.query.queues(),
        types=deps.query.task_types(SCRAPE_WINDOW_S),
    )


def api_overview(deps: Deps) -> api.ApiOverview:
    """Read the answer of ``GET /api/v1/overview``."""
    return api.overview(deps.query.overview(), deps.query.counters(), deps.query.queues(), deps.query.workers())
