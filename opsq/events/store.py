"""What a history store must do, and the one that keeps everything in memory.

One writer calls ``restore``, ``load``, ``taken``, ``fetch_slices``, ``write`` and ``retain``; everything else may
be called from any thread. ``write`` is one transaction: rows, counts and slices change together or not at all, so
a crash loses whole batches and never leaves a counter beside the rows it counts.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from opsq.events.records import time_key
from opsq.events.rollup import SliceKey

#: (state, type, queue, worker): how many tasks of history are in it is counted as they change.
Cell = tuple[str, str | None, str | None, str | None]
DIMENSIONS: Final = ("state", "type", "queue", "worker")


class TaskRow(msgspec.Struct, frozen=True):
    """One task as stored. key orders rows by time and never changes; evidence is ``evidence.encode``'s bytes."""

    key: int
    id: str
    state: str
    type: str | None
    queue: str | None
    worker: str | None
    root: str | None
    evidence: bytes

    @property
    def cell(self) -> Cell:
        """The cell that counts this row."""
        return self.state, self.type, self.queue, self.worker


class Changes(msgspec.Struct):
    """What one transaction writes. rows, slices, workers and ledger are whole; cells are differences."""

    rows: dict[str, TaskRow] = {}
    cells: dict[Cell, int] = {}
    slices: dict[SliceKey, bytes] = {}
    workers: dict[str, bytes | None] = {}
    ledger: dict[str, bytes] = {}

    def add(self, newer: Changes) -> None:
        """Put a later batch on top of this one, for when this one could not be written."""
        self.rows.update(newer.rows)
        for cell, amount in newer.cells.items():
            self.cells[cell] = self.cells.get(cell, 0) + amount
        self.slices.update(newer.slices)
        self.workers.update(newer.workers)
        self.ledger.update(newer.ledger)

    def __bool__(self) -> bool:
        return bool(self.rows or self.cells or self.slices or self.workers or self.ledger)


class Restored(msgspec.Struct, frozen=True):
    """What a store knows when a monitor starts."""

    cells: Mapping[Cell, int]
    workers: Mapping[str, bytes]
    ledger: Mapping[str, bytes]


class Choice(msgspec.Struct, frozen=True):
    """Which values of one dimension are wanted; ``include`` ``None`` means all but the excluded."""

    include: frozenset[str | None] | None = None
    exclude: frozenset[str | None] = frozenset()

    def accepts(self, value: str | None) -> bool:
        """Is a row with this value wanted?"""
        return (self.include is None or value in self.include) and value not in self.exclude


class Where(msgspec.Struct, frozen=True):
    """Which rows are wanted: by dimension, by key range (``since`` ≤ key < ``before``) and by the start of the id."""

    choices: Mapping[str, Choice] = {}
    since: int | None = None
    before: int | None = None
    id_prefix: str = ""

    def accepts(self, row: TaskRow) -> bool:
        """Does a row fit?"""
        return (
            (self.since is None or row.key >= self.since)
            and (self.before is None or row.key < self.before)
            and row.id.startswith(self.id_prefix)
            and all(choice.accepts(getattr(row, name)) for name, choice in self.choices.items())
        )


class Retention(msgspec.Struct, frozen=True):
    """How long history is kept: whichever of age and size is reached first. ``None`` means without bound."""

    keep_s: float | None = 30 * 86400.0
    max_bytes: int | None = None


class Removed(msgspec.Struct, frozen=True):
    """What retention took away: rows with a key below ``before``, and what they counted in cells. more: call again."""

    before: int = 0
    rows: int = 0
    cells: Mapping[Cell, int] = {}
    more: bool = False


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

    def size_bytes(self) -> int:
        """How much room history takes. Thread: any."""
        ...

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        ...


def add_cells(into: dict[Cell, int], differences: Mapping[Cell, int]) -> None:
    """Add differences to counts; a cell without tasks disappears."""
    for cell, amount in differences.items():
        total = into.get(cell, 0) + amount
        if total:
            into[cell] = total
        else:
            into.pop(cell, None)


RETAIN_CHUNK: Final = 5_000
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
            oldest = 0 if retention.keep_s is None else time_key(now - retention.keep_s)
            too_old = bisect_left(self._keys, oldest)
            doomed = min(too_old, RETAIN_CHUNK)
            if not doomed and retention.max_bytes is not None and self._bytes > retention.max_bytes:
                doomed = min(len(self._keys), RETAIN_CHUNK)
            if not doomed:
                return Removed()
            return self._drop(doomed, more=too_old > doomed)

    def _drop(self, count: int, *, more: bool) -> Removed:
        cells: dict[Cell, int] = {}
        dropped, self._keys = self._keys[:count], self._keys[count:]
        for key in dropped:
            row = self._rows.pop(self._ids.pop(key))
            self._bytes -= _ROW_OVERHEAD_BYTES + len(row.evidence)
            cells[row.cell] = cells.get(row.cell, 0) - 1
        add_cells(self._cells, cells)
        return Removed(dropped[-1] + 1, count, cells, more)

    def task(self, id: str) -> TaskRow | None:
        """One row."""
        return self._rows.get(id)

    def tasks(self, where: Where, limit: int) -> list[TaskRow]:
        """The newest ``limit`` rows that fit, newest first."""
        found: list[TaskRow] = []
        with self._lock:
            position = len(self._keys) if where.before is None else bisect_left(self._keys, where.before)
            while position > 0 and len(found) < limit:
                position -= 1
                row = self._rows[self._ids[self._keys[position]]]
                if where.since is not None and row.key < where.since:
                    break
                if where.accepts(row):
                    found.append(row)
        return found

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

    def size_bytes(self) -> int:
        """An estimate of the room rows take."""
        return self._bytes

    def close(self) -> None:
        """Nothing to let go of."""


def open_url(url: str) -> MemoryStore:
    """Open ``memory://``."""
    return MemoryStore()
