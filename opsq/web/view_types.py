"""The rows of task types, for the overview and their own page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from opsq.events.records import TaskTypeItem
from opsq.web import words
from opsq.web.faces import LIMITS
from opsq.web.view_common import Ask, Head, Places, range_links, row_id
from opsq.web.view_range import Range, Ranges


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One task type. share_percent: of the slot time of all types."""

    id: str
    name: str
    href: str
    slot_time: str
    share_percent: int
    share: str
    runs: str
    failed: str
    fails: bool
    retried: str
    broker_p95: str
    run_p50: str
    run_p95: str
    run_p99: str


@dataclass(frozen=True, slots=True)
class SortHead:
    """A column's head that orders the rows."""

    head: Head
    href: str


@dataclass(frozen=True, slots=True)
class TypesView:
    """The page of task types."""

    types: tuple[TypeRow, ...]
    heads: tuple[SortHead, ...]
    ranges: Ranges
    shown: Range
    broker: str


_SORTS: Final[Mapping[str, Callable[[TaskTypeItem], float]]] = MappingProxyType({
    "slot": lambda item: item.total_s,
    "runs": lambda item: item.runs,
    "failed": lambda item: item.failed,
    "retried": lambda item: item.retried,
    "p95": lambda item: item.run.p95 if item.run else 0.0,
})  # fmt: skip
_COLUMNS = (
    ("name", "Type", ""), ("slot", "Slot time", "num"), ("", "Share", "p2"), ("runs", "Runs", "num"),
    ("failed", "Failed", "num"), ("retried", "Retried", "num p2"), ("", "In broker p95", "num p2"),
    ("", "Run p50", "num p2"), ("p95", "p95", "num"), ("", "p99", "num"),
)  # fmt: skip


def types_view(types: Sequence[TaskTypeItem], ask: Ask, places: Places, broker: str) -> TypesView:
    """Build the page of task types, ordered as asked: by slot time unless told otherwise."""
    by = ask.sort if ask.sort in _SORTS or ask.sort == "name" else "slot"
    ordered = sorted(types, key=lambda item: item.name)
    if by != "name":
        ordered.sort(key=_SORTS[by], reverse=True)
    heads = tuple(
        SortHead(
            Head(label, css, ("ascending" if by == "name" else "descending") if key == by else ""),
            places.to("/types") + ask.query(sort=key) if key else "",
        )
        for key, label, css in _COLUMNS
    )
    return TypesView(_rows(ordered, places), heads, range_links(ask, places, "/types"), ask.range, broker)


def type_rows(types: Sequence[TaskTypeItem], places: Places) -> tuple[TypeRow, ...]:
    """Build the rows by slot time, the largest first."""
    return _rows(sorted(types, key=lambda item: (-item.total_s, item.name)), places)


def _rows(types: Sequence[TaskTypeItem], places: Places) -> tuple[TypeRow, ...]:
    whole = sum(item.total_s for item in types)
    return tuple(_row(item, whole, places) for item in types)


def _row(item: TaskTypeItem, whole_s: float, places: Places) -> TypeRow:
    share = item.total_s / whole_s if whole_s > 0 else 0.0
    ended = item.succeeded + item.failed
    return TypeRow(
        id="y-" + row_id(item.name),
        name=item.name,
        href=places.page("types", item.name),
        slot_time=words.duration(item.total_s),
        share_percent=0 if share <= 0 else max(1, round(share * 100)),
        share=words.percent(share),
        runs=words.count(item.runs),
        failed="0" if not item.failed else words.percent(item.failed / ended) if ended else words.count(item.failed),
        fails=item.failed > LIMITS.failed_share * ended,
        retried=words.count(item.retried),
        broker_p95=words.NOT_APPLICABLE if item.broker is None else words.duration(item.broker.p95),
        run_p50=words.NOT_APPLICABLE if item.run is None else words.duration(item.run.p50),
        run_p95=words.NOT_APPLICABLE if item.run is None else words.duration(item.run.p95),
        run_p99=words.NOT_APPLICABLE if item.run is None else words.duration(item.run.p99),
    )
