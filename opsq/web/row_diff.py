"""What changed in a live list since a browser last saw it. Pure, but for the memory of one browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from opsq.web.view_tasks import TaskRow

MOVING_EVERY_S: Final = 1.0
CROWD_EVERY_S: Final = 0.5
CROWD_ROWS: Final = 20
FADES: Final = ("fresh-a", "fresh-b")


@dataclass(frozen=True, slots=True)
class RowChanges:
    """in_place: rows to replace where they stand. whole: rows came, went or moved. fresh: row id to fade class."""

    in_place: tuple[TaskRow, ...] = ()
    whole: bool = False
    fresh: Mapping[str, str] = field(default_factory=dict)


class RowDiff:
    """Remembers the rows one browser shows. Thread: any, one call at a time."""

    def __init__(self) -> None:
        self._known: dict[str, TaskRow] | None = None
        self._due_at = 0.0
        self._moving_due_at = 0.0
        self._turn = 0

    def changes(self, rows: Sequence[TaskRow], now: float) -> RowChanges:
        """Say what to send. The first call sends the whole list without a fade: nothing in it is news.

        A list in which many rows changed is sent at most twice a second: nobody reads faster.
        """
        if now < self._due_at:
            return RowChanges()
        known, first = self._known or {}, self._known is None
        changed = [row for row in rows if row.id not in known or known[row.id].signature != row.signature]
        whole = list(known) != [row.id for row in rows]
        self._known = {row.id: row for row in rows}
        self._due_at = now + (CROWD_EVERY_S if len(changed) >= CROWD_ROWS and not first else 0.0)
        self._turn += 1
        fresh = {} if first else {row.id: FADES[self._turn % 2] for row in changed}
        return RowChanges(() if whole else self._touched(rows, changed, now), whole, fresh)

    def _touched(self, rows: Sequence[TaskRow], changed: list[TaskRow], now: float) -> tuple[TaskRow, ...]:
        """Add the rows whose bars grow, once a second."""
        ids = {row.id for row in changed}
        if now >= self._moving_due_at:
            self._moving_due_at = now + MOVING_EVERY_S * 0.9
            ids |= {row.id for row in rows if row.since_at is not None}
        return tuple(row for row in rows if row.id in ids)
