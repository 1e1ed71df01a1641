"""What recorded decisions add up to: slot-hours that were used or would have been, and changes of size. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from opsq.events.decisions import DecisionItem

#: Decisions are told at least once a minute; after so much silence nothing is known of the group.
SILENT_S: Final = 180.0
HOUR_S: Final = 3600.0


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of one group over a time. covered_s: seconds of it in which decisions were told.

    slot_hours: of the slots there were. decided_hours: of those that the decisions asked for, which in a dry run is
    what would have been. changes: how often the size changed, or would have. most: slots at once.
    """

    covered_s: float = 0.0
    slot_hours: float = 0.0
    decided_hours: float = 0.0
    changes: int = 0
    most: int = 0

    @property
    def saved_hours(self) -> float:
        """Slot-hours that following the decisions would have saved; below 0 when they ask for more."""
        return self.slot_hours - self.decided_hours


def account(decisions: Sequence[DecisionItem], until: float) -> Account:
    """Add up the decisions of one group, in any order, up to ``until`` (epoch seconds)."""
    ordered = sorted(decisions, key=lambda one: one.at)
    covered = had = decided = 0.0
    for one, following in zip(ordered, [*(each.at for each in ordered[1:]), until], strict=False):
        lasted = min(max(0.0, following - one.at), SILENT_S)
        covered += lasted
        had += one.slots * lasted / HOUR_S
        decided += one.target * lasted / HOUR_S
    return Account(
        covered_s=covered, slot_hours=had, decided_hours=decided, changes=sum(one.changed for one in ordered),
        most=max((max(one.slots, one.target) for one in ordered), default=0),
    )  # fmt: skip


def in_force(decisions: Sequence[DecisionItem], times: Sequence[float]) -> list[DecisionItem | None]:
    """The decision in force at each of the ascending ``times``; None where nothing is known."""
    ordered = sorted(decisions, key=lambda one: one.at)
    found: list[DecisionItem | None] = []
    place = 0
    for at in times:
        while place < len(ordered) and ordered[place].at <= at:
            place += 1
        last = ordered[place - 1] if place else None
        found.append(last if last is not None and at - last.at <= SILENT_S else None)
    return found
