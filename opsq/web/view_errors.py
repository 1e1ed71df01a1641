"""Failures by their cause: the list of groups, and the page of one. Records in, view records out; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.views import ErrorGroup
from opsq.web import charts, words
from opsq.web.view_charts import Area, area_chart
from opsq.web.view_common import Ask, Head, Link, Places, range_links, row_id
from opsq.web.view_traceback import CodeLine, traceback_lines

MAX_TITLE: Final = 300
MAX_PARTS: Final = 12
NEW_S: Final = 3600.0
HEADS: Final = (
    Head("Error"),
    Head("Failed", "num"),
    Head("Retried", "num p2"),
    Head("First seen", "num p2"),
    Head("Last seen", "num", "descending"),
    Head("Newest task", "num"),
)


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One group in the list. fresh: it began of late, or since a worker was started last."""

    id: str
    href: str
    type: str
    title: str
    failed: str
    retried: str
    first_at: float
    last_at: float
    fresh: str
    task: str
    task_href: str


@dataclass(frozen=True, slots=True)
class ErrorsView:
    """The page of errors."""

    sentence: str
    rows: tuple[ErrorRow, ...]
    heads: tuple[Head, ...]
    failed_href: str
    broker: str


@dataclass(frozen=True, slots=True)
class Part:
    """How much of a group comes from one type, version or worker."""

    name: str
    href: str
    count: str
    percent: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Where a group comes from, by one property."""

    label: str
    parts: tuple[Part, ...]
    more: int


@dataclass(frozen=True, slots=True)
class ErrorView:
    """The page of one group."""

    fault: str
    crumbs: tuple[Link, ...]
    type: str
    title: str
    sentence: str
    fresh: str
    last_at: float
    first_at: float
    ranges: tuple[Link, ...]
    range_label: str
    chart: charts.Chart
    example: str
    traceback: tuple[CodeLine, ...]
    by: tuple[Parts, ...]
    newest: tuple[tuple[Link, float], ...]


def errors_view(
    groups: Sequence[ErrorGroup], started_at: float | None, places: Places, broker: str, now: float
) -> ErrorsView:
    """Build the list, the group heard of last first. started_at: when a worker was last started."""
    rows = tuple(_row(group, started_at, places, now) for group in groups)
    return ErrorsView(_sentence(rows), rows, HEADS, places.search(state="failed"), broker)


def _sentence(rows: Sequence[ErrorRow]) -> str:
    if not rows:
        return "No error has been seen"
    new = sum(bool(row.fresh) for row in rows)
    return f"{words.plural(len(rows), 'error')}{f', {new} new' if new else ', none of them new'}"


def _row(group: ErrorGroup, started_at: float | None, places: Places, now: float) -> ErrorRow:
    newest = group.newest[0][1] if group.newest else ""
    return ErrorRow(
        id="e-" + row_id(group.fault),
        href=places.page("errors", group.fault),
        type=group.type,
        title=_title(group),
        failed=words.count(group.failed),
        retried=words.count(group.retried),
        first_at=group.first_at,
        last_at=group.last_at,
        fresh=_fresh(group, started_at, now),
        task=words.short_id(newest),
        task_href=places.task(newest) if newest else "",
    )


def _title(group: ErrorGroup) -> str:
    """Give the message without its type, which stands before it."""
    text = group.title.removeprefix(group.type).strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return text.lstrip(":, ")[:MAX_TITLE]


def _fresh(group: ErrorGroup, started_at: float | None, now: float) -> str:
    if started_at is not None and group.first_at >= started_at and now - started_at < 24 * NEW_S:
        return "new since the last start"
    return "new" if now - group.first_at < NEW_S else ""


def error_view(group: ErrorGroup, started_at: float | None, ask: Ask, places: Places, now: float) -> ErrorView:
    """Build the page of one group."""
    trend = [float(point.failed + point.retried) for point in group.trend]
    retried = f", {words.plural(group.retried, 'try', 'tries')} retried" if group.retried else ""
    types = f" in {words.plural(len(group.types), 'task type')}" if group.types else ""
    workers = f" on {words.plural(len(group.workers), 'worker')}" if group.workers else ""
    return ErrorView(
        fault=group.fault,
        crumbs=(Link("Errors", places.to("/errors")),),
        type=group.type,
        title=_title(group),
        sentence=f"{words.plural(group.failed, 'task')} failed{retried}{types}{workers}.",
        fresh=_fresh(group, started_at, now),
        last_at=group.last_at,
        first_at=group.first_at,
        ranges=range_links(ask, places, places.page("errors", group.fault).removeprefix(places.prefix)),
        range_label=ask.range.label,
        chart=area_chart(Area("trend", "Trend", "failed and retried, per bucket", "failed"), trend, group.trend, now),
        example=group.exception[:2000],
        traceback=traceback_lines(group.traceback or group.exception),
        by=(
            _parts("Task type", group.types, lambda name: places.page("types", name)),
            _parts("Version", group.versions, None),
            _parts("Worker", group.workers, lambda name: places.page("workers", name)),
        ),
        newest=tuple((Link(words.short_id(id), places.task(id)), at) for id, at in _once(group.newest).items()),
    )


def _once(newest: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Name each task once, with its newest failure: a task that is retried fails several times."""
    found: dict[str, float] = {}
    for at, id in newest:
        found.setdefault(id, at)
    return found


def _parts(label: str, counts: Mapping[str, int], to: Callable[[str], str] | None) -> Parts:
    whole = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    parts = tuple(
        Part(name or words.UNKNOWN, to(name) if to and name else "", words.count(count),
             max(1, round(100 * count / whole)) if whole else 0)
        for name, count in ordered[:MAX_PARTS]
    )  # fmt: skip
    return Parts(label, parts, max(0, len(ordered) - MAX_PARTS))
