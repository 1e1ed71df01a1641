"""What runs by the clock: the entries of the schedule, who sends them, how late; and one entry. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.web import words
from opsq.web.charts import Segment
from opsq.web.hands import Scheduled, Ticked, Timetable
from opsq.web.view_common import Head, Link, Places, row_id

#: A tick sent later than this is late.
LATE_S: Final = 1.0
MAX_TEXT: Final = 200
#: The act that the list offers; on the page of an entry it would be out of place.
ADD: Final = "schedule-add"
HEADS: Final = (
    Head("Entry"),
    Head("When"),
    Head("Next"),
    Head("Last", "num p2"),
    Head("Late", "num"),
    Head("Last 20", "p2"),
    Head("Sent", "num p2"),
    Head("Left out", "num p2"),
)


@dataclass(frozen=True, slots=True)
class EntryRow:
    """One entry. state: css and icon of it. next_at: None where paused or unknown. late: of the last tick, in words."""

    id: str
    name: str
    href: str
    task: str
    when: str
    icon: str
    css: str
    word: str
    next_at: float | None
    in_s: float | None
    said_next: str
    last_at: float | None
    late: str
    is_late: bool
    ticks: tuple[Segment, ...]
    sent: str
    missed: str


@dataclass(frozen=True, slots=True)
class SchedulesView:
    """The page of schedules. sentence: who sends and how it goes."""

    sentence: str
    detail: str
    bad: bool
    rows: tuple[EntryRow, ...]
    heads: tuple[Head, ...]
    add_href: str
    watches: bool
    note: str


@dataclass(frozen=True, slots=True)
class TickRow:
    """A call that was sent."""

    due_at: float
    due: str
    late: str
    is_late: bool
    asked: bool
    task: Link


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """The page of one entry. upcoming: (epoch seconds, clock with its day)."""

    name: str
    crumbs: tuple[Link, ...]
    row: EntryRow
    sentence: str
    error: str
    facts: tuple[tuple[str, str], ...]
    task: Link
    upcoming: tuple[tuple[float, str], ...]
    ticks: tuple[TickRow, ...]


def schedules_view(found: Timetable | None, may_add: bool, places: Places, now: float) -> SchedulesView:
    """Build the list: what cannot be sent first, paused last. found: None where the monitor only watches."""
    entries = found.entries if found is not None else ()
    rows = tuple(entry_row(each, places, now) for each in sorted(entries, key=_rank))
    bad = bool(entries) and found is not None and found.leader is None
    return SchedulesView(
        sentence=_sentence(found, rows),
        detail=_detail(found),
        bad=bad,
        rows=rows,
        heads=HEADS,
        add_href=places.to(f"/act/{ADD}") if may_add else "",
        watches=found is None,
        note=found.note if found is not None else "",
    )


def _rank(each: Scheduled) -> tuple[bool, bool, str]:
    """Order by name, not by what is due next: rows that trade places with every tick cannot be read."""
    return (not each.error, each.paused, each.name)


def _sentence(found: Timetable | None, rows: Sequence[EntryRow]) -> str:
    if found is None or not rows:
        return "No schedule has been seen"
    if found.leader is None:
        return f"Nobody sends {words.plural(len(rows), 'entry', 'entries')}"
    wrong = sum(row.css == "failed" for row in rows)
    late = sum(row.is_late for row in rows)
    parts = [words.plural(len(rows), "entry", "entries")]
    parts += [f"{wrong} cannot be sent"] if wrong else []
    parts += [f"{late} late last time" if late else "on time"]
    return ", ".join(parts)


def _detail(found: Timetable | None) -> str:
    if found is None or not found.entries:
        return ""
    if found.leader is None:
        return "No beat leads. Ticks that pass are caught up as each entry says, once one does."
    lease = f", its lease has {words.duration(found.lease_s)} left" if found.lease_s is not None else ""
    return f"Sent by {found.leader}{lease}."


def entry_row(each: Scheduled, places: Places, now: float) -> EntryRow:
    """Build the row of one entry."""
    last = each.recent[-1] if each.recent else None
    next_at = each.upcoming[0] if each.upcoming else None
    css, icon, word = _state(each)
    return EntryRow(
        id="s-" + row_id(each.name),
        name=each.name,
        href=places.page("schedules", each.name),
        task=each.task,
        when=each.schedule + (f" ({each.timezone})" if each.timezone else ""),
        icon=icon,
        css=css,
        word=word,
        next_at=next_at,
        in_s=None if next_at is None else max(0.0, next_at - now),
        said_next="paused" if each.paused else _in(next_at, now),
        last_at=last.sent_at if last else None,
        late=words.duration(last.late_s) if last else words.NOT_APPLICABLE,
        is_late=last is not None and not last.asked and last.late_s > LATE_S,
        ticks=_ticks(each.recent),
        sent=words.count(each.total),
        missed=words.count(each.missed),
    )


def _state(each: Scheduled) -> tuple[str, str, str]:
    if each.error:
        return "failed", "failed", "cannot be sent"
    return ("revoked", "pause", "paused") if each.paused else ("ok", "ok", "active")


def _in(at: float | None, now: float) -> str:
    if at is None:
        return words.UNKNOWN
    return f"in {words.duration(float(round(at - now)))}" if at - now >= 1 else "now"


def _ticks(recent: Sequence[Ticked]) -> tuple[Segment, ...]:
    """A bar for each of the last ticks, as high as it was late: on a scale of powers, 1 ms to 1 min."""
    return tuple(
        Segment("failed" if each.late_s > LATE_S and not each.asked else "ok", float(i * 6), _height(each.late_s))
        for i, each in enumerate(recent[-20:])
    )


def _height(late_s: float) -> float:
    steps = (0.01, 0.1, 1.0, 10.0, 60.0)
    return 3.0 + 3.0 * sum(late_s > step for step in steps)


def schedule_view(each: Scheduled, places: Places, now: float) -> ScheduleView:
    """Build the page of one entry."""
    row = entry_row(each, places, now)
    source = "the code" if each.source == "code" else "remote control"
    facts = (
        ("When", row.when), ("Arguments", each.args[:MAX_TEXT]), ("Keywords", each.kwargs[:MAX_TEXT]),
        ("Options", each.options[:MAX_TEXT]), ("Comes from", source), ("Missed ticks", _catch_up(each.catch_up)),
        ("Jitter", words.duration(each.jitter_s) if each.jitter_s else "none"),
        ("Deadline", words.duration(each.deadline_s) if each.deadline_s else "none"),
        ("Sent", words.plural(each.total, "call")), ("Left out", words.plural(each.missed, "tick")),
        ("Sent again", words.plural(each.repeated, "tick")), ("Latest ever", words.duration(each.late_max_s)),
    )  # fmt: skip
    return ScheduleView(
        name=each.name,
        crumbs=(Link("Schedules", places.to("/schedules")),),
        row=row,
        sentence=_story(each, row, now),
        error=(each.error or "")[:MAX_TEXT],
        facts=facts,
        task=Link(each.task, places.page("types", each.task)),
        upcoming=tuple((at, _day_clock(at)) for at in each.upcoming),
        ticks=tuple(_tick(one, places) for one in reversed(each.recent)),
    )


def _catch_up(rule: str) -> str:
    return {"once": "the last one is sent", "all": "each is sent", "none": "none later than 1 min"}.get(rule, rule)


def _story(each: Scheduled, row: EntryRow, now: float) -> str:
    if each.paused:
        return "Paused: nothing is sent until it is resumed."
    if not each.recent:
        return f"Not sent yet; next {row.said_next}."
    return f"Next {row.said_next}; last sent {words.ago(max(0.0, now - each.recent[-1].sent_at))}, {row.late} late."


def _tick(one: Ticked, places: Places) -> TickRow:
    return TickRow(one.due_at, _day_clock(one.due_at), words.duration(one.late_s),
                   one.late_s > LATE_S and not one.asked, one.asked,
                   Link(words.short_id(one.id), places.task(one.id)))  # fmt: skip


def _day_clock(at: float) -> str:
    return f"{words.day(at)} {words.clock_seconds(at)}"
