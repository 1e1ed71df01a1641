"""The task list: one filter that everything on the page obeys. Records in, view records out; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import Facets, Point, TaskItem, TaskPage
from opsq.web import charts, words
from opsq.web.faces import FINISHED, HELD, MOVING, Face, task_face
from opsq.web.terms import Filter
from opsq.web.view_common import (
    Ask,
    Bar,
    Head,
    Link,
    Moments,
    Places,
    bar_of,
    call_text,
    range_links,
    row_id,
    segment_lengths,
)
from opsq.web.view_range import Ranges
from opsq.web.view_task_chart import NO_CHART, filter_chart, series_of
from opsq.web.view_task_facets import ErrorCount, FacetGroup, facet_groups, suggestions

MAX_CALL_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One row. signature: everything that makes it look changed; two rows with the same one look the same.

    since_at: when a moving task's time began, so that the page can count it up. choosable: it has a box to tick.
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
    choosable: bool = False


@dataclass(frozen=True, slots=True)
class Chip:
    """A finished term of the search line. without: the same list with the term dropped."""

    name: str
    value: str
    term: str
    without: str


@dataclass(frozen=True, slots=True)
class Choose:
    """What can be done with ticked tasks: where their ids are sent. may_act: acts are offered, not the file alone."""

    retry: str
    revoke: str
    export: str
    may_act: bool


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
    choose: Choose
    suggestions: tuple[tuple[str, str], ...] = ()
    chart: charts.Chart | None = None
    chart_note: str = ""
    ranges: Ranges | None = None


HEADS: Final = (
    Head("State", "w-state"),
    Head("Task"),
    Head("Worker", "w-worker"),
    Head("Broker, prefetch, run", "w-times"),
    Head("Try", "num w-try"),
    Head("Published", "num when", "descending"),
)


@dataclass(frozen=True, slots=True)
class TasksFacts:
    """What the page of tasks is made from. points: history of the filter, where it is kept. can_act: the monitor
    does not only watch. errors: failures under this filter by their error.
    """

    page: TaskPage
    facets: Facets
    points: Sequence[Point] = ()
    can_act: bool = False
    errors: Sequence[ErrorCount] = ()


def tasks_view(found: TasksFacts, asked: Filter, ask: Ask, places: Places, broker: str, now: float) -> TasksView:
    """Build the page of tasks from one page of records."""
    page, facets, points = found.page, found.facets, found.points
    chosen = series_of(asked)
    return TasksView(
        rows=task_rows(page.items, places, now, choosable=True),
        chips=_chips(asked, ask, places),
        rest=asked.text,
        error=_error(asked),
        facets=facet_groups(facets, found.errors, asked, places),
        ranges=range_links(ask, places, "/tasks"),
        heads=HEADS,
        count=_count(page, asked),
        shown=_shown(page),
        older=places.to("/tasks") + ask.query(before=str(page.older)) if page.older is not None else "",
        newest=places.to("/tasks") + ask.query(before="") if ask.before is not None else "",
        filtered=bool(asked.terms or asked.text),
        nothing=asked.source,
        drop=tuple(Link(f"without {c.name}", c.without) for c in _chips(asked, ask, places)),
        broker=broker,
        choose=Choose(
            places.to("/bulk/retry"),
            places.to("/bulk/revoke"),
            places.to("/api/v1/tasks.csv"),
            "act" in ask.visitor.grants and found.can_act,
        ),
        suggestions=suggestions(facets, found.errors),
        chart=filter_chart(chosen, points, now) if chosen is not None and points else None,
        chart_note="" if chosen is not None else NO_CHART,
    )


def task_rows(items: Sequence[TaskItem], places: Places, now: float, *, choosable: bool = False) -> tuple[TaskRow, ...]:
    """Build rows on one scale, which ends at the page's 95th percentile."""
    lengths = [segment_lengths(item.segments, item.state, _moments(item), now) for item in items]
    totals = [sum(length or 0.0 for _, length in one) for one in lengths]
    scale = charts.percentile([total for total in totals if total > 0], 0.95)
    return tuple(
        _row(item, bar_of(one, scale), places, now, choosable) for item, one in zip(items, lengths, strict=True)
    )


def _moments(item: TaskItem) -> Moments:
    return Moments(item.published_at, item.received_at, item.started_at)


def _row(item: TaskItem, bar: Bar, places: Places, now: float, choosable: bool) -> TaskRow:
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
        choosable=choosable,
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


def is_finished(state: str) -> bool:
    """Tell whether nothing more is expected of a task in this state."""
    return state in FINISHED
