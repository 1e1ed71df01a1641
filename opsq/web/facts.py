"""The questions the pages ask: the only place where pages meet the monitor's read side.

What many viewers look at is read once and shared for a moment; what must be of this instant is not.
Thread: any; each function blocks as long as the store takes, so the asyncio side calls it through a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from opsq.events.records import Facets, Point, QueueItem, TaskDetail, TaskPage, TaskTypeItem, WorkerItem
from opsq.events.search import of
from opsq.web import api
from opsq.web.deps import Deps
from opsq.web.memo import HISTORY_S, NOW_S
from opsq.web.metrics import Scrape
from opsq.web.terms import Filter
from opsq.web.view_common import RANGES, Ask, Range
from opsq.web.view_overview import MAX_FAILURES, OverviewFacts
from opsq.web.view_task import Usual

T = TypeVar("T")

PAGE_ROWS: Final = 50
MAX_QUEUE_SERIES: Final = 20
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
        failures=_history(deps, ("failures",), lambda: deps.query.tasks(of(state="failed"), limit=MAX_FAILURES)).items,
    )


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
    """Read a page of tasks under a filter, and the counts beside it."""
    page = deps.query.tasks(asked.search, before=ask.before, limit=PAGE_ROWS)
    return page, deps.query.facets(asked.search)


def task(deps: Deps, task_id: str) -> TaskDetail | None:
    """Read one task."""
    return deps.query.task(task_id)


def usual(deps: Deps, type_name: str | None) -> Usual:
    """Read what is usual for a type."""
    if type_name is None:
        return Usual()
    read = _history(deps, ("types", "usual"), lambda: deps.query.task_types(USUAL_WINDOW_S))
    found = next((item for item in read if item.name == type_name), None)
    return Usual(found.broker, found.prefetch, found.run) if found else Usual()


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
    """Read the answer of ``GET /api/overview``."""
    return api.overview(deps.query.overview(), deps.query.counters(), deps.query.queues(), deps.query.workers())
