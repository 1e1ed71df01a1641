"""The answer of the overview: one sentence, and the troubles it rests on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opsq.events.records import Overview, QueueItem, WorkerItem
from opsq.web import words
from opsq.web.faces import LIMITS
from opsq.web.view_common import Link, Places
from opsq.web.view_shell import too_many_fail

HEARTBEAT_S = 2.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong. name links to where it is seen; headline follows it; strong opens the details."""

    css: str
    icon: str
    name: str
    href: str
    headline: str
    strong: str
    text: str
    action: Link
    since_at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The largest text of the overview, and what it rests on."""

    sentence: str
    troubles: tuple[Trouble, ...]


def verdict(
    overview: Overview, queues: Sequence[QueueItem], workers: Sequence[WorkerItem], places: Places, now: float
) -> Verdict:
    """Judge the cluster: troubles if there are any, otherwise what is well."""
    behind = [queue for queue in queues if is_behind(queue)]
    silent = [worker for worker in workers if worker.status in ("late", "lost")]
    troubles = [queue_trouble(queue, places, now) for queue in behind]
    troubles += [worker_trouble(worker, places, now) for worker in silent]
    if too_many_fail(overview.strip):
        troubles.append(failure_trouble(overview, places))
    if overview.strip.lost_events:
        troubles.append(loss_trouble(overview, places))
    return Verdict(_sentence(overview, queues, len(behind), silent, len(workers)), tuple(troubles))


def is_behind(queue: QueueItem) -> bool:
    """Tell whether a queue's oldest task has waited longer than its target."""
    return queue.oldest_age_s is not None and queue.oldest_age_s > LIMITS.oldest_s


def _sentence(
    overview: Overview, queues: Sequence[QueueItem], behind: int, silent: Sequence[WorkerItem], known: int
) -> str:
    late = sum(worker.status == "late" for worker in silent)
    lost = len(silent) - late
    parts = []
    if not overview.freshness.connected:
        parts.append("the broker cannot be heard")
    if behind:
        parts.append(f"{words.plural(behind, 'queue')} {'is' if behind == 1 else 'are'} in trouble")
    if late:
        parts.append(f"{words.plural(late, 'worker')} {'is' if late == 1 else 'are'} late")
    if lost:
        parts.append(f"{words.plural(lost, 'worker')} {'is' if lost == 1 else 'are'} lost")
    if too_many_fail(overview.strip):
        parts.append("too many tasks fail")
    if overview.strip.lost_events:
        parts.append("events were lost")
    if parts:
        text = ", ".join(parts)
        return text[0].upper() + text[1:]
    return _all_well(overview, queues, known)


def _all_well(overview: Overview, queues: Sequence[QueueItem], known: int) -> str:
    up = words.plural(overview.workers_online, "worker") + " up"
    if overview.workers_online:
        return f"{words.plural(len(queues), 'queue')} on target, {up}" if queues else up
    if known:
        return "No worker is up"
    return "Tasks, but no worker yet" if overview.tasks_kept else "Nothing has been seen yet"


def queue_trouble(queue: QueueItem, places: Places, now: float) -> Trouble:
    """Tell what a queue that is behind suffers from, as far as its own numbers say."""
    grows = (queue.arrived_per_s - queue.done_per_s) * 60
    headline = "is behind its target"
    if grows >= 1:
        headline = f"falls behind by {words.plural(round(grows), 'task')} a minute"
    waiting = words.plural(queue.ready, "task") if queue.ready is not None else "an unknown number of tasks"
    serving = len(queue.workers)
    served = f"{words.plural(serving, 'worker')} took tasks from it." if serving else "No worker takes tasks from it."
    if queue.drain_s is not None and grows < 1:
        served += f" At this pace it is drained in about {words.duration(queue.drain_s)}."
    oldest = queue.oldest_age_s or 0.0
    return Trouble(
        css="bad",
        icon="failed",
        name=queue.name,
        href=places.page("queues", queue.name),
        headline=headline,
        strong=f"{waiting} wait, the oldest {words.duration(oldest)}",
        text=f"of its {words.duration(LIMITS.oldest_s)} target. {served}",
        action=Link("Tasks", places.search(queue=queue.name, state="waiting")),
        since_at=now - (oldest - LIMITS.oldest_s),
    )


def worker_trouble(worker: WorkerItem, places: Places, now: float) -> Trouble:
    """Tell since when a worker is silent and what it held."""
    name = words.short_host(worker.name)
    silent = now - worker.last_seen_at
    every = words.duration(worker.freq_s or HEARTBEAT_S)
    ran = f"It ran {words.plural(worker.running, 'task')}." if worker.running else "It ran nothing."
    css = "late" if worker.status == "late" else "lost"
    return Trouble(
        css=css,
        icon=css,
        name=name,
        href=places.page("workers", worker.name),
        headline=f"is {worker.status}",
        strong="",
        text=f"No heartbeat for {words.duration(silent)}, usually one every {every}. {ran}",
        action=Link("Tasks", places.search(worker=worker.name)),
        since_at=worker.last_seen_at,
    )


def failure_trouble(overview: Overview, places: Places) -> Trouble:
    """Tell how many fail, and against which limit."""
    strip = overview.strip
    return Trouble(
        css="bad",
        icon="failed",
        name="Tasks",
        href=places.search(state="failed"),
        headline="fail too often",
        strong=f"{words.percent(strip.failed_share)} of {words.plural(strip.finished, 'run')} failed in 5 min",
        text=f"where {words.percent(LIMITS.failed_share)} is the limit.",
        action=Link("Failures", places.search(state="failed")),
    )


def loss_trouble(overview: Overview, places: Places) -> Trouble:
    """Tell how many events are missing, so that nobody takes the counts for exact."""
    lost = overview.strip.lost_events or 0
    return Trouble(
        css="late",
        icon="late",
        name="Events",
        href=places.to("/workers"),
        headline="were lost",
        strong=words.plural(lost, "event"),
        text="did not reach this monitor. Counts are too low by what they told; states of some tasks may be old.",
        action=Link("Workers", places.to("/workers")),
    )


def worker_id(name: str) -> str:
    """Make an element id for a worker, safe in a URL's fragment."""
    return "w-" + "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)
