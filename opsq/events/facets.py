"""Exact counts under a filter, from the cells that are kept as tasks change: no row is ever counted for a page."""

from __future__ import annotations

from collections.abc import Mapping

from opsq.events import search as searching
from opsq.events.records import Facets, FacetValue
from opsq.events.search import Search
from opsq.events.store import DIMENSIONS, Cell, Choice


class FacetCounts:
    """The cells of one moment."""

    def __init__(self, cells: Mapping[Cell, int]) -> None:
        self._cells = cells
        self.names: dict[str, set[str | None]] = {name: set() for name in DIMENSIONS}
        for cell in cells:
            for name, value in zip(DIMENSIONS, cell, strict=True):
                self.names[name].add(value)

    def _choices(self, search: Search) -> Mapping[str, Choice]:
        return searching.where(search, self.names).choices

    def total(self, search: Search) -> int:
        """How many tasks fit, by dimensions alone."""
        choices = self._choices(search)
        return sum(count for cell, count in self._cells.items() if _fits(cell, choices))

    def rarest(self, search: Search) -> list[str]:
        """The dimensions, the one whose condition leaves the fewest tasks first."""
        left = dict.fromkeys(DIMENSIONS, 0)
        choices = self._choices(search)
        for cell, count in self._cells.items():
            for name, value in zip(DIMENSIONS, cell, strict=True):
                if name not in choices or choices[name].accepts(value):
                    left[name] += count
        # A condition that only excludes cannot lead through an index, whatever it leaves.
        leads = {name: name in choices and choices[name].include is not None for name in DIMENSIONS}
        return sorted(DIMENSIONS, key=lambda name: (not leads[name], left[name]))

    def facets(self, search: Search, most: int) -> Facets:
        """The counts of each dimension under the filter of the others, largest first, at most ``most`` of each."""
        choices = self._choices(search)
        found = {}
        for position, name in enumerate(DIMENSIONS):
            others = {other: choice for other, choice in choices.items() if other != name}
            sums: dict[str | None, int] = {}
            for cell, count in self._cells.items():
                if _fits(cell, others):
                    sums[cell[position]] = sums.get(cell[position], 0) + count
            ordered = sorted(sums.items(), key=lambda entry: (-entry[1], entry[0] or ""))
            found[name] = tuple(FacetValue(value, count) for value, count in ordered[:most] if count > 0)
        return Facets(**found, exact=not (search.has_text or search.id or search.since_at or search.until_at))


def _fits(cell: Cell, choices: Mapping[str, Choice]) -> bool:
    return all(
        name not in choices or choices[name].accepts(value) for name, value in zip(DIMENSIONS, cell, strict=True)
    )
