"""The task list: one filter that everything on the page obeys. Records in, view records out; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from opsq.events.grammar_fields import FIELDS, STATE_WORDS
from opsq.events.records import Facets, FacetValue, Point, TaskItem, TaskPage
from opsq.web import charts, words
from opsq.web.faces import FINISHED, HELD, MOVING, STATE_BY_WORD, Face, task_face
from opsq.web.terms import Filter
from opsq.web.view_charts import Area, area_chart
from opsq.web.view_common import (
    Ask,
    Bar,
    Head,
    Link,
    Moments,
    Places,
    bar_of,
    call_text,
    quoted,
    row_id,
    segment_lengths,
)

FACET_ROWS: Final = 8
STATE_ORDER: Final = ("PENDING", "RECEIVED", "STARTED", "SUCCESS", "RETRY", "FAILURE", "REVOKED")
MAX_CALL_TEXT: Final = 300
MAX_SUGGESTIONS: Final = 150
NO_CHART: Final = "No chart of this filter: history is counted by one type, queue or worker, and by outcome."


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One row. signature: everything that makes it look changed; two rows with the same one look the same.

    since_at: when a moving task's time began, so that the page can count it up.
    """

    id: str
    task_id: str
    href: str
    face: Face
    name: str
    full_name: str
    call: str
    worker: str
    bar: Bar
    total: str
    since_at: float | None
    attempt: str
    at: float
    signature: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Chip:
    """A finished term of the search line. without: the same list with the term dropped."""

    name: str
    value: str
    term: str
    without: str


@dataclass(frozen=True, slots=True)
class FacetRow:
    """One value to filter by, and how many tasks have it."""

    label: str
    href: str
    count: str
    chosen: bool
    empty: bool
    face: Face | None = None


@dataclass(frozen=True, slots=True)
class FacetGroup:
    """The values of one field."""

    label: str
    rows: tuple[FacetRow, ...]


@dataclass(frozen=True, slots=True)
class TermError:
    """What is wrong with a term: its letters, where it begins (from 1), and what to write."""

    wrong: str
    position: int
    problem: str


@dataclass(frozen=True, slots=True)
class TasksView:
    """The page of tasks."""

    rows: tuple[TaskRow, ...]
    chips: tuple[Chip, ...]
    rest: str
    error: TermError | None
    facets: tuple[FacetGroup, ...]
    heads: tuple[Head, ...]
    count: str
    shown: str
    older: str
    newest: str
    filtered: bool
    nothing: str
    drop: tuple[Link, ...]
    broker: str
    suggestions: tuple[tuple[str, str], ...] = ()
    chart: charts.Chart | None = None
    chart_note: str = ""


HEADS: Final = (
    Head("State", "w-state"),
    Head("Task"),
    Head("Worker", "w-worker"),
    Head("Broker, prefetch, run", "w-times"),
    Head("Try", "num w-try"),
    Head("Published", "num when", "descending"),
)


@dataclass(frozen=True, slots=True)
class Series:
    """Which rolled-up history counts a filter. count: of each bucket, by the name of a ``Point``'s field."""

    type: str | None = None
    queue: str | None = None
    worker: str | None = None
    count: str = "arrived"


_COUNTED: Final[Mapping[str, str]] = MappingProxyType({
    "": "arrived", "failed": "failed", "failure": "failed", "ok": "succeeded", "success": "succeeded",
    "retry": "retried", "revoked": "revoked",
})  # fmt: skip
_PATTERN: Final = frozenset("*?,[]")


def series_of(asked: Filter) -> Series | None:
    """Pick the history that counts a filter exactly; None when none does, because it is not kept by such terms."""
    names = [term.name for term in asked.terms]
    state = asked.value("state").lower()
    by = [name for name in names if name in ("type", "queue", "worker")]
    if asked.text or asked.fault or len(by) > 1 or set(names) - {"type", "queue", "worker", "state"}:
        return None
    if state not in _COUNTED or len(set(names)) < len(names) or _PATTERN & set(asked.value(by[0]) if by else ""):
        return None
    value = asked.value(by[0]) if by else ""
    if by == ["worker"] and "@" not in value:
        return None
    return Series(**dict.fromkeys(by, value), count=_COUNTED[state])


def filter_chart(chosen: Series, points: Sequence[Point], now: float) -> charts.Chart:
    """Chart the tasks of a filter over time, per bucket."""
    values = [float(getattr(point, chosen.count)) for point in points]
    css = "failed" if chosen.count == "failed" else "total"
    small = "per minute" if points and points[0].width_s == 60 else "per bucket"
    return area_chart(Area("filter", chosen.count.capitalize(), small, css, 64), values, points, now)


def suggestions(facets: Facets) -> tuple[tuple[str, str], ...]:
    """List what a term of the search line may be: fields with what they mean, states, and the names seen."""
    found = [(f"{field.name}:", f"{field.doc} {field.example}".replace("`", "")) for field in FIELDS.values()]
    found += [(f"state:{word}", "") for word in STATE_WORDS]
    for name, values in (("type", facets.type), ("queue", facets.queue), ("worker", facets.worker)):
        found += [(f"{name}:{quoted(one.value)}", words.plural(one.count, "task")) for one in values if one.value]
    return tuple(found[:MAX_SUGGESTIONS])


@dataclass(frozen=True, slots=True)
class TasksFacts:
    """What the page of tasks is made from. points: history of the filter, where it is kept."""

    page: TaskPage
    facets: Facets
    points: Sequence[Point] = ()


def tasks_view(found: TasksFacts, asked: Filter, ask: Ask, places: Places, broker: str, now: float) -> TasksView:
    """Build the page of tasks from one page of records."""
    page, facets, points = found.page, found.facets, found.points
    chosen = series_of(asked)
    return TasksView(
        rows=task_rows(page.items, places, now),
        chips=_chips(asked, ask, places),
        rest=asked.text,
        error=_error(asked),
        facets=facet_groups(facets, asked, places),
        heads=HEADS,
        count=_count(page, asked),
        shown=_shown(page),
        older=places.to("/tasks") + ask.query(before=str(page.older)) if page.older is not None else "",
        newest=places.to("/tasks") + ask.query(before="") if ask.before is not None else "",
        filtered=bool(asked.terms or asked.text),
        nothing=asked.source,
        drop=tuple(Link(f"without {c.name}", c.without) for c in _chips(asked, ask, places)),
        broker=broker,
        suggestions=suggestions(facets),
        chart=filter_chart(chosen, points, now) if chosen is not None and points else None,
        chart_note="" if chosen is not None else NO_CHART,
    )


def task_rows(items: Sequence[TaskItem], places: Places, now: float) -> tuple[TaskRow, ...]:
    """Build rows on one scale, which ends at the page's 95th percentile."""
    lengths = [segment_lengths(item.segments, item.state, _moments(item), now) for item in items]
    totals = [sum(length or 0.0 for _, length in one) for one in lengths]
    scale = charts.percentile([total for total in totals if total > 0], 0.95)
    return tuple(_row(item, bar_of(one, scale), places, now) for item, one in zip(items, lengths, strict=True))


def _moments(item: TaskItem) -> Moments:
    return Moments(item.published_at, item.received_at, item.started_at)


def _row(item: TaskItem, bar: Bar, places: Places, now: float) -> TaskRow:
    face = HELD if item.state == "RECEIVED" and item.eta and item.started_at is None else task_face(item.state)
    moving = item.state in MOVING
    since = (item.published_at or item.received_at or item.at) if moving else None
    name = item.type or ""
    return TaskRow(
        id=row_id(item.id),
        task_id=item.id,
        href=places.task(item.id),
        face=face,
        name=words.short_name(name) if name else words.UNKNOWN,
        full_name=name or words.UNKNOWN,
        call=call_text(item.args, item.kwargs)[:MAX_CALL_TEXT],
        worker=words.short_host(item.worker) if item.worker else "",
        bar=bar,
        total=_total(item, since, now),
        since_at=since,
        attempt=str(item.retries + 1) if item.tries or item.worker else words.NOT_APPLICABLE,
        at=item.published_at or item.at,
        signature=(face.word, item.worker, item.retries, item.type, item.finished_at, item.started_at, item.runtime_s),
    )


def _total(item: TaskItem, since: float | None, now: float) -> str:
    if since is not None:
        return words.duration(now - since)
    total = item.segments.total
    if total is None:
        total = item.runtime_s
    return words.duration(total)


def _chips(asked: Filter, ask: Ask, places: Places) -> tuple[Chip, ...]:
    return tuple(
        Chip(term.name, term.value, str(term), places.to("/tasks") + ask.query(q=asked.without(term), before=""))
        for term in asked.terms
    )


def _error(asked: Filter) -> TermError | None:
    fault = asked.fault
    if fault is None:
        return None
    wrong = asked.source[fault.position : fault.position + max(1, fault.length)]
    return TermError(wrong, fault.position + 1, fault.problem)


def _count(page: TaskPage, asked: Filter) -> str:
    if page.total is not None:
        return f"{'≥ ' if page.at_least else ''}{words.plural(page.total, 'task')}"
    return f"{'≥ ' if page.older is not None else ''}{words.plural(len(page.items), 'task')}"


def _shown(page: TaskPage) -> str:
    least = "≥ " if page.at_least else ""
    total = f" of {least}{words.count(page.total)}" if page.total is not None else ""
    stopped = "" if page.complete else f", stopped after looking at {words.count(page.scanned)}"
    return f"{words.count(len(page.items))}{total}, newest first{stopped}"


def facet_groups(facets: Facets, asked: Filter, places: Places) -> tuple[FacetGroup, ...]:
    """Build the four facets; the states stand in the order of a task's life, the others by count."""
    return (
        FacetGroup("State", tuple(_state_rows(facets.state, asked, places))),
        FacetGroup("Queue", tuple(_facet_rows("queue", facets.queue, asked, places))),
        FacetGroup("Type", tuple(_facet_rows("type", facets.type, asked, places))),
        FacetGroup("Worker", tuple(_facet_rows("worker", facets.worker, asked, places))),
    )


def _state_rows(values: Sequence[FacetValue], asked: Filter, places: Places) -> list[FacetRow]:
    return state_rows({value.value or "": value.count for value in values}, asked, places)


def state_rows(found: Mapping[str, int], asked: Filter, places: Places) -> list[FacetRow]:
    """Build a row for every state in the order of a task's life; states nobody is in stay in place."""
    counts = dict(found)
    if "SENT" in counts:
        counts["PENDING"] = counts.get("PENDING", 0) + counts.pop("SENT")
    states = [*STATE_ORDER, *sorted(state for state in counts if state and state not in STATE_ORDER)]
    rows = []
    for state in states:
        face = task_face(state)
        word = face.word if face.word in STATE_BY_WORD else state
        rows.append(_facet_row("state", word, face.word, counts.get(state, 0), asked, places, face))
    return rows


def _facet_rows(name: str, values: Sequence[FacetValue], asked: Filter, places: Places) -> list[FacetRow]:
    known = sorted((value for value in values if value.value), key=lambda value: (-value.count, value.value))
    chosen = asked.value(name)
    kept = known[:FACET_ROWS] + [value for value in known[FACET_ROWS:] if value.value == chosen]
    label = words.short_host if name == "worker" else str
    return [_facet_row(name, value.value or "", label(value.value or ""), value.count, asked, places) for value in kept]


def _facet_row(
    name: str, value: str, label: str, count: int, asked: Filter, places: Places, face: Face | None = None
) -> FacetRow:
    chosen = asked.value(name) == value
    line = asked.with_value(name, "" if chosen else value)
    return FacetRow(label, places.to("/tasks", q=line) if line else places.to("/tasks"), words.count(count),
                    chosen, count == 0, face)  # fmt: skip


def is_finished(state: str) -> bool:
    """Tell whether nothing more is expected of a task in this state."""
    return state in FINISHED
