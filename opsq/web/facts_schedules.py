"""What the pages ask about the schedule. Thread: any."""

from __future__ import annotations

from msgspec import structs

from opsq.web import hiding
from opsq.web.access.door import Visitor
from opsq.web.deps import Deps
from opsq.web.hands import Scheduled, Timetable


def timetable(deps: Deps, visitor: Visitor) -> Timetable | None:
    """Read the schedule as the visitor may see it; None for a monitor that only watches. May ask the broker."""
    if deps.hands is None:
        return None
    found = deps.hands.timetable()
    if hiding.sees_payload(visitor):
        return found
    return structs.replace(found, entries=tuple(map(_hidden, found.entries)))


def entry(deps: Deps, name: str) -> Scheduled | None:
    """Read one entry."""
    known = deps.hands.timetable().entries if deps.hands is not None else ()
    return next((each for each in known if each.name == name), None)


def _hidden(each: Scheduled) -> Scheduled:
    return structs.replace(
        each, args=hiding.HIDDEN, kwargs=hiding.HIDDEN, options=hiding.HIDDEN, error=each.error and hiding.HIDDEN
    )
