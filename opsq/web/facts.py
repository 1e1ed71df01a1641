"""The questions the pages ask: the only place where pages meet the monitor's read side.

What many viewers look at is read once and shared for a moment; what must be of this instant is not.
Thread: any; each function blocks as long as the store takes, so the asyncio side calls it through a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
    TaskPage,
    TaskTypeItem,
    WorkerItem,
)
from opsq.events.search import literal, of
from opsq.events.views import ErrorGroup, FlowItem
from opsq.events.workflows import Workflow
from opsq.web import api, hiding
from opsq.web.access.door import STRANGER, Visitor
from opsq.web.deps import Deps
from opsq.web.hands import SetAside
from opsq.web.memo import HISTORY_S, NOW_S
from opsq.web.terms import Filter
from opsq.web.view_common import Ask
from opsq.web.view_queues import LATEST, QueueFacts
from opsq.web.view_range import RANGES, Range
from opsq.web.view_task import Usual
from opsq.web.view_task_around import Around
from opsq.web.view_task_chart import series_of
from opsq.web.view_task_facets import ErrorCount
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
#: Reading a hundred runs costs as much as the rest of the worker's page, and says the same for a while.
SLOTS_S: Final = 5.0
MAX_FLOWS: Final = 200
MAX_WORKER_SERIES: Final = 30
USUAL_WINDOW_S: Final = 86_400.0
#: Figures of a window are read again when a part of so many of it went by, at the latest after MOST_KEPT_S seconds.
KEPT_PARTS: Final = 8_640
MOST_KEPT_S: Final = 30.0
MOST_BUCKETS: Final = 120
MOST_COUNTED: Final = 6


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
    return None if chosen.own else {900: 10, 3600: 60}.get(int(chosen.length_s))


def task_types(deps: Deps, shown: Range) -> tuple[TaskTypeItem, ...]:
    """Read the task types of a range."""
    return _types_over(deps, shown.length_s, shown.end_at)


def _types_over(deps: Deps, length_s: float, end_at: float | None = None) -> tuple[TaskTypeItem, ...]:
    keep_s = min(MOST_KEPT_S, max(HISTORY_S, length_s / KEPT_PARTS))
    key = ("types", length_s, end_at)
    return deps.memo.get(key, keep_s, lambda: deps.query.task_types(length_s, until=end_at))


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
    return series_over(deps, ask.range, type=chosen.type, queue=chosen.queue, worker=chosen.worker)


def task(deps: Deps, task_id: str, visitor: Visitor = STRANGER) -> TaskDetail | None:
    """Read one task as the visitor may see it."""
    found = deps.query.task(task_id)
    return None if found is None else hiding.detail(found, visitor)


def usual(deps: Deps, type_name: str | None) -> Usual:
    """Read what is usual for a type."""
    if type_name is None:
        return Usual()
    read = _types_over(deps, USUAL_WINDOW_S)
    found = next((item for item in read if item.name == type_name), None)
    return Usual(found.broker, found.prefetch, found.run) if found else Usual()


def queue_points(deps: Deps, shown: Range, skip: int = 0) -> dict[str, Sequence[Point]]:
    """Read the history of every queue over a range, without the first ``skip`` buckets."""
    names = [queue.name for queue in queues(deps)[:MAX_QUEUE_SERIES]]
    return {name: series_over(deps, shown, queue=name)[skip:] for name in names}


def queue(deps: Deps, name: str, ask: Ask) -> QueueFacts | None:
    """Read one queue; None when neither broker nor events ever named it."""
    found = next((each for each in queues(deps) if each.name == name), None)
    if found is None:
        return None
    latest = deps.query.tasks(of(queue=literal(name)), limit=LATEST, counted=False)
    return QueueFacts(
        queue=found,
        signals=_history(deps, ("queue", name), lambda: deps.views.queue_signals(name)),
        points=series_over(deps, ask.range, queue=name),
        workers=workers(deps),
        types=_history(deps, ("queue-types", name), lambda: deps.query.facets(of(queue=literal(name)))).type,
        latest=hiding.page(latest, ask.visitor).items,
    )


def worker(deps: Deps, name: str, ask: Ask) -> WorkerFacts | None:
    """Read one worker; None when it was never heard."""
    found = next((each for each in workers(deps) if each.name == name), None)
    if found is None:
        return None
    running = deps.query.tasks(of(worker=literal(name), state="running"), limit=MAX_RUNNING, counted=False)
    latest = deps.query.tasks(of(worker=literal(name)), limit=LATEST, counted=False)
    facets = _history(deps, ("worker-facets", name), lambda: deps.query.facets(of(worker=literal(name))))
    return WorkerFacts(
        worker=found,
        points=series_over(deps, ask.range, worker=name),
        running=hiding.page(running, ask.visitor).items,
        latest=hiding.page(latest, ask.visitor).items,
        history=deps.views.worker_history(name),
        types=sorted(value.value for value in facets.type if value.value),
        usual=usual_runs(deps),
        held=sum(value.count for value in facets.state if value.value == "RECEIVED"),
        can_act=deps.hands is not None,
        slots=deps.memo.get(("worker-slots", name), SLOTS_S, lambda: deps.views.slots(name)),
    )


def series_over(
    deps: Deps, shown: Range, *, type: str | None = None, queue: str | None = None, worker: str | None = None,
    measured: bool = True,
) -> tuple[Point, ...]:  # fmt: skip
    """Read the history of everything, or of one type, queue or worker, over a range. measured: with latencies."""
    key = ("one", type, queue, worker, shown.length_s, shown.end_at, measured)
    width = width_for(shown)
    read = partial(deps.query.series, type=type, queue=queue, worker=worker, width_s=width, measured=measured)
    return _history(deps, key, lambda: read(shown.length_s, until=shown.end_at))


def usual_runs(deps: Deps) -> dict[str, Percentiles | None]:
    """Read how long each task type ran over the last day."""
    read = _types_over(deps, USUAL_WINDOW_S)
    return {item.name: item.run for item in read}


def errors(deps: Deps, visitor: Visitor) -> tuple[ErrorGroup, ...]:
    """Read the error groups as the visitor may see them."""
    found = _history(deps, ("errors",), deps.views.errors)
    return tuple(_seen_error(group, visitor) for group in found)


def error(deps: Deps, fault: str, ask: Ask) -> ErrorGroup | None:
    """Read one error group as the visitor may see it."""
    length, end = ask.range.length_s, ask.range.end_at
    found = _history(deps, ("error", fault, length, end), lambda: deps.views.error(fault, window_s=length, until=end))
    return None if found is None else _seen_error(found, ask.visitor)


def error_counts(deps: Deps, asked: Filter, ask: Ask) -> tuple[ErrorCount, ...]:
    """Count failures by their error under a filter; None where it has terms that nobody counts them by.

    The errors are those heard of last, and the one that the filter is about.
    """
    if not hiding.sees_payload(ask.visitor):
        return ()
    names = {term.name for term in asked.terms} - {"fault"}
    state, by_type, chosen = asked.value("state").lower(), asked.value("type"), asked.value("fault")
    exact = not asked.text and not asked.fault and names <= {"type", "state"} and state in ("", "failed", "failure")
    known = [group for group in errors(deps, ask.visitor) if group.failed]
    found = []
    for group in known[:MOST_COUNTED] + [group for group in known[MOST_COUNTED:] if group.fault == chosen]:
        failed = _failed(deps, group, by_type, ask) if exact else None
        if failed != 0 or group.fault == chosen:
            found.append(ErrorCount(group, failed))
    return tuple(found)


def _failed(deps: Deps, group: ErrorGroup, by_type: str, ask: Ask) -> int | None:
    """Count the tasks of a type (empty for all) that failed by an error; None where retries are counted among them."""
    whole = error(deps, group.fault, ask) if by_type else group
    if whole is None or (by_type and by_type not in whole.types):
        return 0
    if not by_type or len(whole.types) == 1:
        return whole.failed
    return whole.types[by_type] if not whole.retried else None


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


def around(deps: Deps, detail: TaskDetail) -> Around:
    """Read what was around a task: its worker at that time, and the workflow it belongs to, where it is still known."""
    item = detail.item
    found = next((each for each in workers(deps) if each.name == item.worker), None)
    at = item.finished_at or item.started_at or item.received_at
    root = item.root_id or item.id
    flow = next((each for each in workflows(deps) if each.root == root), None)
    return Around(found, _bucket_at(deps, found.name, at) if found is not None and at else None, flow)


def _bucket_at(deps: Deps, worker: str, at: float) -> Point | None:
    """Read a worker's figures at a moment, from buckets as fine as are worth reading."""
    ago = deps.clock.now() - at
    width = next((width for width in (10, 60, 3600) if ago < width * MOST_BUCKETS), None)
    if width is None:
        return None
    points = _history(
        deps, ("then", worker, int(at), width), lambda: deps.query.series(ago + width, worker=worker, width_s=width)
    )
    return next((point for point in points if point.at <= at < point.at + width), None)


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
    latest = deps.query.tasks(of(type=literal(name)), limit=LATEST, counted=False)
    length, end = ask.range.length_s, ask.range.end_at
    failing = [deps.views.error(group.fault) for group in errors(deps, ask.visitor)[:MOST_ERRORS_READ]]
    return TypeFacts(
        name=name,
        item=item,
        whole_s=sum(each.total_s for each in types),
        points=series_over(deps, ask.range, type=name),
        columns=_history(
            deps, ("shape", name, length, end), lambda: deps.views.run_shape(name, window_s=length, until=end)
        ),
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


def api_overview(deps: Deps) -> api.ApiOverview:
    """Read the answer of ``GET /api/v1/overview``."""
    return api.overview(deps.query.overview(), deps.query.counters(), deps.query.queues(), deps.query.workers())
