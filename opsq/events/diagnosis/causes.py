"""The table of causes: every one is checked, in every case; the first that holds is the diagnosis. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from opsq.events.diagnosis import queue_causes as queue
from opsq.events.diagnosis import slot_causes as slot
from opsq.events.diagnosis import worker_causes as worker
from opsq.events.diagnosis.case import Case
from opsq.events.diagnosis.records import ANSWERS, YES, Finding, Verdict


class Cause(NamedTuple):
    """One cause. check: looks at a case. doc: what it means. of_queue: it can hold back a whole queue."""

    name: str
    title: str
    check: Callable[[Case], Finding]
    doc: str
    of_queue: bool = False


CAUSES: Final = (
    Cause(queue.REVOKED, "Revoked or expired", queue.revoked,
          "Somebody revoked it, or its time has passed: the worker that comes to it drops it."),
    Cause(queue.UNKNOWN_NAME, "Name unknown to the workers", queue.unknown_name,
          "No worker of its queue has a task of its name; the one that takes it refuses it."),
    Cause(worker.DIED, "Its worker died", worker.worker_died,
          "The worker that had it is gone or hangs; says when the broker gives it to another."),
    Cause(worker.ETA, "Held for its ETA", worker.held_for_eta,
          "It must not start before a moment that has not come: a countdown, an ETA, the next try."),
    Cause(queue.PAUSED, "Paused", queue.paused, "A standing order holds back its queue or its type.", True),
    Cause(worker.RATE, "Rate limit", worker.rate_limited,
          "Its type may start only so often on its worker; its place in line, and when it starts."),
    Cause(worker.PREFETCHED, "Prefetched by a worker", worker.prefetched,
          "A worker took it and has no slot for it; behind which task, and who idles meanwhile."),
    Cause(queue.NO_CONSUMER, "No consumer", queue.no_consumer, "No live worker takes from its queue.", True),
    Cause(slot.SLOTS_BUSY, "All slots busy", slot.slots_busy,
          "All slots of all workers of its queue are taken; by what, for how long, and since when that is so.", True),
)  # fmt: skip
"""In the order in which they explain: what keeps it from ever running first, what only delays it last."""


def checked(case: Case) -> tuple[Verdict, ...]:
    """The verdict on each cause, in the order of the table; those of queues alone when the case is of a queue."""
    asked = [cause for cause in CAUSES if case.task is not None or cause.of_queue]
    return tuple(Verdict(cause.name, cause.title, cause.check(case)) for cause in asked)


def decisive(verdicts: tuple[Verdict, ...]) -> Verdict | None:
    """The cause that explains it, None when none holds."""
    return next((each for each in verdicts if each.found.answer == YES and each.found.said), None)


def shown(verdicts: tuple[Verdict, ...], cause: str) -> tuple[Verdict, ...]:
    """As a reader wants them: the cause that explains it, others that hold, what is not known, what was ruled out."""
    return tuple(sorted(verdicts, key=lambda each: (each.cause != cause, ANSWERS.index(each.found.answer))))
