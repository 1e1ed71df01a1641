"""The rows of workers, for the overview and their own page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import Point, WorkerItem
from opsq.web import charts, words
from opsq.web.faces import Face, worker_face
from opsq.web.view_common import Head, Places
from opsq.web.view_trouble import worker_id

_ORDER: Final = ("late", "lost", "online", "offline")
MAX_SQUARES: Final = 32
RIGHT_CLOCK_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker. squares: hue of each slot (running, unknown or idle), empty when there are too many to draw.

    then: its numbers are old, so they are said of that time.
    """

    id: str
    name: str
    full_name: str
    href: str
    face: Face
    small: str
    squares: tuple[str, ...]
    heat: tuple[int | None, ...]
    slots: str
    cpu: str
    memory: str
    processed: str
    succeeded: str
    failed: str
    queues: tuple[str, ...]
    last_seen_at: float
    then: bool
    lost: str
    skew: str
    known: bool


@dataclass(frozen=True, slots=True)
class WorkersView:
    """The page of workers. sentence: how many are up, which are not."""

    sentence: str
    workers: tuple[WorkerRow, ...]
    heads: tuple[Head, ...]
    broker: str


HEADS: Final = (
    Head("Worker"),
    Head("Slots"),
    Head("CPU", "num"),
    Head("Memory", "num"),
    Head("Queues", "p2"),
    Head("Done", "num"),
    Head("Failed", "num"),
    Head("Lost events", "num p2"),
    Head("Clock", "num p2"),
    Head("Last seen", "num"),
)


def workers_view(workers: Sequence[WorkerItem], places: Places, broker: str, now: float) -> WorkersView:
    """Build the page of workers."""
    return WorkersView(_sentence(workers), worker_rows(workers, places, now), HEADS, broker)


def _sentence(workers: Sequence[WorkerItem]) -> str:
    if not workers:
        return "No worker has been seen"
    said = [
        f"{words.count(number)} {worker_face(status).word}"
        for status in ("online", "late", "lost", "offline")
        if (number := sum(worker.status == status for worker in workers))
    ]
    return f"{words.plural(len(workers), 'worker')}: {', '.join(said)}"


def worker_rows(
    workers: Sequence[WorkerItem], places: Places, now: float, points: Mapping[str, Sequence[Point]] | None = None
) -> tuple[WorkerRow, ...]:
    """Build the rows, silent workers first, then by name. points: history by worker, for the heat strip."""
    ordered = sorted(workers, key=lambda worker: (_rank(worker.status), worker.name))
    return tuple(_row(worker, places, now, (points or {}).get(worker.name, ())) for worker in ordered)


def _rank(status: str) -> int:
    return _ORDER.index(status) if status in _ORDER else len(_ORDER)


def _row(worker: WorkerItem, places: Places, now: float, points: Sequence[Point]) -> WorkerRow:
    live = worker.status == "online"
    busy = busy_slots(worker)
    return WorkerRow(
        id=worker_id(worker.name),
        name=words.short_host(worker.name),
        full_name=worker.name,
        href=places.page("workers", worker.name),
        face=worker_face(worker.status),
        small=_small(worker),
        squares=_squares(busy, worker.slots, live),
        heat=charts.heat_steps([_share(point, worker) for point in points]),
        slots=f"{words.count(busy)} of {words.count(worker.slots)}" if worker.slots is not None else f"{busy} busy",
        cpu=words.percent(None if worker.cpu_percent is None else worker.cpu_percent / 100),
        memory=words.size(worker.rss_bytes),
        processed=words.count(worker.processed),
        succeeded=words.count(worker.succeeded),
        failed=words.count(worker.failed),
        queues=worker.queues,
        last_seen_at=worker.last_seen_at,
        then=not live,
        lost=words.count(worker.gaps),
        skew=skew_text(worker.skew_s),
        known=worker.slots is not None,
    )


def _small(worker: WorkerItem) -> str:
    """Say what runs there in a word: the pool of our own, the software of others."""
    software = (worker.software or "").replace("py-celery", "Celery")
    return worker.pool or "" if software.startswith("opsq") or not software else software


def busy_slots(worker: WorkerItem) -> int:
    """Count the slots in use: as the worker says, else as the events say, which are newer than its last heartbeat."""
    told = next((n for n in (worker.busy, worker.active) if n is not None), worker.running)
    live = worker.status == "online" and worker.running <= (worker.slots or 0)
    return max(told, worker.running) if live else told


def served_slots(workers: Sequence[WorkerItem]) -> tuple[tuple[str, ...], str, str, bool]:
    """Draw the slots of several workers together: squares, their count in words, how many, whether all are busy."""
    up = [worker for worker in workers if worker.status != "offline" and worker.slots is not None]
    total = sum(worker.slots or 0 for worker in up)
    busy = sum(min(busy_slots(worker), worker.slots or 0) for worker in up)
    if not total:
        return (), "", "", False
    drawn = sum((_squares(busy_slots(worker), worker.slots, worker.status == "online") for worker in up), ())
    shown = tuple(sorted(drawn, key=("running", "unknown", "").index)) if total <= MAX_SQUARES else ()
    return shown, f"{words.count(busy)} of {words.count(total)}", words.count(total), busy >= total


def told_paused(worker: WorkerItem) -> tuple[str, ...]:
    """List what remote control has paused on a worker: ``queue NAME`` and ``task NAME``."""
    told = worker.details.get("paused")
    return tuple(str(one) for one in told) if isinstance(told, list) else ()


def _squares(busy: int, slots: int | None, live: bool) -> tuple[str, ...]:
    """Draw a slot as a square; of a worker that is not heard, no square is known."""
    if slots is None or slots > MAX_SQUARES:
        return ()
    if not live:
        return ("unknown",) * slots
    return tuple("running" if i < busy else "" for i in range(slots))


def _share(point: Point, worker: WorkerItem) -> float | None:
    """Share of slot time used in a bucket, by the runs that ended in it; None before the worker was seen."""
    if not worker.slots or point.at + point.width_s < worker.first_seen_at or point.at > worker.last_seen_at:
        return None
    return point.run_s / (point.width_s * worker.slots)


def skew_text(seconds: float | None) -> str:
    """Say how far a clock is off; a few milliseconds are the network, not the clock."""
    if seconds is None:
        return words.UNKNOWN
    if abs(seconds) < RIGHT_CLOCK_S:
        return "right"
    return f"{words.duration(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"
