"""How a run ends: classify it, store it, publish what follows, tell whoever listens.

Every ending goes through the same order: state stored, next messages published, handlers and
signals called, outcome returned. A failure inside a handler is its own; a store or broker that does
not answer sends the message back, because acknowledging it would lose the result.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from opsq.clock import Clock
from opsq.core.canvas import Planned
from opsq.core.pools.base import Job, Outcome
from opsq.core.request import current_frame
from opsq.core.worker.attempt import Attempt
from opsq.core.worker.chords import quietly
from opsq.core.worker.failure import Failure, describe, exception_text
from opsq.core.worker.follow import Follower, Next
from opsq.core.worker.memory import ResidentMemory
from opsq.core.worker.record import Recorder
from opsq.errors import (
    Ignore,
    Reject,
    Retry,
    TimeLimitExceeded,
    Unavailable,
    UsageError,
    WireError,
)
from opsq.signals import task_failure, task_postrun, task_retry, task_success
from opsq.wire.saferepr import saferepr
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)

_MUST_BE_TOLD: Final = frozenset({"UNKNOWN", "REVOKED"})
"""States of what was never called and can be read: the rest of its chain, and its chord, would wait for ever."""


class Ender:
    """Brings runs to their end. Thread: the slot's; holds nothing that changes."""

    def __init__(self, recorder: Recorder, follower: Follower, memory: ResidentMemory, clock: Clock) -> None:
        self._recorder = recorder
        self._follower = follower
        self._memory = memory
        self._clock = clock

    def is_quick(self, attempt: Attempt) -> bool:
        """Whether a success of ``attempt`` ends without waiting for a store, a broker or a handler."""
        prepared, request = attempt.prepared, attempt.request
        return not (
            (self._recorder.enabled and not attempt.ignore_result)
            or request.callbacks
            or request.chain
            or request.chord
            or prepared.on_success
            or prepared.after_return
            or task_success.receivers
            or task_postrun.receivers
        )

    def returned(self, attempt: Attempt, value: Any) -> Outcome:
        """End a run whose function returned ``value``."""
        request = attempt.request
        plan: Sequence[Next] = ()
        try:
            if request.callbacks or request.chain:
                plan = self._follower.after_success(attempt.headers, request, value)
                if attempt.prepared.task.trail:
                    request.children.extend(self._follower.handles(plan))
            if not attempt.ignore_result:
                self._recorder.write(attempt.headers, "SUCCESS", value, request=request)
        except Unavailable as exc:
            return self._not_recorded(attempt, exc)
        except (UsageError, WireError) as exc:
            return self._failed(attempt, exc)
        if plan:
            broken = self._publish(attempt, plan)
            if broken is not None:
                return broken
        if request.chord:
            broken = self._count(attempt, "SUCCESS", value)
            if broken is not None:
                return broken
        self._tell_success(attempt, value)
        return self._outcome(attempt, "SUCCESS", "ack", result_repr=saferepr(value, attempt.prepared.repr_max))

    def raised(self, attempt: Attempt, exc: BaseException) -> Outcome:
        """End a run that raised ``exc``, whatever that is."""
        if not isinstance(exc, (Retry, Ignore, Reject)) and attempt.prepared.task.autoretry_for:
            try:
                attempt.prepared.task.autoretry(exc)
            except BaseException as verdict:  # noqa: BLE001 boundary: says Retry, or how the retrying ended
                exc = verdict
        if isinstance(exc, Retry):
            return self._retried(attempt, exc)
        if isinstance(exc, Ignore):
            self._tell_end(attempt, "IGNORED", None, None)
            return self._outcome(attempt, "IGNORED", "ack")
        if isinstance(exc, Reject):
            return self._rejected(attempt, exc)
        return self._failed(attempt, exc)

    def not_again(self, job: Job, headers: TaskHeaders) -> Outcome:
        """End a job that another message of the same id runs already."""
        log.info("a second message of the same call is left alone", extra={"task_id": job.id, "task": job.task})
        return self._never_ran(job, headers, "IGNORED", "ack")

    def not_run(self, job: Job, headers: TaskHeaders, state: str, stored: str, exc: Exception, settle: str) -> Outcome:
        """End a job whose function was never called. stored: the state to store, empty for none."""
        log.error("a task cannot be run", extra={"task_id": job.id, "task": job.task, "reason": str(exc)[:1024]})
        try:
            if stored:
                self._recorder.write(headers, stored, exc, reply_to=job.properties.get("reply_to"))
        except Unavailable as unavailable:
            log.error("a state could not be stored", extra={"task_id": job.id, "error": str(unavailable)})
        if state in _MUST_BE_TOLD:
            self._follower.after_refusal(job, headers, exc, stored)
        return self._never_ran(job, headers, state, settle, exc)

    def _never_ran(
        self, job: Job, headers: TaskHeaders, state: str, settle: str, exc: Exception | None = None
    ) -> Outcome:
        now = self._clock.now()
        return Outcome(
            key=job.key,
            id=job.id,
            state=state,
            settle=settle,
            started_at=now,
            finished_at=now,
            runtime_s=0.0,
            pid=os.getpid(),
            exception_repr=exception_text(exc) if exc is not None else None,
            retries=headers.retries,
            expired=state == "REVOKED",
        )

    def store_retry(self, headers: TaskHeaders, retry: Retry) -> None:
        """Store RETRY just before ``Task.retry`` publishes the next attempt. Raises: BackendUnavailable."""
        cause = retry.exc if isinstance(retry.exc, BaseException) else retry
        frame = current_frame()
        request = frame.request if frame is not None else None
        try:
            self._recorder.write(headers, "RETRY", cause, traceback=describe(cause).traceback, request=request)
        except UsageError as exc:
            log.warning("the state RETRY could not be stored", extra={"error": str(exc)})

    def _retried(self, attempt: Attempt, retry: Retry) -> Outcome:
        failure = describe(retry.exc if isinstance(retry.exc, BaseException) else retry)
        log.info("task is retried", extra={"reason": str(retry)[:1024]})
        prepared, headers = attempt.prepared, attempt.headers
        if prepared.on_retry is not None:
            self._call(prepared.on_retry, failure.exception, headers.id, attempt.args, attempt.kwargs, failure)
        if task_retry.receivers:
            task_retry.send(sender=prepared.task, request=attempt.request, reason=retry, einfo=failure)
        self._tell_end(attempt, "RETRY", retry, failure)
        return self._outcome(attempt, "RETRY", "ack", failure=failure)

    def _rejected(self, attempt: Attempt, exc: Reject) -> Outcome:
        """Send the message back; or refuse it for good, which whoever waits must be told as a failure."""
        if exc.requeue:
            self._tell_end(attempt, "REJECTED", exc, None)
            return self._outcome(attempt, "REJECTED", "requeue", exception_repr=exception_text(exc), requeue=True)
        failure = describe(exc)
        try:
            if not attempt.ignore_result or attempt.prepared.store_errors:
                self._store_failure(attempt, failure)
            if attempt.request.chain:
                self._follower.fail_chain(attempt.headers, attempt.request, exc, failure.traceback)
        except Unavailable as unavailable:
            return self._not_recorded(attempt, unavailable)
        if attempt.request.chord:
            broken = self._count(attempt, "FAILURE", exc)
            if broken is not None:
                return broken
        self._tell_end(attempt, "REJECTED", exc, None)
        return self._outcome(attempt, "REJECTED", "reject", failure=failure)

    def _failed(self, attempt: Attempt, exc: BaseException) -> Outcome:
        failure = describe(exc)
        prepared, request = attempt.prepared, attempt.request
        expected = isinstance(exc, prepared.throws)
        if expected:
            log.info("task failed as expected", extra={"error": failure.text})
        else:
            log.error("task failed", extra={"error": failure.text, "traceback": failure.traceback})
        try:
            if not attempt.ignore_result or prepared.store_errors:
                self._store_failure(attempt, failure)
            if request.chain:
                self._follower.fail_chain(attempt.headers, request, exc, failure.traceback)
        except Unavailable as unavailable:
            return self._not_recorded(attempt, unavailable)
        if request.errbacks:
            broken = self._publish(attempt, self._follower.after_failure(attempt.headers, request))
            if broken is not None:
                return broken
            self._follower.call_errbacks(request, exc, failure.traceback)
        if request.chord:
            broken = self._count(attempt, "FAILURE", exc)
            if broken is not None:
                return broken
        self._tell_failure(attempt, failure)
        return self._outcome(attempt, "FAILURE", self._settle_failure(attempt, exc), failure=failure)

    def _store_failure(self, attempt: Attempt, failure: Failure) -> None:
        try:
            self._recorder.write(
                attempt.headers, "FAILURE", failure.exception, traceback=failure.traceback, request=attempt.request
            )
        except UsageError as exc:
            substitute = RuntimeError(f"{failure.text} (the original could not be stored: {exc})"[:1024])
            self._recorder.write(attempt.headers, "FAILURE", substitute, traceback=failure.traceback)

    def _settle_failure(self, attempt: Attempt, exc: BaseException) -> str:
        policy = attempt.prepared.policy
        if isinstance(exc, TimeLimitExceeded):
            return "ack" if policy.acks_on_timeout else "requeue"
        return "ack" if policy.acks_on_failure else "reject"

    def _publish(self, attempt: Attempt, plan: Sequence[Next]) -> Outcome | None:
        """Publish what follows; an outcome when the message must go back for that."""
        try:
            self._follower.publish(plan)
        except Unavailable as exc:
            return self._not_recorded(attempt, exc)
        except Exception as exc:  # boundary: a follow-up that cannot be built must not hang its clients
            log.exception("what follows the task could not be published")
            self._fail_plan(attempt, plan, exc)
        return None

    def _count(self, attempt: Attempt, state: str, value: Any) -> Outcome | None:
        """Report the end of a chord's header task; an outcome when the message must go back for that."""
        try:
            self._follower.chords.part(attempt.headers, attempt.request, state, value)
        except Unavailable as exc:
            return self._not_recorded(attempt, exc)
        except Exception as exc:  # boundary: a body that cannot be published must not hang its clients
            log.exception("the body of a chord could not be published")
            self._fail_body(attempt, exc)
        return None

    def _fail_body(self, attempt: Attempt, exc: Exception) -> None:
        body = attempt.request.chord
        if body is not None:
            failing = partial(self._follower.chords.fail_body, body, exc, attempt.headers)
            quietly(failing, "failing the body of a chord", attempt.headers.id)

    def _fail_plan(self, attempt: Attempt, plan: Sequence[Next], exc: Exception) -> None:
        for step in (step for item in plan for step in item.steps if isinstance(step, Planned)):
            member = TaskHeaders(
                id=step.options["task_id"],
                task=step.task,
                parent_id=attempt.headers.id,
                root_id=attempt.headers.root_id,
            )
            quietly(partial(self._recorder.write, member, "FAILURE", exc), "storing a state", member.id)

    def _not_recorded(self, attempt: Attempt, exc: Unavailable) -> Outcome:
        """Send the message back: its result, or what follows it, could not be put anywhere."""
        log.error("the outcome could not be recorded, the message goes back", extra={"error": str(exc)})
        return self._outcome(attempt, "REJECTED", "requeue", exception_repr=exception_text(exc), requeue=True)

    def _tell_success(self, attempt: Attempt, value: Any) -> None:
        prepared, headers = attempt.prepared, attempt.headers
        if prepared.on_success is not None:
            self._call(prepared.on_success, value, headers.id, attempt.args, attempt.kwargs)
        if task_success.receivers:
            task_success.send(sender=prepared.task, result=value, runtime=attempt.runtime_s)
        if prepared.after_return is not None or task_postrun.receivers:
            self._tell_end(attempt, "SUCCESS", value, None)

    def _tell_failure(self, attempt: Attempt, failure: Failure) -> None:
        prepared, headers, exc = attempt.prepared, attempt.headers, failure.exception
        if prepared.on_failure is not None:
            self._call(prepared.on_failure, exc, headers.id, attempt.args, attempt.kwargs, failure)
        if task_failure.receivers:
            task_failure.send(
                sender=prepared.task,
                task_id=headers.id,
                exception=exc,
                args=attempt.args,
                kwargs=attempt.kwargs,
                traceback=exc.__traceback__,
                einfo=failure,
            )
        self._tell_end(attempt, "FAILURE", exc, failure)

    def _tell_end(self, attempt: Attempt, state: str, value: Any, failure: Failure | None) -> None:
        prepared, headers = attempt.prepared, attempt.headers
        if prepared.after_return is not None:
            self._call(prepared.after_return, state, value, headers.id, attempt.args, attempt.kwargs, failure)
        if task_postrun.receivers:
            task_postrun.send(
                sender=prepared.task,
                task_id=headers.id,
                task=prepared.task,
                args=attempt.args,
                kwargs=attempt.kwargs,
                retval=value,
                state=state,
            )

    def _call(self, hook: Callable[..., Any], *args: Any) -> None:
        try:
            hook(*args)
        except Exception:  # boundary: a handler's error changes nothing for the task
            log.exception("a handler of the task failed", extra={"handler": getattr(hook, "__name__", "?")})

    def _outcome(
        self,
        attempt: Attempt,
        state: str,
        settle: str,
        *,
        result_repr: str | None = None,
        failure: Failure | None = None,
        exception_repr: str | None = None,
        requeue: bool = False,
    ) -> Outcome:
        job = attempt.job
        return Outcome(
            key=job.key,
            id=attempt.headers.id,
            state=state,
            settle=settle,
            started_at=attempt.started_at,
            finished_at=attempt.started_at + attempt.runtime_s,
            runtime_s=attempt.runtime_s,
            cpu_s=attempt.cpu_s,
            rss_bytes=self._memory.bytes(),
            pid=os.getpid(),
            result_repr=result_repr,
            exception_repr=failure.text if failure is not None else exception_repr,
            traceback=failure.traceback if failure is not None else None,
            retries=attempt.headers.retries,
            fingerprint=failure.fingerprint if failure is not None else None,
            requeue=requeue,
        )
