"""Failures by their cause: the list of groups, and the page of one. Records in, view records out; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.views import ErrorGroup
from opsq.web import charts, words
from opsq.web.changes import Change
from opsq.web.mutes import Mute
from opsq.web.view_charts import Area, area_chart
from opsq.web.view_common import Ask, Head, Link, Places, quoted, range_links, row_id
from opsq.web.view_range import Range, Ranges
from opsq.web.view_traceback import CodeLine, traceback_lines

MAX_TITLE: Final = 300
MAX_PARTS: Final = 12
#: Longer version labels are cut in a mark beside a name.
MOST_VERSION: Final = 20
NEW_S: Final = 3600.0
DEPLOY_NEWS_S: Final = 7 * 86_400.0
HEADS: Final = (
    Head("Error"),
    Head("Trend", "p2"),
    Head("In range", "num"),
    Head("Failed", "num p2"),
    Head("Retried", "num p2"),
    Head("First seen", "num p2"),
    Head("Last seen", "num", "descending"),
    Head("Newest task", "num"),
)


@dataclass(frozen=True, slots=True)
class Counted:
    """A group with how often it came in a range, by bucket."""

    group: ErrorGroup
    trend: tuple[int, ...]

    @property
    def count(self) -> int:
        """How often it came in the range."""
        return sum(self.trend)


@dataclass(frozen=True, slots=True)
class Since:
    """What a new error may come from. started_at: when a worker was last started. deploy: the newest that was seen."""

    started_at: float | None = None
    deploy: Change | None = None


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """One group in a short list."""

    label: str
    href: str
    small: str
    count: str


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One group in the list. fresh: it began of late, or since a deploy. muted: by whom and until when, in words."""

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
    trend: charts.Trace | None
    count: str
    muted: str


@dataclass(frozen=True, slots=True)
class ErrorsView:
    """The page of errors."""

    sentence: str
    rows: tuple[ErrorRow, ...]
    muted: tuple[ErrorRow, ...]
    heads: tuple[Head, ...]
    ranges: Ranges
    shown: Range
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
    ranges: Ranges
    range_label: str
    chart: charts.Chart
    example: str
    traceback: tuple[CodeLine, ...]
    by: tuple[Parts, ...]
    newest: tuple[tuple[Link, float], ...]
    muted: str
    retry_href: str
    tasks_href: str


@dataclass(frozen=True, slots=True)
class ErrorsFacts:
    """What the list is made from."""

    groups: Sequence[Counted]
    since: Since
    mutes: Mapping[str, Mute]


def errors_view(facts: ErrorsFacts, ask: Ask, places: Places, broker: str, now: float) -> ErrorsView:
    """Build the list, the group heard of last first, muted ones apart."""
    rows = tuple(_row(each, facts, places, now) for each in facts.groups)
    heard = tuple(row for row in rows if not row.muted)
    return ErrorsView(
        sentence=_sentence(heard, len(rows)),
        rows=heard,
        muted=tuple(row for row in rows if row.muted),
        heads=HEADS,
        ranges=range_links(ask, places, "/errors"),
        shown=ask.range,
        failed_href=places.search(state="failed"),
        broker=broker,
    )


def _sentence(rows: Sequence[ErrorRow], known: int) -> str:
    if not known:
        return "No error has been seen"
    new = sum(bool(row.fresh) for row in rows)
    muted = f", {known - len(rows)} muted" if known > len(rows) else ""
    return f"{words.plural(len(rows), 'error')}{f', {new} new' if new else ', none of them new'}{muted}"


def error_line(each: Counted, since: Since, places: Places, now: float) -> ErrorLine:
    """Build a line of the overview."""
    group = each.group
    where = words.short_name(next(iter(group.types))) if len(group.types) == 1 else ""
    where = where or (words.plural(len(group.types), "task type") if group.types else "")
    fresh = _fresh(group, since, now)
    began = f"{fresh}, first {words.clock(group.first_at)}" if fresh else f"since {words.day(group.first_at)}"
    return ErrorLine(
        label=group.type,
        href=places.page("errors", group.fault),
        small=", ".join(part for part in (where, began) if part),
        count=words.count(each.count),
    )


def error_name(exception: str | None) -> str:
    """Name an error by the class in its repr: ``ValueError('x')`` gives ``ValueError``. Display only."""
    if not exception:
        return "unknown error"
    name = exception.split("(", 1)[0].split(":", 1)[0].strip()
    return name[:60] or "unknown error"


def muted_text(mute: Mute | None) -> str:
    """Say who muted an error and until when; empty when nobody did."""
    if mute is None:
        return ""
    until = f" until {words.day(mute.until_at)} {words.clock(mute.until_at)}" if mute.until_at is not None else ""
    return f"muted{f' by {mute.who}' if mute.who else ''}{until}"


def _row(each: Counted, facts: ErrorsFacts, places: Places, now: float) -> ErrorRow:
    group = each.group
    newest = group.newest[0][1] if group.newest else ""
    return ErrorRow(
        id="e-" + row_id(group.fault),
        href=places.page("errors", group.fault),
        type=group.type,
        title=error_title(group),
        failed=words.count(group.failed),
        retried=words.count(group.retried),
        first_at=group.first_at,
        last_at=group.last_at,
        fresh=_fresh(group, facts.since, now),
        task=words.short_id(newest),
        task_href=places.task(newest) if newest else "",
        trend=charts.spark([float(count) for count in each.trend], width=120) if each.count else None,
        count=words.count(each.count),
        muted=muted_text(facts.mutes.get(group.fault)),
    )


def error_title(group: ErrorGroup) -> str:
    """Give the message without its type, which stands before it."""
    text = group.title.removeprefix(group.type).strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return text.lstrip(":, ")[:MAX_TITLE]


def _fresh(group: ErrorGroup, since: Since, now: float) -> str:
    deploy, started_at = since.deploy, since.started_at
    if deploy is not None and group.first_at >= deploy.at and now - deploy.at < DEPLOY_NEWS_S:
        return f"new since {words.cut(deploy.version, MOST_VERSION)}"
    if started_at is not None and group.first_at >= started_at and now - started_at < 24 * NEW_S:
        return "new since the last start"
    return "new" if now - group.first_at < NEW_S else ""


def error_view(
    group: ErrorGroup, since: Since, mute: Mute | None, ask: Ask, places: Places, now: float
) -> ErrorView:  # fmt: skip
    """Build the page of one group."""
    trend = [float(point.failed + point.retried) for point in group.trend]
    retried = f", {words.plural(group.retried, 'try', 'tries')} retried" if group.retried else ""
    types = f" in {words.plural(len(group.types), 'task type')}" if group.types else ""
    workers = f" on {words.plural(len(group.workers), 'worker')}" if group.workers else ""
    return ErrorView(
        fault=group.fault,
        crumbs=(Link("Errors", places.to("/errors")),),
        type=group.type,
        title=error_title(group),
        sentence=f"{words.plural(group.failed, 'task')} failed{retried}{types}{workers}.",
        fresh=_fresh(group, since, now),
        last_at=group.last_at,
        first_at=group.first_at,
        ranges=range_links(ask, places, places.page("errors", group.fault).removeprefix(places.prefix)),
        range_label=ask.range.said,
        chart=area_chart(Area("trend", "Trend", "failed and retried, per bucket", "failed"), trend, group.trend, now),
        example=group.exception[:2000],
        traceback=traceback_lines(group.traceback or group.exception),
        by=(
            _parts("Task type", group.types, lambda name: places.page("types", name)),
            _parts("Version", group.versions, None),
            _parts("Worker", group.workers, lambda name: places.page("workers", name)),
        ),
        newest=tuple((Link(words.short_id(id), places.task(id)), at) for id, at in _once(group.newest).items()),
        muted=muted_text(mute),
        retry_href=_retry(group, ask, places),
        tasks_href=places.search(fault=group.fault) if group.failed else "",
    )


def _retry(group: ErrorGroup, ask: Ask, places: Places) -> str:
    """Where the tasks that failed by this error are retried, with a preview."""
    if "act" not in ask.visitor.grants or not group.failed:
        return ""
    return places.to("/bulk/retry", q=f"fault:{quoted(group.fault)}")


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
