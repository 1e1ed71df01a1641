"""What the parent process does for tasks that no slot will, or could, finish.

Storing a state and publishing take a round trip; the owner thread has acknowledgements to send, so
all of this happens on one thread of its own. Its queue is bounded by what the worker has taken from
the broker, because every item belongs to an unsettled delivery.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from opsq.broker.message import Delivery, OutMessage
from opsq.broker.topology import queue_named
from opsq.core.pools.base import Job, Outcome
from opsq.core.request import Context
from opsq.core.worker.emit import Emitter
from opsq.core.worker.follow import Follower
from opsq.core.worker.intake import Malformed
from opsq.core.worker.ledger import Entry, Ledger
from opsq.core.worker.record import Recorder
from opsq.errors import (
    NotRegistered,
    OpsqError,
    TaskRevokedError,
    TimeLimitExceeded,
    Unavailable,
    WorkerLostError,
)
from opsq.settings import Settings
from opsq.signals import task_rejected, task_revoked, task_unknown
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)

DEATHS_HEADER = "opsq_deaths"
Then = Callable[[], None]


class Clerk:
    """Does the parent's paperwork on a thread of its own. Thread: every method from any."""

    def __init__(
        self,
        recorder: Recorder,
        follower: Follower,
        publish: Callable[[OutMessage], Any],
        emitter: Emitter,
        ledger: Ledger,
        settings: Settings,
    ) -> None:
        self._recorder = recorder
        self._follower = follower
        self._publish = publish
        self._emitter = emitter
        self._ledger = ledger
        self._settings = settings
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._main, name="opsq-clerk", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Finish what is queued, as far as ``deadline`` (monotonic seconds) allows."""
        self._work.put(None)
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def malformed(self, delivery: Delivery, decision: Malformed) -> None:
        """Report a delivery that is not a task message; it is rejected by the caller."""
        log.error(
            "a delivery is not a task message and is rejected",
            extra={"kind": decision.kind, "reason": decision.reason, "sample": decision.sample},
        )
        if task_rejected.receivers:
            task_rejected.send(sender=None, message=delivery, exc=ValueError(decision.reason))

    def unknown(self, delivery: Delivery, headers: TaskHeaders, then: Then) -> None:
        """Store and announce that nobody here knows the task."""

        def work() -> None:
            exc = NotRegistered(headers.task)
            log.error("no task of this name is registered", extra={"task": headers.task, "task_id": headers.id})
            self._record(headers, "FAILURE", exc)
            then()
            self._emitter.emit("task-failed", {**_about(headers), "exception": f"NotRegistered({headers.task!r})"})
            if task_unknown.receivers:
                task_unknown.send(sender=None, message=delivery, exc=exc, name=headers.task, id=headers.id)

        self._work.put(work)

    def refused(self, headers: TaskHeaders, expired: bool, then: Then) -> None:
        """Store and announce that a task was revoked, or had expired, before it ran."""

        def work() -> None:
            self._record(headers, "REVOKED", TaskRevokedError("expired" if expired else "revoked"))
            then()
            fields = {**_about(headers), "terminated": False, "signum": None, "expired": expired}
            self._emitter.emit("task-revoked", fields)
            self._signal_revoked(headers, terminated=False, signum=None, expired=expired)

        self._work.put(work)

    def ended_by_pool(self, entry: Entry, outcome: Outcome, then: Callable[[Outcome], None]) -> None:
        """Store, publish and decide what the slot did not live to; ``then`` gets what to settle."""

        def work() -> None:
            then(self._judge(entry, outcome))

        self._work.put(work)

    def publish_again(self, entry: Entry) -> None:
        """Put an acknowledged entry that never ran back on its queue."""

        def work() -> None:
            self._republish(entry, {})

        self._work.put(work)

    def lost_in_shutdown(self, entry: Entry) -> None:
        """Store and announce that an early-ack run was cut off: it will not be run again."""

        def work() -> None:
            exc = WorkerLostError("the worker was shut down while the task ran, and it was acknowledged early")
            self._record(entry.headers, "FAILURE", exc)
            self._emitter.emit("task-failed", {**_about(entry.headers), "exception": repr(exc)})

        self._work.put(work)

    def _main(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            try:
                work()
            except Exception:  # boundary: one delivery's trouble must not stop the paperwork of the others
                self._ledger.count("clerk_errors")
                log.exception("could not deal with a delivery that no slot finished")

    def _judge(self, entry: Entry, outcome: Outcome) -> Outcome:
        if outcome.cause in ("cancelled", "terminated"):
            why = "revoked" if outcome.cause == "cancelled" else "terminated"
            self._record(entry.headers, "REVOKED", TaskRevokedError(why))
            self._signal_revoked(entry.headers, outcome.cause == "terminated", outcome.signum, False)
            return outcome
        if outcome.cause == "lost":
            return self._judge_lost(entry, outcome)
        if outcome.cause == "hard_limit":
            exc: BaseException = TimeLimitExceeded(entry.job.hard_limit_s)
            requeue = entry.late and not entry.policy.acks_on_timeout
            return self._fail(entry, outcome, exc, "requeue" if requeue else "ack")
        return self._fail(entry, outcome, RuntimeError(outcome.exception_repr), outcome.settle)

    def _judge_lost(self, entry: Entry, outcome: Outcome) -> Outcome:
        """Give the message another try, unless it has cost too many processes already."""
        deaths = deaths_of(entry.job) + 1
        limit = self._settings.quarantine_after_deaths
        exc = WorkerLostError(_sentence(outcome, deaths))
        if not entry.late or not entry.policy.reject_on_worker_lost:
            return self._fail(entry, outcome, exc, "ack")
        if entry.generation != self._ledger.generation:
            # Its connection is gone, so the broker delivers it again anyway; a copy would run twice.
            return msgspec.structs.replace(outcome, state="REJECTED", settle="requeue", requeue=True)
        if not limit or deaths < limit:
            self._ledger.count("redelivered_after_death")
            if self._republish(entry, {DEATHS_HEADER: deaths}):
                return msgspec.structs.replace(outcome, state="REJECTED", settle="ack", requeue=True)
            return msgspec.structs.replace(outcome, state="REJECTED", settle="requeue", requeue=True)
        self._ledger.count("quarantined")
        log.error(
            "a message is set aside because it cost too many processes",
            extra={"task_id": entry.headers.id, "task": entry.headers.task, "deaths": deaths},
        )
        evidence = {DEATHS_HEADER: deaths, "opsq_quarantined_because": str(exc)}
        self._republish(entry, evidence, queue=self._settings.quarantine_queue)
        return self._fail(entry, outcome, exc, "ack")

    def _fail(self, entry: Entry, outcome: Outcome, exc: BaseException, settle: str) -> Outcome:
        headers = entry.headers
        log.error(
            "a task could not be finished",
            extra={"task_id": headers.id, "task": headers.task, "cause": outcome.cause, "error": str(exc)},
        )
        self._record(headers, "FAILURE", exc)
        if settle != "requeue":
            self._follower.after_death(entry.job, headers, exc)
        return msgspec.structs.replace(outcome, state="FAILURE", settle=settle, exception_repr=repr(exc))

    def _record(self, headers: TaskHeaders, state: str, exc: BaseException) -> None:
        try:
            self._recorder.write(headers, state, exc)
        except Unavailable as unavailable:
            self._ledger.count("states_not_stored")
            log.error("a state could not be stored", extra={"task_id": headers.id, "error": str(unavailable)})

    def _republish(self, entry: Entry, headers: dict[str, Any], queue: str | None = None) -> bool:
        try:
            self._publish(message_again(entry.job, headers, queue))
        except (OpsqError, OSError) as exc:
            self._ledger.count("not_republished")
            log.error("a message could not be published again", extra={"task_id": entry.headers.id, "error": str(exc)})
            return False
        return True

    def _signal_revoked(self, headers: TaskHeaders, terminated: bool, signum: int | None, expired: bool) -> None:
        if task_revoked.receivers:
            request = Context(id=headers.id, task=headers.task, retries=headers.retries)
            task_revoked.send(
                sender=headers.task, request=request, terminated=terminated, signum=signum, expired=expired
            )


def deaths_of(job: Job) -> int:
    """How many processes this message has cost so far, by its own header."""
    deaths = job.headers.get(DEATHS_HEADER, 0)
    return deaths if isinstance(deaths, int) and deaths >= 0 else 0


def message_again(job: Job, headers: dict[str, Any], queue: str | None = None) -> OutMessage:
    """The message of ``job``, to where it came from or to ``queue``, with more ``headers``."""
    info = job.delivery_info
    return OutMessage(
        body=job.body,
        content_type=job.content_type,
        content_encoding=job.content_encoding,
        headers={**{key: value for key, value in job.headers.items() if not key.startswith("x-")}, **headers},
        properties=job.properties,
        exchange="" if queue is not None else info.get("exchange") or "",
        routing_key=queue if queue is not None else info.get("routing_key") or "",
        declare=queue_named(queue) if queue is not None else None,
    )


def _about(headers: TaskHeaders) -> dict[str, Any]:
    return {
        "uuid": headers.id,
        "timestamp": time.time(),
        "name": headers.shadow or headers.task,
        "attempt": headers.retries + 1,
        "published_at": headers.user.get("opsq_published_at"),
    }


def _sentence(outcome: Outcome, deaths: int) -> str:
    how = outcome.exception_repr or "the process that ran the task died"
    if how.startswith("WorkerLostError("):
        how = how[len("WorkerLostError(") : -1].strip("'\"")
    return f"{how} ({deaths}. time)" if deaths > 1 else how
