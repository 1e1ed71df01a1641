"""Exact counts under a filter, from the cells that are kept as tasks change: no row is ever counted for a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from opsq.events.records import Facets, FacetValue
from opsq.events.rows import DIMENSIONS, Cell
from opsq.events.search import Search


class FacetCounts:
    """The cells of one moment."""

    def __init__(self, cells: Mapping[Cell, int]) -> None:
        self._cells = cells

    def _accepted(self, search: Search) -> dict[str, set[str | None]]:
        """Of each dimension the filter is about, the names it leaves in."""
        accepted: dict[str, set[str | None]] = {}
        for name in search.dimensions():
            names = {cell[DIMENSIONS.index(name)] for cell in self._cells}
            accepted[name] = {value for value in names if search.accepts(name, value)}
        return accepted

    def total(self, search: Search) -> int:
        """How many tasks fit, by dimensions alone."""
        return sum(count for _, count in _fitting(self._cells, self._accepted(search)))

    def facets(self, search: Search, most: int) -> Facets:
        """The counts of each dimension under the filter of the others, largest first, at most ``most`` of each."""
        accepted = self._accepted(search)
        found = {}
        for position, name in enumerate(DIMENSIONS):
            others = {other: names for other, names in accepted.items() if other != name}
            sums: dict[str | None, int] = {}
            for cell, count in _fitting(self._cells, others):
                value = cell[position]
                sums[value] = sums.get(value, 0) + count
            ordered = sorted(sums.items(), key=lambda entry: (-entry[1], entry[0] or ""))
            found[name] = tuple(FacetValue(value, count) for value, count in ordered[:most] if count > 0)
        return Facets(**found, exact=search.by_names_alone)


def _fitting(cells: Mapping[Cell, int], accepted: Mapping[str, set[str | None]]) -> Collection[tuple[Cell, int]]:
    """The cells whose names are accepted, one dimension after the other: there are many, and pages count them."""
    left: Collection[tuple[Cell, int]] = cells.items()
    for name, names in accepted.items():
        position = DIMENSIONS.index(name)
        left = [entry for entry in left if entry[0][position] in names]
    return left
