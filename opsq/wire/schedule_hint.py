"""What a beat says will come of one entry: the event ``schedule-due`` as a record. Pure.

Both readers are autoscalers, which shall have slots before the work is there: the monitor for fleets, and a worker that
scales itself. Each asks ``upcoming`` what is due of the queues that it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec import Struct, structs

from opsq.wire.event import Event

DUE: Final = "schedule-due"
#: A hint counts for so many of its repetitions; a beat that is gone has then stopped to scale anything.
KEPT: Final = 3
#: One from the future by more than this was sent by a wrong clock.
AHEAD_S: Final = 2.0
#: Entries due soonest, as far as a decision looks at them.
MOST_UPCOMING: Final = 200
#: No time and no number of tasks is as large as this.
_BEYOND: Final = 1e12

Brought = Mapping[str, float]
"""Tasks by queue."""


class ScheduleHint(Struct, frozen=True):
    """When one entry is due next. host: the beat. at: when it said so. due: ticks, soonest first; none: nothing soon.

    queue: where its call goes, None when that cannot be told. brings: tasks of a tick by queue, as the user said; None
    when nobody did. freq: seconds until the beat says it again. last_id, last_at: its last call. emitter, seq:
    what said so, and as its which event. Times are epoch seconds.
    """

    name: str
    host: str
    at: float
    due: tuple[float, ...]
    freq: float
    queue: str | None = None
    brings: Brought | None = None
    last_id: str | None = None
    last_at: float | None = None
    emitter: str | None = None
    seq: int = 0

    def is_fresh(self, now: float) -> bool:
        """Whether the beat said it a moment ago, so that it is still there and its clock is right."""
        return -AHEAD_S <= now - self.at <= KEPT * self.freq

    def shifted(self, by_s: float) -> ScheduleHint:
        """The same by another clock."""
        last_at = None if self.last_at is None else self.last_at + by_s
        due = tuple([at + by_s for at in self.due])
        return structs.replace(self, at=self.at + by_s, due=due, last_at=last_at)


class Upcoming(Struct, frozen=True):
    """A tick to come of an entry: in how many seconds, and how many tasks it brings."""

    name: str
    in_s: float
    tasks: float


def hint_of(event: Event) -> ScheduleHint | None:
    """Read a ``schedule-due`` event; None when it lacks what matters. Never raises."""
    fields = event.fields
    name, due = _text(fields.get("name")), fields.get("due")
    at, freq = _number(event.timestamp), _number(fields.get("freq"))
    if name is None or not isinstance(due, list) or at is None or freq is None:
        return None
    return ScheduleHint(
        name=name,
        host=event.hostname,
        at=at,
        due=tuple(sorted(found for one in due if (found := _number(one)) is not None)),
        freq=freq,
        queue=_text(fields.get("queue")),
        brings=_brings(fields.get("brings")),
        last_id=_text(fields.get("last_id")),
        last_at=_number(fields.get("last_at")),
        emitter=event.emitter,
        seq=event.seq or 0,
    )


def upcoming(
    hints: Iterable[ScheduleHint],
    queues: Mapping[str, float],
    now: float,
    learned: Callable[[ScheduleHint], Brought | None] = lambda hint: None,
) -> tuple[Upcoming, ...]:
    """What is due of ``queues`` from ``now`` (epoch seconds) on, soonest first; of fresh hints only.

    queues: which part of their tasks counts, from 0 to 1. learned: tasks by queue that the last tick brought; asked
    where the user did not say, and when nobody knows it is the call alone. Where an entry's call goes may be unknown:
    it then counts for nobody.
    """
    found: list[Upcoming] = []
    for hint in hints:
        coming = [at - now for at in hint.due if at >= now]
        if not coming or not hint.is_fresh(now):
            continue
        brings = hint.brings if hint.brings is not None else learned(hint)
        if brings is None:
            brings = {} if hint.queue is None else {hint.queue: 1.0}
        tasks = sum(count * queues.get(queue, 0.0) for queue, count in brings.items())
        if tasks > 0:
            found += [Upcoming(hint.name, in_s, tasks) for in_s in coming]
    return tuple(sorted(found, key=lambda one: (one.in_s, one.name))[:MOST_UPCOMING])


def _number(value: Any) -> float | None:
    """A number from 0 on that can be reckoned with; None for all else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < _BEYOND:
        return None
    return float(value)


def _brings(told: Any) -> Brought | None:
    if not isinstance(told, dict):
        return None
    counted = {queue: _number(count) for queue, count in told.items() if isinstance(queue, str)}
    return {queue: count for queue, count in counted.items() if count is not None}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
