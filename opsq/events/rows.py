"""What is handed to a store and what it hands back: records, nearly no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from opsq.events.decisions import DecisionRow
from opsq.events.grammar import NONE, Every, Id, Named, Node, Not
from opsq.events.rollup import SliceKey
from opsq.events.task_log import LogBatch

#: Counts above this are "at least"; counting stops there.
MOST_COUNTED: Final = 10_000
#: (state, type, queue, worker): how many tasks of history are in it is counted as they change.
Cell = tuple[str, str | None, str | None, str | None]
DIMENSIONS: Final = ("state", "type", "queue", "worker")
#: Between the parts of a cell's stored name.
BETWEEN: Final = "\x1f"


def cell_of(text: str) -> Cell:
    """The cell of a stored name."""
    state, type, queue, worker = text.split(BETWEEN)
    return state, type or None, queue or None, worker or None


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


class Found(msgspec.Struct, frozen=True):
    """A page. older: cursor of the next one. complete: false when looking stopped before the page was full."""

    rows: list[TaskRow]
    older: int | None
    looked: int
    complete: bool = True
    behind: int = 0


class Count(msgspec.Struct, frozen=True):
    """How many fit. exact: false when there are at least so many and counting stopped."""

    value: int
    exact: bool


class Changes(msgspec.Struct):
    """What one transaction writes. rows, slices, workers and ledger are whole; cells are differences."""

    rows: dict[str, TaskRow] = {}
    cells: dict[Cell, int] = {}
    slices: dict[SliceKey, bytes] = {}
    workers: dict[str, bytes | None] = {}
    ledger: dict[str, bytes] = {}
    logs: list[LogBatch] = []
    decisions: list[DecisionRow] = []

    def add(self, newer: Changes) -> None:
        """Put a later batch on top of this one, for when this one could not be written."""
        self.rows.update(newer.rows)
        for cell, amount in newer.cells.items():
            self.cells[cell] = self.cells.get(cell, 0) + amount
        self.slices.update(newer.slices)
        self.workers.update(newer.workers)
        self.ledger.update(newer.ledger)
        self.logs += newer.logs
        self.decisions += newer.decisions

    def __bool__(self) -> bool:
        return any((self.rows, self.cells, self.slices, self.workers, self.ledger, self.logs, self.decisions))


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

    @property
    def node(self) -> Node:
        """The dimensions and the id as a search."""
        parts: list[Node] = []
        for name, choice in self.choices.items():
            if choice.include is not None:
                parts.append(Named(name, tuple(NONE if value is None else value for value in choice.include)))
            if choice.exclude:
                parts.append(Not(Named(name, tuple(NONE if value is None else value for value in choice.exclude))))
        if self.id_prefix:
            parts.append(Id("id", self.id_prefix))
        return Every(tuple(parts))


class Retention(msgspec.Struct, frozen=True):
    """How long history is kept: whichever of age and size is reached first. ``None`` means without bound.

    Tasks, and with them their events, leave by ``keep_s`` and ``max_bytes``; what they logged by ``logs_s`` and
    ``logs_bytes``; decisions about slots by ``decisions_s``; the record of what people did by ``audit_s``; samples and
    rolled-up figures by the age of their tier (``rollup.TIERS``).
    """

    keep_s: float | None = 30 * 86400.0
    max_bytes: int | None = None
    audit_s: float | None = 366 * 86400.0
    logs_s: float | None = 7 * 86400.0
    logs_bytes: int | None = None
    decisions_s: float | None = 90 * 86400.0

    def logs_since(self, now: float) -> float:
        """Log lines from before this epoch second leave: with their tasks, or earlier."""
        ages = [age for age in (self.keep_s, self.logs_s) if age is not None]
        return now - min(ages) if ages else 0.0


class Removed(msgspec.Struct, frozen=True):
    """What retention took away: rows with a key below ``before``, and what they counted in cells. more: call again."""

    before: int = 0
    rows: int = 0
    cells: Mapping[Cell, int] = {}
    more: bool = False


def add_cells(into: dict[Cell, int], differences: Mapping[Cell, int]) -> None:
    """Add differences to counts; a cell without tasks disappears."""
    for cell, amount in differences.items():
        total = into.get(cell, 0) + amount
        if total:
            into[cell] = total
        else:
            into.pop(cell, None)


#: Retention deletes at most so many rows at once, so that the writer is never kept for long.
RETAIN_CHUNK: Final = 5_000
