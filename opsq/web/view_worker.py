"""The page of one worker: is it heard, what does it run and for how long, what became of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from opsq.events.records import Percentiles, Point, TaskItem, WorkerItem
from opsq.events.slots import SlotUse
from opsq.events.views import LifeEntry
from opsq.web import charts, words
from opsq.web.charts_data import BYTES, SECONDS, SHARE
from opsq.web.faces import Face, worker_face
from opsq.web.looks import LOOKS
from opsq.web.view_charts import Area, area_chart, at_percentile, rate_of
from opsq.web.view_common import Ask, Link, Places, call_text, range_links, row_id
from opsq.web.view_range import Ranges
from opsq.web.view_slots import SlotRow, slot_rows, slots_small
from opsq.web.view_tasks import TaskRow, task_rows
from opsq.web.view_trouble import HEARTBEAT_S
from opsq.web.view_worker_control import Control, control
from opsq.web.view_workers import WorkerRow, busy_slots, skew_text, told_paused, worker_rows

MAX_RUNNING: Final = 100
MAX_LATEST: Final = 12
MAX_ARGUMENTS: Final = 200
AREAS: Final = (
    Area("busy", "Slots used", "by runs that ended", "running", 84),
    Area("cpu", "CPU", "of a core", "running", 84, unit=SHARE),
    Area("memory", "Memory", "resident", "plain-2", 84, unit=BYTES),
    Area("done", "Done", "per second", height=84),
    Area("failures", "Failed", "per second", "failed", 84),
    Area("p95", "Run time", "p95 of all types", "plain-2", 84, unit=SECONDS),
)
"""What the page charts, three in a row."""
_READ: Final[Mapping[str, Callable[[Point, float], float | None]]] = {
    "busy": lambda point, now: point.run_s / point.width_s,
    "cpu": lambda point, now: point.cpu_max,
    "memory": lambda point, now: point.rss_max,
    "done": lambda point, now: rate_of(point, point.done, now),
    "failures": lambda point, now: rate_of(point, point.failed, now),
    "p95": lambda point, now: at_percentile(point.latency.get("run"), 95),
}
_SCALE_OF_USUAL: Final = 3.0
_GLYPHS: Final[Mapping[str, str]] = {
    "started": "deploy", "restarted": "deploy", "stopped": "none", "silent": "late", "command": "control",
    "version": "deploy",
}  # fmt: skip
_TOLD: Final[Mapping[str, str]] = {
    "started": "started", "restarted": "started again", "stopped": "stopped cleanly", "silent": "silent for",
    "command": "told to", "version": "now runs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A task in a slot. percent: of a bar that ends at three times the usual; usual_percent: where p95 stands."""

    id: str
    href: str
    name: str
    full_name: str
    call: str
    since_at: float | None
    elapsed: str
    slow: bool
    percent: int
    usual_percent: int
    usual: str
    stop: str


@dataclass(frozen=True, slots=True)
class Happened:
    """One entry of the history."""

    at: float
    icon: str
    strong: str
    text: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """The page of one worker. then: it is silent, so its numbers are of that time. unseen: it runs what nobody told."""

    name: str
    short: str
    crumbs: tuple[Link, ...]
    face: Face
    strong: str
    sentence: str
    then: bool
    row: WorkerRow
    last_seen_at: float
    running: tuple[RunningRow, ...]
    running_small: str
    unseen: bool
    ranges: Ranges
    range_label: str
    charts: tuple[charts.Chart, ...]
    history: tuple[Happened, ...]
    events: tuple[tuple[str, str], ...]
    process: tuple[tuple[str, str], ...]
    queues: tuple[Link, ...]
    paused: tuple[str, ...]
    types: tuple[Link, ...]
    rows: tuple[TaskRow, ...]
    all_href: str
    figures: tuple[Figure, ...]
    looks: tuple[Link, ...]
    control: Control | None
    may_stop: bool
    slots: tuple[SlotRow, ...]
    slots_small: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the figures below the head. small: what it is measured against."""

    label: str
    value: str
    small: str = ""
    bad: bool = False


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What the page of one worker is made from, all read at one moment. usual: run time of a day by task type.

    held: tasks that it took and that wait there. can_act: the monitor does not only watch. slots: by process.
    """

    worker: WorkerItem
    points: Sequence[Point]
    running: Sequence[TaskItem]
    latest: Sequence[TaskItem]
    history: Sequence[LifeEntry]
    types: Sequence[str]
    usual: Mapping[str, Percentiles | None]
    held: int = 0
    can_act: bool = False
    slots: Sequence[SlotUse] = ()


def worker_view(facts: WorkerFacts, ask: Ask, places: Places, now: float) -> WorkerView:
    """Build the page of one worker."""
    worker = facts.worker
    strong, sentence = _story(worker, now)
    row = worker_rows([worker], places, now)[0]
    return WorkerView(
        name=worker.name,
        short=words.short_host(worker.name),
        crumbs=(Link("Workers", places.to("/workers")),),
        face=worker_face(worker.status),
        strong=strong,
        sentence=sentence,
        then=worker.status != "online",
        row=row,
        last_seen_at=worker.last_seen_at,
        running=tuple(_running(item, facts.usual.get(item.type or ""), places, now) for item in facts.running),
        running_small=f"{row.slots}{' slots' if worker.slots is not None else ''}",
        unseen=_unseen(facts, now),
        ranges=range_links(ask, places, places.page("workers", worker.name).removeprefix(places.prefix)),
        range_label=ask.range.said,
        charts=_charts(worker, facts.points, now),
        history=tuple(_happened(entry) for entry in facts.history),
        events=_events(worker),
        process=_process(worker, facts.history, now),
        queues=tuple(Link(name, places.page("queues", name)) for name in worker.queues),
        paused=told_paused(worker),
        types=tuple(Link(name, places.page("types", name)) for name in facts.types),
        rows=task_rows(facts.latest, places, now),
        all_href=places.search(worker=worker.name),
        figures=_figures(facts, row),
        looks=tuple(
            Link(look.label, places.to(f"/look/{look.name}", target=worker.name))
            for look in LOOKS
            if look.permission in ask.visitor.grants and facts.can_act
        ),
        may_stop=facts.can_act and "act" in ask.visitor.grants,
        slots=slot_rows(facts.slots, places),
        slots_small=slots_small(facts.slots),
        control=control(worker, facts.types, ask.visitor, places) if facts.can_act else None,
    )


def _unseen(facts: WorkerFacts, now: float) -> bool:
    """Does it say that it is busy, with what no event told of? Short tasks may have ended since its last heartbeat."""
    since = now - 2 * (facts.worker.freq_s or HEARTBEAT_S)
    moves = any(item.finished_at and item.finished_at > since for item in facts.latest)
    return busy_slots(facts.worker) > 0 and not moves


def _figures(facts: WorkerFacts, row: WorkerRow) -> tuple[Figure, ...]:
    worker = facts.worker
    most = f"takes at most {words.count(worker.prefetch)} ahead" if worker.prefetch is not None else ""
    load = words.significant(worker.loadavg[0]) if worker.loadavg else words.UNKNOWN
    then = "then" if row.then else ""
    return (
        Figure("Slots busy", row.slots, then),
        Figure("Prefetched", words.count(facts.held), most),
        Figure("CPU", row.cpu, then or ("of a core" if worker.cpu_percent is not None else "")),
        Figure("Memory", row.memory, then),
        Figure("Load of the host", load, "over a minute" if worker.loadavg else ""),
        Figure("Failed", row.failed, f"of {words.count(worker.succeeded + worker.failed)} in history"),
        Figure("Lost events", row.lost, "it does not number them" if worker.gaps is None else "", bool(worker.gaps)),
    )


def _story(worker: WorkerItem, now: float) -> tuple[str, str]:
    """Say how late it is and what happens next; the first part is the finding."""
    silent = words.duration(max(0.0, now - worker.last_seen_at))
    every = f"usually one every {words.duration(worker.freq_s or HEARTBEAT_S)}"
    busy = busy_slots(worker)
    ran = f"{words.plural(busy, 'slot')} busy then" if busy else "it ran nothing then"
    if worker.running:
        ran = f"it ran {words.plural(worker.running, 'task')} then"
    if worker.status == "late":
        return f"late, {silent} without a heartbeat", f"{every}; {ran}."
    if worker.status == "lost":
        return f"lost, {silent} without a heartbeat", f"{every}; {ran}. What it held is delivered again."
    if worker.status == "offline":
        return f"stopped {silent} ago", "it said goodbye, so nothing was left half done."
    if worker.slots is None:
        return "up", f"{words.plural(busy, 'task')} running; it does not tell how many slots it has."
    return "up", f"{words.count(busy)} of {words.plural(worker.slots, 'slot')} busy."


def _running(item: TaskItem, usual: Percentiles | None, places: Places, now: float) -> RunningRow:
    since = item.started_at
    elapsed = None if since is None else max(0.0, now - since)
    p95 = usual.p95 if usual and usual.count else None
    share = 0.0 if elapsed is None or not p95 else elapsed / (p95 * _SCALE_OF_USUAL)
    return RunningRow(
        id=row_id(item.id),
        href=places.task(item.id),
        name=words.short_name(item.type) if item.type else words.UNKNOWN,
        full_name=item.type or words.UNKNOWN,
        call=call_text(item.args, item.kwargs)[:MAX_ARGUMENTS],
        since_at=since,
        elapsed=words.duration(elapsed),
        slow=bool(p95 and elapsed is not None and elapsed > p95),
        percent=min(100, round(share * 100)),
        usual_percent=round(100 / _SCALE_OF_USUAL) if p95 else 0,
        usual=words.duration(p95) if p95 else words.UNKNOWN,
        stop=places.to("/act/task-terminate", target=item.id),
    )


def _charts(worker: WorkerItem, points: Sequence[Point], now: float) -> tuple[charts.Chart, ...]:
    """Chart what it used, then what came of it; where it was not heard there is a gap."""
    heard = [p.at + p.width_s >= worker.first_seen_at and p.at <= worker.last_seen_at for p in points]
    found = []
    for area in AREAS:
        read = _READ[area.id]
        values = [read(point, now) if known else None for point, known in zip(points, heard, strict=True)]
        found.append(area_chart(_area(area, worker), values, points, now))
    return tuple(found)


def _area(area: Area, worker: WorkerItem) -> Area:
    """Say of slots what they are of; of a silent worker that the newest value is old."""
    if area.id == "busy" and worker.slots is not None:
        return replace(area, of=f"of {words.count(worker.slots)}")
    return area if worker.status == "online" else replace(area, of="then")


def _happened(entry: LifeEntry) -> Happened:
    detail = entry.detail
    if entry.what == "silent":
        seconds = float(detail) if detail.replace(".", "", 1).isdecimal() else None
        detail = words.duration(seconds)
    elif entry.what == "command":
        # What it answered is in the audit, or in the log of whoever gave the order.
        detail = detail.partition(" {'ok'")[0].partition(" {'error'")[0]
    elif entry.what != "version":
        detail = f"as {words.short_id(detail)}" if detail else ""
    return Happened(entry.at, _GLYPHS.get(entry.what, "none"), _TOLD.get(entry.what, entry.what), detail)


def _events(worker: WorkerItem) -> tuple[tuple[str, str], ...]:
    lost = words.count(worker.gaps) if worker.gaps is not None else f"{words.UNKNOWN}: it does not number its events"
    return (
        ("Lost", lost),
        ("Dropped there", words.count(worker.dropped)),
        ("Clock", skew_text(worker.skew_s)),
        ("Heartbeat", f"every {words.duration(worker.freq_s)}" if worker.freq_s else words.UNKNOWN),
    )


def _process(worker: WorkerItem, history: Sequence[LifeEntry], now: float) -> tuple[tuple[str, str], ...]:
    began = next((entry.at for entry in history if entry.what in ("started", "restarted")), None)
    version = worker.details.get("version")
    then = " then" if worker.status != "online" else ""
    found = (
        ("Pool", worker.pool),
        ("Runs", worker.software),
        ("Version", str(version) if version else None),
        ("Process id", str(worker.pid) if worker.pid else None),
        ("Up", words.duration(now - began) if began is not None and not then else None),
        (
            "Accepted",
            None if worker.processed is None else f"{words.plural(worker.processed, 'task')} since it started",
        ),
    )
    return tuple((label, text or words.UNKNOWN) for label, text in found)
