"""Searches over a history that has an index: the same for every store that can give a shelf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from opsq.events import finder
from opsq.events.grammar import Node
from opsq.events.rows import BETWEEN, DIMENSIONS, MOST_COUNTED, Count, Found, TaskRow, Where
from opsq.events.search_plan import Shelf


class Searching(Protocol):
    """The searches of a ``Store``. Thread: any."""

    def shelf(self) -> AbstractContextManager[Shelf]:
        """One consistent look at the history for the block. Raises StoreUnavailable."""
        ...

    def tasks(self, where: Where, limit: int) -> list[TaskRow]:
        """The newest ``limit`` rows that fit, newest first."""
        with self.shelf() as shelf:
            found = finder.find(shelf, where.node, 0.0, before=where.before, limit=limit, since=where.since or 0)
        return found.rows

    def find(self, root: Node, now: float, *, before: int | None = None, limit: int = 50) -> Found:
        """The newest ``limit`` rows that fit a search, newest first."""
        with self.shelf() as shelf:
            return finder.find(shelf, root, now, before=before, limit=limit)

    def count(
        self, root: Node, now: float, *, most: int = MOST_COUNTED, enough: Callable[[], bool] = lambda: False
    ) -> Count:
        """How many rows fit, counted up to ``most`` or until ``enough()``."""
        with self.shelf() as shelf:
            return finder.count(shelf, root, now, most=most, enough=enough)


class Columns:
    """The names of each dimension that any task has, as the stored names of cells tell."""

    def __init__(self, cells: Iterable[str]) -> None:
        split = [cell.split(BETWEEN) for cell in cells]
        columns = zip(*split, strict=True) if split else ((),) * len(DIMENSIONS)
        self._columns = [frozenset(column) for column in columns]

    def numbers(self, dimension: str, known: Mapping[str, int]) -> dict[str | None, int | None]:
        """Every name of a dimension with its number in ``known``; ``None`` stands for tasks that have none."""
        column = self._columns[DIMENSIONS.index(dimension)]
        return {name or None: known.get(name) if name else None for name in column}
