"""What is kept of each entry, and what a page shows of a whole schedule.

Three kinds of rows: ``state:NAME`` how far it is, ``about:NAME`` what it says, ``entry:NAME`` what was added or changed
by remote control. The leader writes them; anybody may read, without the code that the entries come from.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from opsq.core.schedules.base import BaseSchedule
from opsq.core.schedules.entry import Entry
from opsq.core.schedules.spec import schedule_from_spec, text_of
from opsq.core.schedules.store import Leader, ScheduleStore
from opsq.core.schedules.zones import zone_name
from opsq.errors import OpsqError
from opsq.masking import mask
from opsq.wire.saferepr import saferepr

log = logging.getLogger(__name__)

RECENT: Final = 20
STATE, ABOUT, ENTRY = "state:", "about:", "entry:"


class Run(Struct, frozen=True):
    """One tick that was sent. due_at, sent_at: epoch seconds; late_s: between the two, jitter taken off."""

    id: str
    due_at: float
    sent_at: float
    late_s: float
    asked: bool = False


class State(Struct):
    """How far an entry is. anchor: ticks until then are dealt with, epoch seconds.

    claim: ticks that the leader was about to send; whoever takes over finds out whether they were. paused: by remote
    control; None leaves it to the entry. missed: ticks that were not sent, by the catch-up rule. repeated: ticks that
    were sent again, under the same id, because nobody could tell whether they had been.
    """

    anchor: float
    spec: dict[str, Any] | None = None
    paused: bool | None = None
    claim: list[float] = []
    total: int = 0
    missed: int = 0
    repeated: int = 0
    late_max_s: float = 0.0
    seen_at: float = 0.0
    error: str | None = None
    recent: list[Run] = []


class About(Struct, frozen=True):
    """What an entry says, for people. spec: its schedule as data, None for a class of one's own."""

    task: str
    schedule: str
    spec: dict[str, Any] | None
    timezone: str | None
    args: str
    kwargs: str
    options: str
    catch_up: str
    jitter_s: float
    deadline_s: float | None
    enabled: bool
    source: str


class Line(Struct, frozen=True):
    """One entry as a page shows it. next_at: epoch seconds; None when paused, or when only the leader can tell."""

    name: str
    about: About
    state: State
    paused: bool
    next_at: float | None


class Book(Struct, frozen=True):
    """A whole schedule. leader: None while nobody sends anything."""

    leader: Leader | None
    lines: tuple[Line, ...]


def about_of(entry: Entry) -> About:
    """What ``entry`` says; secrets in its arguments are starred."""
    zone = getattr(entry.schedule, "own_tz", None)
    return About(
        task=entry.task,
        schedule=text_of(entry.schedule),
        spec=entry.spec(),
        timezone=zone_name(zone) if zone is not None else None,
        args=saferepr(tuple(entry.args)),
        kwargs=saferepr(mask(dict(entry.kwargs))),
        options=saferepr(mask(dict(entry.options))),
        catch_up=entry.catch_up,
        jitter_s=entry.jitter_s,
        deadline_s=entry.deadline_s,
        enabled=entry.enabled,
        source=entry.source,
    )


def is_paused(entry: Entry | About, state: State) -> bool:
    """Whether it waits for somebody to resume it."""
    return state.paused if state.paused is not None else not entry.enabled


def encode(value: Struct | Mapping[str, Any]) -> bytes:
    """A row; what JSON cannot hold is written as text."""
    return msgspec.json.encode(value, enc_hook=str)


def states_in(rows: Mapping[str, bytes]) -> dict[str, State]:
    """The states by name; one that cannot be read is left out, and said."""
    return _decoded(rows, STATE, State)


def book_in(rows: Mapping[str, bytes], leader: Leader | None) -> Book:
    """The schedule that rows hold."""
    states, abouts = states_in(rows), _decoded(rows, ABOUT, About)
    lines = [_line(name, about, states[name]) for name, about in sorted(abouts.items()) if name in states]
    return Book(leader, tuple(lines))


def read_book(store: ScheduleStore) -> Book:
    """Read a schedule, for a page. Raises: StoreUnavailable."""
    return book_in(store.read(), store.leader())


def next_ticks(about: About, after: float, count: int) -> list[float]:
    """The next ``count`` ticks later than ``after``, as far as they can be told from data."""
    return ticks_of(_schedule(about), after, count)


def ticks_of(schedule: BaseSchedule | None, after: float, count: int) -> list[float]:
    """The next ``count`` ticks of a schedule."""
    found: list[float] = []
    while schedule is not None and len(found) < count:
        following = schedule.next_after(found[-1] if found else after)
        if following is None:
            break
        found.append(following)
    return found


def _line(name: str, about: About, state: State) -> Line:
    paused = is_paused(about, state)
    following = [] if paused else next_ticks(about, state.anchor, 1)
    return Line(name, about, state, paused, following[0] if following else None)


def _schedule(about: About) -> BaseSchedule | None:
    try:
        return schedule_from_spec(about.spec) if about.spec is not None else None
    except OpsqError as error:
        log.warning("a schedule that was kept cannot be read", extra={"error": str(error)})
        return None


def _decoded(rows: Mapping[str, bytes], prefix: str, kind: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in rows.items():
        if name.startswith(prefix):
            try:
                found[name.removeprefix(prefix)] = msgspec.json.decode(value, type=kind)
            except msgspec.DecodeError as error:
                log.warning("a row of the schedule cannot be read", extra={"row": name, "error": str(error)})
    return found
