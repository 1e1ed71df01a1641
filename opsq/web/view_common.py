"""View records that several pages share, and what a request asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urlencode

from opsq.events.records import Segments
from opsq.web import charts
from opsq.web.access.door import STRANGER, Visitor
from opsq.web.view_range import DEFAULT_RANGE, RANGES, Range, Ranges, asked_range


@dataclass(frozen=True, slots=True)
class Link:
    """A place to go. key: the letter after ``g``, for navigation."""

    label: str
    href: str
    current: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """A column's head. sort: value of ``aria-sort`` when the rows are ordered by it."""

    label: str
    css: str = ""
    sort: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A segmented bar. cut: it is longer than the scale and ends in a notch."""

    segments: tuple[charts.Segment, ...]
    cut: bool = False


PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request for a page asked for, already checked; nonsense in the URL falls back to the default.

    visitor: who asks. before: list cursor. percentile: 50, 95 or 99. theme, density: kept in cookies, or empty.
    limit: rows a program asks for, 0 for the page's own number. what: the fields of a what-if form that were filled in.
    """

    page: str
    visitor: Visitor = STRANGER
    range: Range = DEFAULT_RANGE
    range_given: bool = False
    q: str = ""
    before: int | None = None
    percentile: int = 95
    sort: str = ""
    id: str = ""
    theme: str = ""
    density: str = ""
    limit: int = 0
    what: tuple[tuple[str, str], ...] = ()

    @property
    def query_percentile(self) -> str:
        """The percentile as the URL has it: empty for the usual one."""
        return "" if self.percentile == 95 else str(self.percentile)

    def query(self, **changes: str) -> str:
        """Write the URL's query string, with some parameters changed; an empty one is left out."""
        values = {
            **self.range.query(self.range_given),
            "q": self.q,
            "before": "" if self.before is None else str(self.before),
            "p": self.query_percentile,
            "sort": self.sort,
            **dict(self.what),
            **changes,
        }
        kept = {name: value for name, value in values.items() if value}
        return "?" + urlencode(kept) if kept else ""


MAX_QUERY_LENGTH: Final = 2000
LONGEST_LIST: Final = 500
#: Fields of the what-if form.
WHAT_IF: Final = ("least", "most", "within", "preset")
_LONGEST_FIELD: Final = 20
_LARGEST_CURSOR: Final = 2**63 - 1


def parse_ask(
    page: str, params: Mapping[str, str], cookies: Mapping[str, str], task_id: str = "", visitor: Visitor = STRANGER
) -> Ask:
    """Read what a request asked for. Never raises: a link from an older version must still open."""
    chosen = asked_range(params)
    before = params.get("before", "")
    percentile = params.get("p", "")
    theme, density = cookies.get("opsq_theme", ""), cookies.get("opsq_density", "")
    return Ask(
        page=page,
        visitor=visitor,
        range=chosen or DEFAULT_RANGE,
        range_given=chosen is not None,
        q=" ".join(params.get("q", "")[:MAX_QUERY_LENGTH].split()),
        before=int(before) if before.isdecimal() and len(before) < 20 and int(before) <= _LARGEST_CURSOR else None,
        percentile=int(percentile) if percentile in {str(p) for p in PERCENTILES} else 95,
        sort=params.get("sort", "")[:20],
        id=task_id,
        theme=theme if theme in ("light", "dark") else "",
        density=density if density in ("compact", "normal") else "",
        limit=min(int(limit), LONGEST_LIST) if (limit := params.get("limit", "")).isdecimal() and len(limit) < 6 else 0,
        what=tuple((name, params[name][:_LONGEST_FIELD]) for name in WHAT_IF if params.get(name)),
    )


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are: writes URLs below the prefix that a proxy gives us."""

    prefix: str = ""

    def to(self, path: str, **params: str) -> str:
        """Write the URL of a path of ours with query parameters."""
        return self.prefix + path + ("?" + urlencode(params) if params else "")

    def task(self, task_id: str) -> str:
        """Write the URL of a task; its id may hold anything."""
        return self.prefix + "/tasks/" + quote(task_id, safe="")

    def page(self, section: str, name: str) -> str:
        """Write the URL of one queue, worker, type, error group or workflow; its name may hold anything."""
        return f"{self.prefix}/{section}/{quote(name, safe='')}"

    def search(self, **terms: str) -> str:
        """Write the URL of the task list under a filter such as ``state="failed"``."""
        return self.to("/tasks", q=" ".join(f"{name}:{quoted(value)}" for name, value in terms.items()))


def quoted(value: str) -> str:
    """Put a search term's value in quotes where it needs them."""
    if value and not any(character.isspace() or character in '"\\' for character in value) and not _closes(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _closes(value: str) -> bool:
    """Whether a parenthesis closes here that was not opened here: unquoted, it would end the term."""
    opened = 0
    for character in value:
        opened += (character == "(") - (character == ")")
        if opened < 0:
            return True
    return False


def row_id(task_id: str) -> str:
    """Make an element id for a task: stable, and safe in a selector whatever the task's id holds."""
    return "t-" + hashlib.blake2s(task_id.encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Moments:
    """When a try was published, taken by a worker and started, as far as it is known."""

    published_at: float | None
    taken_at: float | None
    started_at: float | None


def segment_lengths(segments: Segments, state: str, at: Moments, now: float) -> list[tuple[str, float | None]]:
    """List the stretches of a try with their hues; what still lasts is as long as it has lasted.

    The run takes the outcome's hue once there is one.
    """
    run_css = {"FAILURE": "failed", "RETRY": "retry"}.get(state, "running")
    waited, held, run = segments.broker, segments.prefetch, segments.run
    if state == "PENDING" and waited is None:
        waited = since(at.published_at, now)
    elif state == "RECEIVED" and held is None:
        held = since(at.taken_at, now)
    elif state == "STARTED" and run is None:
        run = since(at.started_at, now)
    elif state in ("REVOKED", "REJECTED") and run is None and waited is None:
        waited = segments.total
    return [("waiting", waited), ("prefetched", held), ("prefetched", segments.start), (run_css, run)]


def since(at: float | None, now: float) -> float | None:
    """Tell how long ago a moment was, never less than nothing."""
    return None if at is None else max(0.0, now - at)


def bar_of(lengths: Sequence[tuple[str, float | None]], full_scale: float) -> Bar:
    """Draw stretches on a scale that ends at ``full_scale`` seconds."""
    drawn, cut = charts.segments(lengths, full_scale)
    return Bar(drawn, cut)


def call_text(args: str | None, kwargs: str | None) -> str:
    """Write a call's arguments on one line from their reprs, without the outer brackets. Display only."""
    parts = []
    if args and args not in ("()", "[]"):
        parts.append(args[1:-1].rstrip(",") if args[0] in "([" and args[-1] in ")]" else args)
    if kwargs and kwargs != "{}":
        parts.append(kwargs)
    return ", ".join(parts)


def with_range(ask: Ask, chosen: Range) -> Ask:
    """Ask the same for another stretch of time."""
    return replace(ask, range=chosen)


def percentile_links(ask: Ask, places: Places, path: str) -> tuple[Link, ...]:
    """Link the same page for every percentile."""
    return tuple(Link(f"p{p}", places.prefix + path + ask.query(p=str(p)), p == ask.percentile) for p in PERCENTILES)


def range_links(ask: Ask, places: Places, path: str) -> Ranges:
    """Link the same page for every range, and say what its own range is."""
    other = {"from": "", "to": "", "before": ""}
    links = tuple(
        (r.label, places.prefix + path + ask.query(**other, range=r.key), r.key == ask.range.key) for r in RANGES
    )
    kept = tuple((name, value) for name, value in (("p", ask.query_percentile), ("sort", ask.sort)) if value)
    return Ranges(links, places.prefix + path, kept, ask.range)
