"""Names of task types, queues and workers, up to a bound each: what comes beyond it counts together."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from opsq.events.cells import CellCounts
from opsq.events.error_groups import ErrorGroups
from opsq.events.life import Run, Summary
from opsq.events.limits import Limits

#: Stands for every name beyond the bound on distinct names.
OTHER: Final = "(other)"


class KnownNames:
    """The names that are counted one by one. Thread: the writer's; the sets may be copied from any.

    cells: what history counts already.
    """

    def __init__(self, limits: Limits, cells: CellCounts, errors: ErrorGroups) -> None:
        self._most_types = limits.types
        self._most_queues = limits.queues
        self._most_workers = limits.workers
        self._errors = errors
        self.types, self.queues, self.hosts = cells.names()

    def bounded(self, summary: Summary) -> Summary:
        """What is counted of a task, so that a flood of names cannot fill memory."""
        type, queue, worker = summary.type, summary.queue, summary.worker
        if type is not None and type not in self.types and not _admit(self.types, type, self._most_types):
            summary = replace(summary, type=OTHER)
        if queue is not None and queue not in self.queues and not _admit(self.queues, queue, self._most_queues):
            summary = replace(summary, queue=OTHER)
        if worker is not None and worker not in self.hosts and not _admit(self.hosts, worker, self._most_workers):
            summary = replace(summary, worker=OTHER)
        for run in summary.runs:
            if run.fault is not None or run.worker not in self.hosts:
                return replace(summary, runs=tuple(map(self._bounded_run, summary.runs)))
        return summary

    def _bounded_run(self, run: Run) -> Run:
        known = run.worker in self.hosts or _admit(self.hosts, run.worker, self._most_workers)
        fault = None if run.fault is None else self._errors.admit(run.fault, OTHER)
        return replace(run, worker=run.worker if known else OTHER, fault=fault)


def _admit(names: set[str], name: str, limit: int) -> bool:
    if len(names) >= limit:
        return False
    names.add(name)
    return True
