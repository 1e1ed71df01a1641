"""What was around a task: its place in its workflow, its worker at that time, others that failed alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opsq.events.records import Point, TaskDetail, TaskItem, WorkerItem
from opsq.events.views import ErrorGroup, FlowItem
from opsq.web import charts, words
from opsq.web.faces import Face, task_face, worker_face
from opsq.web.view_common import Link, Places

MOST_CALLED: Final = 4
_ORDER: Final = ("SUCCESS", "STARTED", "RECEIVED", "PENDING", "SENT", "RETRY", "FAILURE", "REVOKED", "REJECTED")


@dataclass(frozen=True, slots=True)
class Around:
    """What was read beside a task. worker: that ran it last; point: its figures in the bucket of that moment."""

    worker: WorkerItem | None = None
    point: Point | None = None
    flow: FlowItem | None = None


@dataclass(frozen=True, slots=True)
class Box:
    """A task, or several called by the same one. here: it is the page's own."""

    name: str
    small: str
    href: str
    face: Face
    here: bool = False


@dataclass(frozen=True, slots=True)
class FlowPlace:
    """Where a task stands in its workflow. said: of how many, and how they are; bar: their share by state."""

    href: str
    more: str
    said: str
    bar: tuple[charts.Segment, ...]
    caller: Box | None
    here: Box
    called: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class WorkerThen:
    """A worker at the time of a task. when: how long the bucket is that the figures are of."""

    link: Link
    when: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Similar:
    """Other failures of the same cause. newest: latest first, without this one."""

    href: str
    said: str
    newest: tuple[tuple[Link, float], ...]
    trend: charts.Trace | None


def flow_place(detail: TaskDetail, flow: FlowItem | None, href: str, places: Places) -> FlowPlace | None:
    """Place a task among those it was called by and calls; None for a task that stands alone."""
    if not href:
        return None
    item = detail.item
    least = "" if flow is None or flow.exact else "≥ "
    whole = f"{least}{words.plural(flow.members, 'task')}" if flow is not None else ""
    return FlowPlace(
        href=href,
        more=f"Open, {whole}" if whole else "Open",
        said=_said(item, flow, whole) if flow is not None else "",
        bar=_bar(flow.states) if flow is not None else (),
        caller=_box(detail.parent, places) if detail.parent is not None else _bare(item.parent_id, places),
        here=_box(item, places, here=True),
        called=_called(detail, places),
    )


def _said(item: TaskItem, flow: FlowItem, whole: str) -> str:
    which = "the first" if (item.root_id or item.id) == item.id else "one"
    states = ", ".join(f"{words.count(flow.states[state])} {task_face(state).word}" for state in _ordered(flow.states))
    return f"{which} of {whole}: {states}"


def _ordered(states: Mapping[str, int]) -> list[str]:
    known = [state for state in _ORDER if states.get(state)]
    return known + sorted(state for state, count in states.items() if count and state not in _ORDER)


def _bar(states: Mapping[str, int]) -> tuple[charts.Segment, ...]:
    total = sum(states.values())
    shares = [(task_face(state).css, float(states[state])) for state in _ordered(states)]
    return charts.segments(shares, total)[0] if total else ()


def _box(item: TaskItem, places: Places, *, here: bool = False) -> Box:
    face = task_face(item.state)
    ran = f" in {words.duration(item.runtime_s)}" if item.runtime_s is not None else ""
    name = words.short_name(item.type) if item.type else words.UNKNOWN
    return Box(name, face.word + ran, places.task(item.id), face, here)


def _bare(id: str | None, places: Places) -> Box | None:
    """Name a caller by its id when nothing else is known of it."""
    return Box(words.short_id(id), "not seen here", places.task(id), task_face("")) if id else None


def _called(detail: TaskDetail, places: Places) -> tuple[Box, ...]:
    """Boxes of what it called: several of one type are one box."""
    by_type: dict[str, list[TaskItem]] = {}
    for child in detail.children:
        by_type.setdefault(child.type or "", []).append(child)
    boxes = []
    for name, children in list(by_type.items())[:MOST_CALLED]:
        if len(children) == 1:
            boxes.append(_box(children[0], places))
            continue
        worst = max(children, key=lambda child: _ORDER.index(child.state) if child.state in _ORDER else -1)
        ended = sum(child.state == "SUCCESS" for child in children)
        title = f"{words.short_name(name) if name else words.UNKNOWN} × {len(children)}"
        boxes.append(Box(title, f"{ended} ok", places.task(worst.id), task_face(worst.state)))
    if len(by_type) > MOST_CALLED:
        boxes.append(Box(f"{len(by_type) - MOST_CALLED} more types", "", "", task_face("")))
    return tuple(boxes)


def worker_then(around: Around, places: Places) -> WorkerThen | None:
    """Tell how the worker was when the task was there."""
    worker, point = around.worker, around.point
    if worker is None:
        return None
    face = worker_face(worker.status)
    facts = [("Now", face.word)]
    if point is not None:
        used = point.run_s / point.width_s
        of = f" of {words.count(worker.slots)}" if worker.slots is not None else ""
        facts = [
            ("Slots used", f"{words.significant(used)}{of}"),
            ("CPU", words.UNKNOWN if point.cpu_max is None else f"{words.percent(point.cpu_max)} of a core"),
            ("Memory", words.size(point.rss_max)),
            ("Done", f"{words.count(point.done)}, {words.count(point.failed)} of them failed"),
            *facts,
        ]
    return WorkerThen(
        link=Link(words.short_host(worker.name), places.page("workers", worker.name)),
        when=f"in those {words.duration(point.width_s)}" if point is not None else "",
        facts=tuple(facts),
    )


def similar(group: ErrorGroup, id: str, places: Places, now: float) -> Similar:
    """Tell what else failed of the same cause. id: of the task that is looked at."""
    newest: dict[str, float] = {}
    for at, other in group.newest:
        if other != id:
            newest.setdefault(other, at)
    types = words.plural(max(1, len(group.types)), "type")
    workers = sum(1 for name in group.workers if name)
    where = f" on {words.plural(workers, 'worker')}" if workers else ""
    first = words.ago(max(0.0, now - group.first_at)) if group.first_at else f"at an {words.UNKNOWN} time"
    trend = [float(point.failed + point.retried) for point in group.trend]
    return Similar(
        href=places.page("errors", group.fault),
        said=f"{words.plural(group.failed, 'task')} of {types} failed so{where}, first {first}.",
        trend=charts.spark(trend, width=240, height=32) if len(trend) > 1 and any(trend) else None,
        newest=tuple((Link(words.short_id(other), places.task(other)), at) for other, at in list(newest.items())[:5]),
    )
