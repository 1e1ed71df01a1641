"""The JSON that programs read: ``/api/v1``. Times are epoch seconds, lengths are seconds, unknown is ``null``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from opsq.events.records import (
    Counters,
    Facets,
    Freshness,
    Overview,
    QueueItem,
    Strip,
    TaskDetail,
    TaskItem,
    TaskPage,
    TaskTypeItem,
    WorkerItem,
)
from opsq.web.terms import Filter

EXECUTED: Final = ("SUCCESS", "FAILURE")


class Counts(msgspec.Struct, frozen=True):
    """How many tasks are where. executed: succeeded and failed. retried: attempts. lost: events; null is unknown."""

    executed: int
    succeeded: int
    failed: int
    retried: int
    revoked: int
    rejected: int
    running: int
    prefetched: int
    waiting: int
    retrying: int
    seen: int
    lost: int | None


class ApiOverview(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/overview``."""

    as_of: float
    connected: bool
    counts: Counts
    states: Mapping[str, int]
    strip: Strip
    freshness: Freshness
    queues: tuple[QueueItem, ...]
    workers: tuple[WorkerItem, ...]


class ApiTasks(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/tasks``. older: pass it as ``before`` for the next page; null at the end."""

    tasks: tuple[TaskItem, ...]
    older: str | None
    total: int | None
    complete: bool
    facets: Facets


class ApiTask(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/tasks/{id}``."""

    task: TaskDetail


class ApiWorkers(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/workers``."""

    workers: tuple[WorkerItem, ...]


class ApiTypes(msgspec.Struct, frozen=True):
    """Answer of ``GET /api/v1/types``. range_s: the window that the figures are of."""

    range_s: float
    types: tuple[TaskTypeItem, ...]


def overview(
    found: Overview, counters: Counters, queues: tuple[QueueItem, ...], workers: tuple[WorkerItem, ...]
) -> ApiOverview:
    """Build the answer from records of one moment."""
    return ApiOverview(
        as_of=found.freshness.as_of,
        connected=found.freshness.connected,
        counts=counts(found, counters),
        states=found.states,
        strip=found.strip,
        freshness=found.freshness,
        queues=queues,
        workers=workers,
    )


def counts(found: Overview, counters: Counters) -> Counts:
    """Count tasks by where they are, and attempts that were retried."""
    states = found.states
    return Counts(
        executed=sum(states.get(state, 0) for state in EXECUTED),
        succeeded=states.get("SUCCESS", 0),
        failed=states.get("FAILURE", 0),
        retried=counters.ended.get("retried", 0),
        revoked=states.get("REVOKED", 0),
        rejected=states.get("REJECTED", 0),
        running=states.get("STARTED", 0),
        prefetched=states.get("RECEIVED", 0),
        waiting=states.get("PENDING", 0),
        retrying=states.get("RETRY", 0),
        seen=sum(states.values()),
        lost=counters.lost,
    )


def tasks(page: TaskPage, facets: Facets) -> ApiTasks:
    """Build the answer; the cursor is text, because JavaScript cannot hold it as a number."""
    older = None if page.older is None else str(page.older)
    return ApiTasks(page.items, older, page.total, page.complete, facets)


def fault(asked: Filter) -> str:
    """Say what is wrong with a search line, empty when nothing is: a program gets an error, not a guess."""
    if asked.fault is None:
        return ""
    return f"q, position {asked.fault.position + 1}: {asked.fault.problem}"
