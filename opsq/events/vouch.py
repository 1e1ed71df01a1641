"""Names and figures of events that are used as keys or kept for ever: checked once, refused when they cannot be kept.

Events arrive checked by ``wire.event``, but not for what a store or a page cannot take: text that is not Unicode,
names without end, clocks beyond any integer column.
"""

from __future__ import annotations

from typing import Final

import msgspec

from opsq.wire.event import Event

LONGEST_NAME: Final = 256
LATEST_TIME: Final = 4_102_444_800.0  # the year 2100; a later time is a broken clock
_LARGEST: Final = 2**53
_MOST_NAMES: Final = 50_000


class Vouched(set[str]):
    """Names that were looked at and can be kept. Bounded; a flood of them only means that they are looked at again.

    A set itself, because every event asks twice and a method of ours would cost more than the answer.
    """

    def accepts(self, name: str) -> bool:
        """Can this name be kept?"""
        if name in self:
            return True
        if not name or len(name) > LONGEST_NAME or not _is_unicode(name):
            return False
        if len(self) >= _MOST_NAMES:
            self.clear()
        self.add(name)
        return True


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def sane(event: Event, now: float) -> Event:
    """The same event with figures nobody can mean left out: a time that is none becomes ``now``."""
    at, clock, pid = event.timestamp, event.clock, event.pid
    if 0.0 <= at <= LATEST_TIME and _fits(clock) and _fits(pid):
        return event
    return msgspec.structs.replace(
        event,
        timestamp=at if 0.0 <= at <= LATEST_TIME else now,
        clock=clock if _fits(clock) else None,
        pid=pid if _fits(pid) else None,
    )


def _fits(value: int | None) -> bool:
    return value is None or -_LARGEST < value < _LARGEST
