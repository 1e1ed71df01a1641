"""Label values in bounds: the names most used keep their own, all others share ``other`` and are counted.

Who is told apart does not change while the monitor runs, but for names that come when there is room: a name that
moved in or out of ``other`` would make a counter jump, and Prometheus would read that as work done.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: Names of one label that are told apart.
LABEL_BUDGET: Final = 200
OTHER: Final = "other"
UNKNOWN: Final = "unknown"


class Kept:
    """The names of one label. Thread: one scrape at a time."""

    def __init__(self, most: int = LABEL_BUDGET) -> None:
        self._most = most
        self._kept: set[str] = set()
        self._hidden: set[str] = set()

    def settle(self, names: Iterable[str]) -> None:
        """Take note of the names there are now, the most used first; names that went make room for new ones."""
        there = list(dict.fromkeys(names))
        self._kept.intersection_update(there)
        self._hidden.intersection_update(there)
        for name in there:
            if name in self._kept or name in self._hidden:
                continue
            (self._kept if len(self._kept) < self._most else self._hidden).add(name)

    def __call__(self, name: str | None) -> str:
        """Give the label value of a name; a missing one is ``unknown``."""
        return UNKNOWN if name is None else name if name in self._kept else OTHER

    @property
    def hidden(self) -> int:
        """How many names are counted under ``other`` now."""
        return len(self._hidden)
