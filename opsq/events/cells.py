"""Tasks of history counted by cell, with the sums that every page asks for kept beside.

A fleet of a thousand task types on a hundred workers has some hundred thousand cells: adding them up for each page
would take longer than the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from opsq.events.rows import Cell
from opsq.wire import states

#: (worker, state)
Placed = tuple[str | None, str]
#: (worker, type)
Held = tuple[str | None, str | None]
K = TypeVar("K")


class CellCounts(dict[Cell, int]):
    """Tasks by (state, type, queue, worker); an empty cell is absent.

    by_state, by_worker: the same by state, and by (worker, state). prefetched: tasks a worker took and did not start,
    by (worker, type). Thread: the writer's changes it, any reads it through ``copy()``.
    """

    def __init__(self, cells: Mapping[Cell, int] | None = None) -> None:
        super().__init__()
        self.by_state: dict[str, int] = {}
        self.by_worker: dict[Placed, int] = {}
        self.prefetched: dict[Held, int] = {}
        self.add_all(cells or {})

    def add(self, cell: Cell, amount: int) -> None:
        """Count so many more, or fewer, tasks in a cell."""
        state, type, _, worker = cell
        _add(self, cell, amount)
        _add(self.by_state, state, amount)
        _add(self.by_worker, (worker, state), amount)
        if state == states.RECEIVED:
            _add(self.prefetched, (worker, type), amount)

    def add_all(self, differences: Mapping[Cell, int]) -> None:
        """Count so many more, or fewer, tasks in each of these cells."""
        for cell, amount in differences.items():
            self.add(cell, amount)

    def names(self) -> tuple[set[str], set[str], set[str]]:
        """Types, queues and workers that some cell names."""
        types, queues, workers = ({cell[place] for cell in self} - {None} for place in (1, 2, 3))
        return cast(set[str], types), cast(set[str], queues), cast(set[str], workers)


def _add(counts: dict[K, int], key: K, amount: int) -> None:
    total = counts.get(key, 0) + amount
    if total:
        counts[key] = total
    else:
        counts.pop(key, None)
