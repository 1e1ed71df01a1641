"""Which ticks of an entry are to be sent now. Pure.

A tick is an instant that the schedule names. It is sent at that instant, plus its jitter. What comes after the
**anchor** (the last tick that was dealt with) and is due makes a plan: after a pause of any length at most one tick is
sent (``catch_up = once``), or all of them, or none; the rest counts as missed.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from opsq.core.schedules.base import BaseSchedule
from opsq.core.schedules.crontab import crontab
from opsq.core.schedules.entry import Entry
from opsq.core.schedules.interval import schedule as interval

MOST_AT_ONCE: Final = 100
"""Ticks of one entry that are sent in one go; the others follow in the next."""
MOST_COUNTED: Final = 100_000
PUNCTUAL_S: Final = 60.0
"""With ``catch_up = none``, a tick later than this was missed; beats that change the lead are faster."""
_LOOK_BACK_S: Final = (3_600.0, 86_400.0, 32 * 86_400.0, 400 * 86_400.0)
_NAMESPACE: Final = uuid.UUID("5b1c5f5e-2f0e-5d0a-9a51-0d3f6c1d7b11")


class Plan(NamedTuple):
    """due: ticks to send. missed: how many are not sent. anchor: dealt with when they are sent.

    next_at: when to look again, epoch seconds; None for never.
    """

    due: tuple[float, ...]
    missed: int
    anchor: float
    next_at: float | None


def tick_id(schedule: str, name: str, due: float) -> str:
    """The task id of a tick: the same whoever sends it. schedule: identity of the whole."""
    return str(uuid.uuid5(_NAMESPACE, f"{schedule}\n{name}\n{due:.3f}"))


def offset_of(entry: Entry, due: float, following: float | None) -> float:
    """The jitter of a tick, seconds: the same whoever works it out, and over before the next tick."""
    if not entry.jitter_s:
        return 0.0
    room = entry.jitter_s if following is None else min(entry.jitter_s, following - due)
    digest = hashlib.blake2s(f"{entry.name}\n{due:.3f}".encode(), digest_size=8).digest()
    return room * int.from_bytes(digest, "big") / 2**64


def next_tick(schedule: Any, after: float, now: float) -> float | None:
    """The first tick later than ``after``; of a schedule that only knows ``is_due``, as it answers now."""
    own = isinstance(schedule, BaseSchedule)
    overrides = type(schedule) if own else None
    knows = overrides is not None and (
        overrides.next_after is not BaseSchedule.next_after
        or overrides.remaining_estimate is not BaseSchedule.remaining_estimate
    )
    if knows:
        found: float | None = schedule.next_after(after)
        return found
    due, wait_s = schedule.is_due(datetime.fromtimestamp(after, UTC))
    return now if due else now + max(float(wait_s), 0.0)


def send_at(entry: Entry, due: float, now: float) -> float:
    """When a tick is sent."""
    if not entry.jitter_s:
        return due
    return due + offset_of(entry, due, next_tick(entry.schedule, due, now))


def plan(entry: Entry, anchor: float, now: float, starting_deadline_s: float | None = None) -> Plan:
    """What to send of ``entry`` at ``now``. starting_deadline_s: of crontabs without a deadline of their own."""
    first = next_tick(entry.schedule, anchor, now)
    if first is None:
        return Plan((), 0, anchor, None)
    at = send_at(entry, first, now)
    if at > now:
        return Plan((), 0, anchor, at)
    oldest = now - _deadline_s(entry, starting_deadline_s)
    if entry.catch_up == "all":
        due, missed, last = _all(entry, first, now, oldest)
    else:
        last, passed = _latest(entry, first, now)
        due = (last,) if last >= oldest else ()
        missed = passed - len(due)
    following = next_tick(entry.schedule, last, now)
    return Plan(due, missed, last, None if following is None else send_at(entry, following, now))


def _deadline_s(entry: Entry, starting_deadline_s: float | None) -> float:
    if entry.deadline_s is not None:
        return entry.deadline_s
    if entry.catch_up == "none":
        return PUNCTUAL_S
    if starting_deadline_s is not None and isinstance(entry.schedule, crontab):
        return starting_deadline_s
    return float("inf")


def _all(entry: Entry, first: float, now: float, oldest: float) -> tuple[tuple[float, ...], int, float]:
    due: list[float] = []
    missed, last = 0, first
    following: float | None = first
    while following is not None and send_at(entry, following, now) <= now and len(due) < MOST_AT_ONCE:
        last = following
        if following >= oldest:
            due.append(following)
        else:
            missed += 1
        following = next_tick(entry.schedule, following, now)
    return tuple(due), missed, last


def _latest(entry: Entry, first: float, now: float) -> tuple[float, int]:
    """The last tick that is to be sent by ``now``, and how many there were from ``first`` on, as far as counted."""
    if type(entry.schedule) is interval and not entry.schedule.relative and not entry.jitter_s:
        steps = int((now - first) / entry.schedule.seconds)
        return first + steps * entry.schedule.seconds, steps + 1
    passed, last = 1, first
    while (following := next_tick(entry.schedule, last, now)) is not None and send_at(entry, following, now) <= now:
        passed, last = passed + 1, following
        if passed > MOST_COUNTED:
            return _skip_ahead(entry, last, now), passed
    return last, passed


def _skip_ahead(entry: Entry, last: float, now: float) -> float:
    """The last tick by ``now``, when there are too many to count."""
    for back_s in _LOOK_BACK_S:
        following = next_tick(entry.schedule, max(last, now - back_s), now)
        while following is not None and send_at(entry, following, now) <= now:
            last = following
            following = next_tick(entry.schedule, following, now)
        if last >= now - back_s:
            break
    return last
