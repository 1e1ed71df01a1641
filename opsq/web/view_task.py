"""One task: the outcome first, then its tries, its error, what it was and whom it belongs to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from opsq.events.records import Percentiles, TaskDetail, TaskItem, Try
from opsq.events.views import ErrorGroup
from opsq.web import words
from opsq.web.faces import FINISHED, HELD, MOVING, Face, task_face
from opsq.web.view_common import Link, Places
from opsq.web.view_errors import error_name
from opsq.web.view_life import Life, life
from opsq.web.view_payload import Leaf, Log, Progress, log_of, progress_of, tree
from opsq.web.view_task_around import Around, FlowPlace, Similar, WorkerThen, flow_place, similar, worker_then
from opsq.web.view_traceback import CodeLine, traceback_lines

MAX_TEXT: Final = 4000


@dataclass(frozen=True, slots=True)
class TryRow:
    """The times of one try, in words."""

    number: int
    face: Face
    worker: str
    broker: str
    prefetch: str
    start: str
    run: str
    settle: str
    cpu: str
    memory: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a list of facts. at: a moment that is shown as an age after the text; href: where it leads."""

    label: str
    text: str
    href: str = ""
    at: float | None = None
    mono: bool = False


@dataclass(frozen=True, slots=True)
class TaskView:
    """The page of one task."""

    id: str
    short: str
    name: str
    crumbs: tuple[Link, ...]
    face: Face
    moment_at: float | None
    lasts: bool
    story: str
    error: str
    rest: str
    life_small: str
    life: Life | None
    tries: tuple[TryRow, ...]
    usual: TryRow | None
    traceback: tuple[CodeLine, ...]
    traceback_small: str
    result: str
    result_cut: bool
    args: str
    kwargs: str
    facts: tuple[Fact, ...]
    anomalies: tuple[str, ...]
    tree: tuple[Leaf, ...]
    complete: bool
    log: Log
    progress: Progress | None
    workflow: FlowPlace | None
    then: WorkerThen | None
    similar: Similar | None


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for the task's type over the last day."""

    broker: Percentiles | None = None
    prefetch: Percentiles | None = None
    run: Percentiles | None = None


def task_view(
    detail: TaskDetail, usual: Usual, places: Places, now: float, group: ErrorGroup | None = None,
    around: Around | None = None,
) -> TaskView:  # fmt: skip
    """Build the page of one task. group: the error it failed with."""
    item = detail.item
    last = detail.tries[-1] if detail.tries else None
    result = item.result or ""
    return TaskView(
        id=item.id,
        short=words.short_id(item.id),
        name=item.type or "a task of unknown type",
        crumbs=_crumbs(item, places),
        face=_face(item, now),
        moment_at=_moment(item, last),
        lasts=item.state in MOVING and item.state != "RETRY",
        story=_story(item, len(detail.tries)),
        error=error_name(item.exception) if item.state in ("FAILURE", "RETRY") and item.exception else "",
        rest=_waits_for(item, now),
        life_small=_life_small(item, detail.tries),
        life=life(detail.tries, usual.run, now),
        tries=tuple(_try_row(one) for one in detail.tries),
        usual=_usual_row(usual) if usual.run or usual.broker else None,
        traceback=traceback_lines(detail.traceback or item.exception or ""),
        traceback_small=_traceback_small(detail),
        result=result[:MAX_TEXT],
        result_cut=len(result) > MAX_TEXT,
        args=(item.args or "")[:MAX_TEXT],
        kwargs=(item.kwargs or "")[:MAX_TEXT],
        facts=_facts(detail, places),
        anomalies=item.anomalies,
        tree=tree(detail.payload),
        complete=detail.complete is True,
        log=log_of(detail.others),
        progress=progress_of(detail.others) if item.state not in FINISHED else None,
        workflow=flow_place(detail, around.flow if around else None, _workflow(detail, places), places),
        then=worker_then(around, places) if around else None,
        similar=similar(group, item.id, places, now) if group is not None else None,
    )


def _workflow(detail: TaskDetail, places: Places) -> str:
    item = detail.item
    if item.parent_id is None and not detail.children and (item.root_id or item.id) == item.id:
        return ""
    return places.page("workflows", item.root_id or item.id) + "?q=" + quote(item.id, safe="")


def _crumbs(item: TaskItem, places: Places) -> tuple[Link, ...]:
    crumbs = [Link("Tasks", places.to("/tasks"))]
    if item.type:
        crumbs.append(Link(item.type, places.page("types", item.type)))
    return tuple(crumbs)


def _face(item: TaskItem, now: float) -> Face:
    held = item.state == "RECEIVED" and item.eta is not None and item.started_at is None
    return HELD if held else task_face(item.state)


def _moment(item: TaskItem, last: Try | None) -> float | None:
    """Pick the moment the outcome speaks of: the end, else the start, else the publishing."""
    ended = item.finished_at or (last.finished_at if last else None)
    if item.state in FINISHED or item.state == "RETRY":
        return ended or item.started_at or item.received_at
    if item.state == "STARTED":
        return item.started_at
    return item.received_at if item.state == "RECEIVED" else item.published_at


def _story(item: TaskItem, tries: int) -> str:
    """Say in words how it came about; the state and the time stand before, the error after."""
    number = item.retries + 1
    which = "on the first try" if number == 1 else f"on the {words.ordinal(number)} try"
    if item.state == "FAILURE":
        return f"{which}, with" if item.exception else which
    if item.state == "RETRY":
        return f"after the {words.ordinal(max(1, number))} try, with" if item.exception else "and runs again"
    if item.state == "SUCCESS":
        ran = f" after {words.duration(item.runtime_s)} of run time" if item.runtime_s is not None else ""
        return which + ran
    if item.state == "STARTED":
        return f"{which}, on {words.short_host(item.worker)}" if item.worker else which
    if item.state == "RECEIVED":
        where = f"held by {words.short_host(item.worker)}" if item.worker else "held by a worker"
        return f"{where}, for {item.eta}" if item.eta else f"{where}, next for a slot"
    if item.state in ("PENDING", "SENT"):
        return f"in queue {item.queue}, taken by no worker yet" if item.queue else "taken by no worker yet"
    return ""


def _waits_for(item: TaskItem, now: float) -> str:
    return f"It runs again {item.eta}." if item.state == "RETRY" and item.eta else ""


def _life_small(item: TaskItem, tries: Sequence[Try]) -> str:
    on_slot = sum(one.segments.run or 0.0 for one in tries)
    first = next((one.published_at or one.delivered_at for one in tries), None) or item.published_at
    if item.finished_at is not None and first is not None and item.state in FINISHED:
        whole = words.duration(item.finished_at - first)
        return f"{whole} from publish to outcome, {words.duration(on_slot)} of it running"
    return f"{words.plural(len(tries), 'try', 'tries')} so far"


def _try_row(one: Try) -> TryRow:
    parts = one.segments
    return TryRow(
        number=one.number,
        face=task_face(one.state),
        worker=words.short_host(one.worker) if one.worker else words.NOT_APPLICABLE,
        broker=_measured(parts.broker),
        prefetch=_measured(parts.prefetch),
        start=_measured(parts.start),
        run=_measured(parts.run if parts.run is not None else one.runtime_s),
        settle=_measured(parts.settle),
        cpu=_measured(one.cpu_s),
        memory=words.NOT_APPLICABLE if one.rss_bytes is None else words.size(one.rss_bytes),
    )


def _measured(seconds: float | None) -> str:
    return words.NOT_APPLICABLE if seconds is None else words.duration(seconds)


def _usual_row(usual: Usual) -> TryRow:
    half = [_measured(found.p50 if found else None) for found in (usual.broker, usual.prefetch, usual.run)]
    dash = words.NOT_APPLICABLE
    return TryRow(0, task_face(""), "", half[0], half[1], dash, half[2], dash, dash, dash)


def _traceback_small(detail: TaskDetail) -> str:
    failed = next((one for one in reversed(detail.tries) if one.traceback or one.exception), None)
    return f"{words.ordinal(failed.number)} try" if failed and len(detail.tries) > 1 else ""


def _facts(detail: TaskDetail, places: Places) -> tuple[Fact, ...]:
    item = detail.item
    facts = [
        Fact("Queue", item.queue or words.UNKNOWN, places.page("queues", item.queue) if item.queue else ""),
        Fact("Published", "", at=item.published_at) if item.published_at else Fact("Published", words.UNKNOWN),
        Fact("By", detail.published_by or words.UNKNOWN),
        Fact("Worker", item.worker or "none yet", places.page("workers", item.worker) if item.worker else ""),
    ]
    optional = (
        ("Held until", item.eta), ("Expires", detail.expires), ("Exchange", detail.exchange),
        ("Routing key", detail.routing_key if detail.routing_key != item.queue else None),
    )  # fmt: skip
    facts += [Fact(label, text) for label, text in optional if text]
    if item.root_id and item.root_id != item.id:
        facts.append(Fact("Root", words.short_id(item.root_id), places.task(item.root_id), mono=True))
    facts.append(Fact("Id", item.id, mono=True))
    return tuple(facts)
