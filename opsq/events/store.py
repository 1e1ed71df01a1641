"""What a history store must do, and the one that keeps everything in memory.

One writer calls ``restore``, ``load``, ``taken``, ``fetch_slices``, ``write`` and ``retain``; everything else may
be called from any thread. ``write`` is one transaction: rows, counts and slices change together or not at all, so
a crash loses whole batches and never leaves a counter beside the rows it counts.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final, Protocol

from opsq.events.decisions import DecisionRow, MemoryDecisions
from opsq.events.document import Looked, matches
from opsq.events.grammar import Node
from opsq.events.records import time_key
from opsq.events.removed import LEDGER, more_gone
from opsq.events.rollup import SliceKey
from opsq.events.rows import DIMENSIONS as DIMENSIONS
from opsq.events.rows import MOST_COUNTED, Count, Found
from opsq.events.rows import RETAIN_CHUNK as RETAIN_CHUNK
from opsq.events.rows import Cell as Cell
from opsq.events.rows import Changes as Changes
from opsq.events.rows import Choice as Choice
from opsq.events.rows import Removed as Removed
from opsq.events.rows import Restored as Restored
from opsq.events.rows import Retention as Retention
from opsq.events.rows import TaskRow as TaskRow
from opsq.events.rows import Where as Where
from opsq.events.rows import add_cells as add_cells
from opsq.events.task_log import LogBatch, MemoryLogs


class Store(Protocol):
    """Where history is kept."""

    def restore(self) -> Restored:
        """Everything the writer needs in memory. Raises StoreUnavailable."""
        ...

    def load(self, ids: Sequence[str]) -> dict[str, TaskRow]:
        """The rows of these tasks, as far as they exist."""
        ...

    def taken(self, keys: Sequence[int]) -> set[int]:
        """Which of these row keys are in use."""
        ...

    def fetch_slices(self, keys: Iterable[SliceKey]) -> Mapping[SliceKey, bytes]:
        """Stored slices by key, as far as they exist."""
        ...

    def write(self, changes: Changes) -> None:
        """Write all of it or none. Writing the same rows again changes nothing. Raises StoreUnavailable."""
        ...

    def retain(self, retention: Retention, now: float) -> Removed:
        """Delete a bounded chunk of what is too old or too much, oldest first."""
        ...

    def task(self, id: str) -> TaskRow | None:
        """One row. Thread: any."""
        ...

    def tasks(self, where: Where, limit: int) -> list[TaskRow]:
        """The newest ``limit`` rows that fit, newest first. Thread: any."""
        ...

    def find(self, root: Node, now: float, *, before: int | None = None, limit: int = 50) -> Found:
        """The newest ``limit`` rows that fit a search, newest first; with ``before`` those with a smaller key.

        now: epoch seconds, for times counted back. Thread: any.
        """
        ...

    def count(
        self, root: Node, now: float, *, most: int = MOST_COUNTED, enough: Callable[[], bool] = lambda: False
    ) -> Count:
        """How many rows fit, counted up to ``most`` or until ``enough()``. Thread: any."""
        ...

    def log(self, id: str) -> list[LogBatch]:
        """What a task logged, oldest first, as far as it is kept. Thread: any."""
        ...

    def decisions(
        self, since: float, until: float, *, group: str | None = None, changed: bool = False, limit: int = 1_000
    ) -> list[DecisionRow]:
        """The newest decisions about slots from since to before until (epoch seconds), newest first. Thread: any.

        group: of this one only. changed: only those that changed the size.
        """
        ...

    def latest_decisions(self, since: float) -> list[DecisionRow]:
        """The newest decision of each group that decided since then, by the group's name. Thread: any."""
        ...

    def counts(self) -> Mapping[Cell, int] | None:
        """Tasks by cell when several monitors write here, else ``None``: the writer's own are all. Thread: any."""
        ...

    def ledger(self) -> Mapping[str, bytes] | None:
        """Error groups and anomalies as stored when several monitors write here, else ``None``. Thread: any."""
        ...

    def relatives(self, root: str, limit: int) -> list[TaskRow]:
        """The newest rows of a workflow but its root, newest first. Thread: any."""
        ...

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        """(start, series, slice) with ``since`` ≤ start < ``until``, oldest first. Thread: any.

        One series exactly, or all that begin with ``prefix``, as ``"t:"``.
        """
        ...

    def index(self) -> bool:
        """Bring the search index a step further without waiting for rest; false when nothing is left to do.

        For tests, benchmarks and ``opsq migrate``: a store does this by itself behind the writer.
        """
        ...

    def waiting_for_index(self) -> int:
        """How many rows a search has to look at one by one, because no index knows them yet. Thread: any."""
        ...

    def index_lag_s(self) -> float:
        """For how many seconds there have been tasks at rest that the index does not know. Thread: any."""
        ...

    def note(self, at: float, record: bytes) -> None:
        """Keep one record of what somebody did, at ``at`` (epoch seconds). Thread: any. Raises StoreUnavailable."""
        ...

    def audit(self, before: int | None = None, limit: int = 100) -> list[tuple[int, float, bytes]]:
        """The newest of those: (id, epoch seconds, record), newest first; with ``before`` a smaller id. Thread: any."""
        ...

    def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Hold ``name`` for the next seconds, if nobody else does; again to keep it. 0 seconds lets go of it.

        Thread: any. Raises StoreUnavailable.
        """
        ...

    def alone(self) -> AbstractContextManager[None]:
        """For the block, nobody else writes: other monitors of the same history wait."""
        ...

    def size_bytes(self) -> int:
        """How much room history takes. Thread: any."""
        ...

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        ...


_ROW_OVERHEAD_BYTES: Final = 400


class MemoryStore:
    """History in this process, gone when it ends; for tests and for a monitor whose disk is full. Thread: any."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows: dict[str, TaskRow] = {}
        self._ids: dict[int, str] = {}
        self._keys: list[int] = []
        self._cells: dict[Cell, int] = {}
        self._slices: dict[SliceKey, bytes] = {}
        self._workers: dict[str, bytes] = {}
        self._ledger: dict[str, bytes] = {}
        self._audit: list[tuple[int, float, bytes]] = []
        self._logs = MemoryLogs()
        self._decisions = MemoryDecisions()
        self._leases: dict[str, tuple[str, float]] = {}
        self._bytes = 0

    def restore(self) -> Restored:
        """Everything the writer needs in memory."""
        with self._lock:
            return Restored(dict(self._cells), dict(self._workers), dict(self._ledger))

    def load(self, ids: Sequence[str]) -> dict[str, TaskRow]:
        """The rows of these tasks, as far as they exist."""
        with self._lock:
            return {id: self._rows[id] for id in ids if id in self._rows}

    def taken(self, keys: Sequence[int]) -> set[int]:
        """Which of these row keys are in use."""
        with self._lock:
            return {key for key in keys if key in self._ids}

    def fetch_slices(self, keys: Iterable[SliceKey]) -> Mapping[SliceKey, bytes]:
        """Stored slices by key, as far as they exist."""
        with self._lock:
            return {key: self._slices[key] for key in keys if key in self._slices}

    def write(self, changes: Changes) -> None:
        """Write all of it."""
        with self._lock:
            for row in changes.rows.values():
                self._put(row)
            add_cells(self._cells, changes.cells)
            self._slices.update(changes.slices)
            for name, record in changes.workers.items():
                if record is None:
                    self._workers.pop(name, None)
                else:
                    self._workers[name] = record
            self._ledger.update(changes.ledger)
            self._logs.write(changes.logs)
            self._decisions.write(changes.decisions)

    def _put(self, row: TaskRow) -> None:
        known = self._rows.get(row.id)
        if known is None:
            insort(self._keys, row.key)
            self._ids[row.key] = row.id
            self._bytes += _ROW_OVERHEAD_BYTES
        else:
            self._bytes -= len(known.evidence)
        self._bytes += len(row.evidence)
        self._rows[row.id] = row

    def retain(self, retention: Retention, now: float) -> Removed:
        """Delete a bounded chunk of what is too old or too much, oldest first."""
        with self._lock:
            if retention.audit_s is not None:
                self._audit = [one for one in self._audit if one[1] >= now - retention.audit_s]
            self._logs.retain(retention.logs_since(now), retention.logs_bytes)
            if retention.decisions_s is not None:
                self._decisions.retain(now - retention.decisions_s)
            oldest = 0 if retention.keep_s is None else time_key(now - retention.keep_s)
            too_old = bisect_left(self._keys, oldest)
            doomed = min(too_old, RETAIN_CHUNK)
            if not doomed and retention.max_bytes is not None and self._bytes > retention.max_bytes:
                doomed = min(len(self._keys), RETAIN_CHUNK)
            if not doomed:
                return Removed()
            return self._drop(doomed, now, more=too_old > doomed)

    def _drop(self, count: int, now: float, *, more: bool) -> Removed:
        cells: dict[Cell, int] = {}
        dropped, self._keys = self._keys[:count], self._keys[count:]
        evidence = (self._rows[self._ids[key]].evidence for key in dropped)
        self._ledger[LEDGER] = more_gone(self._ledger.get(LEDGER), evidence, now)
        for key in dropped:
            row = self._rows.pop(self._ids.pop(key))
            self._bytes -= _ROW_OVERHEAD_BYTES + len(row.evidence)
            cells[row.cell] = cells.get(row.cell, 0) - 1
        add_cells(self._cells, cells)
        return Removed(dropped[-1] + 1, count, cells, more)

    def task(self, id: str) -> TaskRow | None:
        """One row."""
        return self._rows.get(id)

    def log(self, id: str) -> list[LogBatch]:
        """What a task logged, oldest first."""
        with self._lock:
            return self._logs.of_task(id)

    def decisions(
        self, since: float, until: float, *, group: str | None = None, changed: bool = False, limit: int = 1_000
    ) -> list[DecisionRow]:
        """The newest decisions of a time range, newest first."""
        with self._lock:
            return self._decisions.read(since, until, group, changed, limit)

    def latest_decisions(self, since: float) -> list[DecisionRow]:
        """The newest decision of each group."""
        with self._lock:
            return self._decisions.latest(since)

    def tasks(self, where: Where, limit: int) -> list[TaskRow]:
        """The newest ``limit`` rows that fit, newest first."""
        node = where.node
        return list(islice((row for row in self._newest(where.since, where.before) if _fits(node, row)), limit))

    def _newest(self, since: int | None, before: int | None) -> Iterable[TaskRow]:
        with self._lock:
            first = 0 if since is None else bisect_left(self._keys, since)
            last = len(self._keys) if before is None else bisect_left(self._keys, before)
            return [self._rows[self._ids[key]] for key in reversed(self._keys[first:last])]

    def find(self, root: Node, now: float, *, before: int | None = None, limit: int = 50) -> Found:
        """The newest ``limit`` rows that fit, newest first; every row in memory is looked at."""
        fitting = (row for row in self._newest(None, before) if matches(root, Looked(row), now))
        rows = list(islice(fitting, limit + 1))
        return Found(rows[:limit], rows[limit - 1].key if len(rows) > limit else None, len(self._keys))

    def count(
        self, root: Node, now: float, *, most: int = MOST_COUNTED, enough: Callable[[], bool] = lambda: False
    ) -> Count:
        """How many rows fit, counted up to ``most``."""
        fitting = sum(matches(root, Looked(row), now) for row in self._newest(None, None))
        return Count(min(fitting, most), fitting <= most)

    def relatives(self, root: str, limit: int) -> list[TaskRow]:
        """The newest rows of a workflow but its root, newest first."""
        with self._lock:
            found = [row for row in self._rows.values() if row.root == root]
        return sorted(found, key=lambda row: row.key, reverse=True)[:limit]

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        """(start, series, slice) of a time range, oldest first."""
        with self._lock:
            return sorted(
                (start, name, data)
                for (width, start, name), data in self._slices.items()
                if width == width_s
                and since <= start < until
                and (name == series if series is not None else name.startswith(prefix))
            )

    def counts(self) -> Mapping[Cell, int] | None:
        """The writer's own counts are all."""
        return None

    def ledger(self) -> Mapping[str, bytes] | None:
        """The writer's own is all."""
        return None

    def index(self) -> bool:
        """There is none: every row is looked at."""
        return False

    def waiting_for_index(self) -> int:
        """There is no index to wait for."""
        return 0

    def index_lag_s(self) -> float:
        """There is no index to wait for."""
        return 0.0

    def note(self, at: float, record: bytes) -> None:
        """Keep one record of what somebody did."""
        with self._lock:
            self._audit.append((self._audit[-1][0] + 1 if self._audit else 1, at, record))

    def audit(self, before: int | None = None, limit: int = 100) -> list[tuple[int, float, bytes]]:
        """The newest of those, newest first."""
        with self._lock:
            return [one for one in reversed(self._audit) if before is None or one[0] < before][:limit]

    def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Hold ``name``, if nobody else in this process does."""
        with self._lock:
            now = time.time()
            held = self._leases.get(name)
            if held is not None and held[0] != holder and held[1] > now:
                return False
            self._leases[name] = (holder, now + ttl_s)
            return True

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else can write."""
        return nullcontext()

    def size_bytes(self) -> int:
        """An estimate of the room rows take."""
        return self._bytes + self._logs.bytes

    def close(self) -> None:
        """Nothing to let go of."""


def _fits(node: Node, row: TaskRow) -> bool:
    return matches(node, Looked(row), 0.0)


def open_url(url: str) -> MemoryStore:
    """Open ``memory://``."""
    return MemoryStore()
