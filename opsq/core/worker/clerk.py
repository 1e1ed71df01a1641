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
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from opsq.broker.message import Delivery, OutMessage, Settle
from opsq.core.pools.base import Job, Outcome
from opsq.core.request import Context
from opsq.core.worker.emit import Emitter
from opsq.core.worker.follow import Follower
from opsq.core.worker.intake import SAMPLE_BYTES, Malformed
from opsq.core.worker.ledger import Entry, Ledger
from opsq.core.worker.quarantine import (
    Evidence,
    death_of,
    deaths_of,
    evidence_for,
    message_again,
    set_aside,
    with_death,
)
from opsq.core.worker.quarantine_room import Room
from opsq.core.worker.record import Recorder
from opsq.errors import (
    NotRegistered,
    OpsqError,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    Unavailable,
    WorkerLostError,
)
from opsq.settings import Settings
from opsq.signals import task_rejected, task_revoked, task_unknown
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)

AGAIN = "again"
"""What ``_judge`` says of a delivery that is to be run once more, here and at once."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})
Then = Callable[[], None]
ThenSettle = Callable[[Settle], None]


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
        waiting_aside: Callable[[], int],
    ) -> None:
        self._recorder = recorder
        self._follower = follower
        self._publish = publish
        self._emitter = emitter
        self._ledger = ledger
        self._settings = settings
        self._room = Room(settings.quarantine_max_messages, waiting_aside)
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

    def later(self, work: Callable[[], None]) -> None:
        """Do any other work that has to wait for the broker."""
        self._work.put(work)

    def malformed(self, delivery: Delivery, decision: Malformed, then: ThenSettle) -> None:
        """Report and set aside a delivery that is not a task message; ``then`` settles it."""

        def work() -> None:
            log.error(
                "a delivery is not a task message and is rejected",
                extra={"kind": decision.kind, "reason": decision.reason, "sample": decision.sample},
            )
            told, name = delivery.headers.get("id"), delivery.headers.get("task")
            evidence = self._evidence(
                delivery,
                decision.kind,
                decision.reason,
                delivery.queue,
                told if isinstance(told, str) else None,
                name if isinstance(name, str) else None,
            )
            settle = self._set_aside(delivery, evidence)
            then(settle)
            if settle is Settle.ACK:
                self._announce_set_aside(evidence)
            if task_rejected.receivers:
                task_rejected.send(sender=None, message=delivery, exc=ValueError(decision.reason))

        self._work.put(work)

    def unknown(self, delivery: Delivery, headers: TaskHeaders, then: ThenSettle) -> None:
        """Store and announce that nobody here knows the task; the message waits for a release that does."""

        def work() -> None:
            exc = NotRegistered(headers.task)
            log.error("no task of this name is registered", extra={"task": headers.task, "task_id": headers.id})
            self._record(headers, "FAILURE", exc, delivery.properties)
            self._follower.after_refusal(delivery, headers, exc, "FAILURE")
            evidence = self._evidence(delivery, "unknown", str(exc), delivery.queue, headers.id, headers.task)
            settle = self._set_aside(delivery, evidence)
            then(settle)
            self._emitter.emit("task-failed", {**_about(headers), "exception": f"NotRegistered({headers.task!r})"})
            if settle is Settle.ACK:
                self._announce_set_aside(evidence)
            if task_unknown.receivers:
                task_unknown.send(sender=None, message=delivery, exc=exc, name=headers.task, id=headers.id)

        self._work.put(work)

    def refused(self, headers: TaskHeaders, expired: bool, then: Then, message: Job | Delivery | None = None) -> None:
        """Store and announce that a task was revoked, or had expired, before it ran.

        message: as it came; gives the address for the result, and who waits for the task.
        """

        def work() -> None:
            exc = TaskRevokedError("expired" if expired else "revoked")
            self._record(headers, "REVOKED", exc, message.properties if message is not None else _NOTHING)
            if message is not None:
                self._follower.after_refusal(message, headers, exc, "REVOKED")
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
            self._republish(entry)

        self._work.put(work)

    def lost_in_shutdown(self, entry: Entry) -> None:
        """Store and announce that an early-ack run was cut off: it will not be run again."""

        def work() -> None:
            exc = WorkerLostError("the worker was shut down while the task ran, and it was acknowledged early")
            self._record(entry.headers, "FAILURE", exc, entry.job.properties)
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
            self._record(entry.headers, "REVOKED", TaskRevokedError(why), entry.job.properties)
            self._follower.after_refusal(entry.job, entry.headers, TaskRevokedError(why), "REVOKED")
            self._signal_revoked(entry.headers, outcome.cause == "terminated", outcome.signum, False)
            return outcome
        if outcome.cause == "lost":
            return self._judge_lost(entry, outcome)
        if outcome.cause == "hard_limit":
            exc: BaseException = TimeLimitExceeded(entry.job.hard_limit_s)
            requeue = entry.late and not entry.policy.acks_on_timeout
            return self._fail(entry, outcome, exc, "requeue" if requeue else "ack")
        if outcome.cause == "soft_limit":
            return self._fail(entry, outcome, SoftTimeLimitExceeded(entry.job.soft_limit_s), "ack")
        if not outcome.cause:
            return self._judge_unfit(entry, outcome)
        return self._fail(entry, outcome, RuntimeError(outcome.exception_repr), outcome.settle)

    def _judge_lost(self, entry: Entry, outcome: Outcome) -> Outcome:
        """Give the message another try, unless it has cost too many processes already."""
        job = msgspec.structs.replace(
            entry.job, headers=with_death(entry.job.headers, death_of(outcome, self._emitter.sender.hostname))
        )
        deaths, limit = deaths_of(job.headers), self._settings.quarantine_after_deaths
        exc = WorkerLostError(_sentence(outcome, deaths))
        if not entry.late or not entry.policy.reject_on_worker_lost:
            return self._fail(entry, outcome, exc, "ack")
        if not limit or deaths < limit:
            log.warning(
                "a process died under a task, which is run again",
                extra={"task_id": entry.headers.id, "task": entry.headers.task, "error": str(exc), "deaths": deaths},
            )
            # Not by publishing it anew: it would wait behind the whole queue, and run twice after a crash between.
            self._ledger.count("redelivered_after_death")
            entry.job = job
            return msgspec.structs.replace(outcome, state="REJECTED", settle=AGAIN, requeue=True)
        log.error(
            "a message is set aside because it cost too many processes",
            extra={"task_id": entry.headers.id, "task": entry.headers.task, "deaths": deaths},
        )
        evidence = self._evidence(job, "poison", str(exc), entry.queue, entry.headers.id, entry.headers.task)
        settle = self._set_aside(job, evidence)
        if settle is Settle.REQUEUE:
            return msgspec.structs.replace(outcome, state="REJECTED", settle="requeue", requeue=True)
        entry.set_aside = evidence.kind if settle is Settle.ACK else ""
        return self._fail(entry, outcome, exc, settle.value)

    def _judge_unfit(self, entry: Entry, outcome: Outcome) -> Outcome:
        """Set aside what the slot could not read, or whose task it does not know."""
        reason = outcome.exception_repr or outcome.state
        evidence = self._evidence(
            entry.job, outcome.state.lower(), reason, entry.queue, entry.headers.id, entry.headers.task
        )
        settle = self._set_aside(entry.job, evidence)
        entry.set_aside = evidence.kind if settle is Settle.ACK else ""
        return msgspec.structs.replace(outcome, settle=settle.value)

    def _evidence(
        self, message: Job | Delivery, kind: str, reason: str, queue: str | None, id: str | None, task: str | None
    ) -> Evidence:
        return evidence_for(message, kind, reason, self._emitter.sender.hostname, queue, id, task)

    def _set_aside(self, message: Job | Delivery, evidence: Evidence) -> Settle:
        """Put ``message`` on the quarantine queue; how the original is to be settled then."""
        about = {"task_id": evidence.id, "task": evidence.task, "kind": evidence.kind}
        if not self._room.take():
            self._ledger.count("quarantine_full")
            sample = bytes(message.body[:SAMPLE_BYTES]).decode("utf-8", "backslashreplace")
            known = {**about, "queue": evidence.queue, "reason": evidence.reason, "body": sample}
            log.error("the quarantine is full, and a message is rejected", extra=known)
            return Settle.REJECT
        try:
            self._publish(set_aside(message, evidence, self._settings.quarantine_queue))
        except Unavailable as exc:
            self._ledger.count("not_quarantined")
            log.error("a message could not be set aside, and goes back", extra={**about, "error": str(exc)})
            return Settle.REQUEUE
        except Exception as exc:  # noqa: BLE001  # boundary: a peer's message that cannot be sent on must not stop the clerk
            self._ledger.count("not_quarantined")
            log.error("a message cannot be set aside, and is dropped", extra={**about, "error": str(exc)})
            return Settle.REJECT
        self._ledger.count("quarantined")
        return Settle.ACK

    def _announce_set_aside(self, evidence: Evidence) -> None:
        fields = {
            "uuid": evidence.id,
            "timestamp": time.time(),
            "name": evidence.task,
            "queue": evidence.queue,
            "routing_key": evidence.routing_key,
            "requeue": False,
            "quarantined": evidence.kind,
        }
        self._emitter.emit("task-rejected", fields)

    def _fail(self, entry: Entry, outcome: Outcome, exc: BaseException, settle: str) -> Outcome:
        headers = entry.headers
        log.error(
            "a task could not be finished",
            extra={"task_id": headers.id, "task": headers.task, "cause": outcome.cause, "error": str(exc)},
        )
        self._record(headers, "FAILURE", exc, entry.job.properties)
        if settle != "requeue":
            self._follower.after_death(entry.job, headers, exc)
        return msgspec.structs.replace(outcome, state="FAILURE", settle=settle, exception_repr=repr(exc))

    def _record(
        self, headers: TaskHeaders, state: str, exc: BaseException, properties: Mapping[str, Any] = _NOTHING
    ) -> None:
        try:
            self._recorder.write(headers, state, exc, reply_to=properties.get("reply_to"))
        except Unavailable as unavailable:
            self._ledger.count("states_not_stored")
            log.error("a state could not be stored", extra={"task_id": headers.id, "error": str(unavailable)})

    def _republish(self, entry: Entry) -> None:
        try:
            self._publish(message_again(entry.job, {}))
        except (OpsqError, OSError) as exc:
            self._ledger.count("not_republished")
            log.error("a message could not be published again", extra={"task_id": entry.headers.id, "error": str(exc)})

    def _signal_revoked(self, headers: TaskHeaders, terminated: bool, signum: int | None, expired: bool) -> None:
        if task_revoked.receivers:
            request = Context(id=headers.id, task=headers.task, retries=headers.retries)
            task_revoked.send(
                sender=headers.task, request=request, terminated=terminated, signum=signum, expired=expired
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
