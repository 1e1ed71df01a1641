"""The page of one worker: is it heard, what does it run and for how long, what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import Percentiles, Point, TaskItem, WorkerItem
from opsq.events.views import LifeEntry
from opsq.web import charts, words
from opsq.web.faces import Face, worker_face
from opsq.web.view_charts import Area, area_chart, rate_of
from opsq.web.view_common import Ask, Link, Places, call_text, range_links, row_id
from opsq.web.view_tasks import TaskRow, task_rows
from opsq.web.view_trouble import HEARTBEAT_S
from opsq.web.view_workers import WorkerRow, busy_slots, skew_text, told_paused, worker_rows

MAX_RUNNING: Final = 100
MAX_LATEST: Final = 12
MAX_ARGUMENTS: Final = 200
_SCALE_OF_USUAL: Final = 3.0
_GLYPHS: Final[Mapping[str, str]] = {
    "started": "deploy", "restarted": "deploy", "stopped": "none", "silent": "late", "command": "control",
}  # fmt: skip
_TOLD: Final[Mapping[str, str]] = {
    "started": "started", "restarted": "started again", "stopped": "stopped cleanly", "silent": "silent for",
    "command": "told to",
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


@dataclass(frozen=True, slots=True)
class Happened:
    """One entry of the history."""

    at: float
    icon: str
    strong: str
    text: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """The page of one worker. then: it is silent, so its numbers are of that time."""

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
    ranges: tuple[Link, ...]
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


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What the page of one worker is made from, all read at one moment. usual: run time of a day by task type."""

    worker: WorkerItem
    points: Sequence[Point]
    running: Sequence[TaskItem]
    latest: Sequence[TaskItem]
    history: Sequence[LifeEntry]
    types: Sequence[str]
    usual: Mapping[str, Percentiles | None]


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
        ranges=range_links(ask, places, places.page("workers", worker.name).removeprefix(places.prefix)),
        range_label=ask.range.label,
        charts=_charts(worker, facts.points, now),
        history=tuple(_happened(entry) for entry in facts.history),
        events=_events(worker),
        process=_process(worker, facts.history, now),
        queues=tuple(Link(name, places.page("queues", name)) for name in worker.queues),
        paused=told_paused(worker),
        types=tuple(Link(name, places.page("types", name)) for name in facts.types),
        rows=task_rows(facts.latest, places, now),
        all_href=places.search(worker=worker.name),
    )


def _story(worker: WorkerItem, now: float) -> tuple[str, str]:
    """Say how late it is and what happens next; the first part is the finding."""
    silent = words.duration(max(0.0, now - worker.last_seen_at))
    every = f"usually one every {words.duration(worker.freq_s or HEARTBEAT_S)}"
    ran = f"it ran {words.plural(worker.running, 'task')} then" if worker.running else "it ran nothing then"
    if worker.status == "late":
        return f"late, {silent} without a heartbeat", f"{every}; {ran}."
    if worker.status == "lost":
        return f"lost, {silent} without a heartbeat", f"{every}; {ran}. What it held is delivered again."
    if worker.status == "offline":
        return f"stopped {silent} ago", "it said goodbye, so nothing was left half done."
    busy = busy_slots(worker)
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
    )


def _charts(worker: WorkerItem, points: Sequence[Point], now: float) -> tuple[charts.Chart, ...]:
    seen = [point.at + point.width_s >= worker.first_seen_at and point.at <= worker.last_seen_at for point in points]
    busy = [point.run_s / point.width_s if known else None for point, known in zip(points, seen, strict=True)]
    done = [rate_of(point, point.done, now) if known else None for point, known in zip(points, seen, strict=True)]
    failed = [rate_of(point, point.failed, now) if known else None for point, known in zip(points, seen, strict=True)]
    of = f"of {words.count(worker.slots)}" if worker.slots is not None else "now"
    return (
        area_chart(Area("busy", "Slots used", "by runs that ended", "running", 84, of=of), busy, points, now),
        area_chart(Area("done", "Done", "per second", height=84), done, points, now),
        area_chart(Area("failures", "Failed", "per second", "failed", 84), failed, points, now),
    )


def _happened(entry: LifeEntry) -> Happened:
    detail = entry.detail
    if entry.what == "silent":
        seconds = float(detail) if detail.replace(".", "", 1).isdecimal() else None
        detail = words.duration(seconds)
    elif entry.what != "command":
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
    load = ", ".join(words.significant(one) for one in worker.loadavg)
    found = (
        ("Pool", worker.pool),
        ("Runs", worker.software),
        ("Version", str(version) if version else None),
        ("Process id", str(worker.pid) if worker.pid else None),
        ("Up", words.duration(now - began) if began is not None and not then else None),
        ("CPU", None if worker.cpu_percent is None else words.percent(worker.cpu_percent / 100) + " of a core" + then),
        ("Memory", None if worker.rss_bytes is None else words.size(worker.rss_bytes) + then),
        ("Load of the host", load + then if load else None),
        ("Takes ahead", None if worker.prefetch is None else f"at most {words.plural(worker.prefetch, 'message')}"),
        (
            "Accepted",
            None if worker.processed is None else f"{words.plural(worker.processed, 'task')} since it started",
        ),
    )
    return tuple((label, text or words.UNKNOWN) for label, text in found)
