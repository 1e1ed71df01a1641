"""What the overview asks, all at one moment. Thread: any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opsq.events.records import Point, WorkerItem
from opsq.web import facts, facts_errors
from opsq.web.deps import Deps
from opsq.web.memo import HISTORY_S
from opsq.web.view_common import Ask
from opsq.web.view_overview import OverviewFacts
from opsq.web.view_range import RANGES, Range

LEAST_POINTS: Final = 30


def range_for(deps: Deps, ask: Ask) -> Range:
    """Pick the range: what was asked, else 15 minutes while there is nothing older to see."""
    if ask.range_given:
        return ask.range
    older = deps.memo.get(("older",), HISTORY_S, lambda: _has_older(deps))
    return ask.range if older else RANGES[0]


def _has_older(deps: Deps) -> bool:
    points = deps.query.series(RANGES[1].length_s)
    edge = deps.clock.now() - RANGES[0].length_s
    return any(point.arrived or point.done for point in points if point.at + point.width_s < edge)


def overview_facts(deps: Deps, ask: Ask, shown: Range) -> OverviewFacts:
    """Read what the overview is made from."""
    found_queues, found_workers = facts.queues(deps), facts.workers(deps)
    began_at = min((worker.first_seen_at for worker in found_workers), default=0.0)
    points = facts.series_over(deps, shown)
    skip = unwatched(points, began_at)
    errors, errors_total = facts_errors.most(deps, ask, shown)
    return OverviewFacts(
        overview=deps.query.overview(),
        points=points[skip:],
        queues=found_queues,
        queue_points=facts.queue_points(deps, shown, skip),
        workers=found_workers,
        worker_points=_worker_points(deps, found_workers, shown, skip),
        types=facts.task_types(deps, shown),
        errors=errors,
        errors_total=errors_total,
        since=facts_errors.since(deps),
    )


def unwatched(points: Sequence[Point], began_at: float) -> int:
    """Count the leading buckets from before anybody watched: they are not zero but unknown, and are not drawn."""
    seen = next((i for i, p in enumerate(points) if p.at + p.width_s > began_at or p.arrived or p.done), len(points))
    return max(0, min(seen, len(points) - LEAST_POINTS))


def _worker_points(deps: Deps, found: Sequence[WorkerItem], shown: Range, skip: int) -> dict[str, Sequence[Point]]:
    names = [worker.name for worker in found if worker.slots][: facts.MAX_WORKER_SERIES]
    return {name: facts.series_over(deps, shown, worker=name, measured=False)[skip:] for name in names}
