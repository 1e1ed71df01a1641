"""One run of one task in its slot: load, call, classify, store, publish what follows.

A job flows through small steps as an ``Attempt``; whatever happens it leaves as an ``Outcome``. The
result is stored before anything that follows is published, and both before the outcome is handed to
the worker, which acknowledges. Steps that nobody asked for (hooks, signals, a stored STARTED) cost
one test each: a task that does nothing must cost next to nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from opsq.clock import Clock, SystemClock
from opsq.core import request as requests
from opsq.core.framework import around, framework
from opsq.core.pools.base import Call, Job, Outcome, Stopped
from opsq.core.pools.limits import limited
from opsq.core.request import context_from_message
from opsq.core.schedules.zones import zone_of_settings
from opsq.core.worker.attempt import Attempt
from opsq.core.worker.end import Ender
from opsq.core.worker.follow import Follower
from opsq.core.worker.intake import epoch_of
from opsq.core.worker.load import Loader
from opsq.core.worker.memory import ResidentMemory
from opsq.core.worker.prepared import Prepared, already_returned, prepare
from opsq.core.worker.record import Recorder
from opsq.core.worker.voice import Voice
from opsq.errors import (
    MalformedMessage,
    NotRegistered,
    TaskRevokedError,
    Unavailable,
    UntrustedContent,
    UntrustedSignature,
)
from opsq.logs import pop as unbind
from opsq.logs import push as bind
from opsq.signals import task_prerun
from opsq.wire.task import TaskHeaders

log = logging.getLogger(__name__)


class Executor:
    """Runs jobs for one app: the ``Runner`` of every pool. Thread: any.

    hostname: the worker's node name. own_thread: nobody else computes on the thread of a run meanwhile.
    """

    def __init__(self, app: Any, hostname: str, clock: Clock | None = None, own_thread: bool = True) -> None:
        settings = app.settings
        self.loader = Loader(settings, app.caller.serializers)
        self.recorder = Recorder(app.backend, hostname, settings.result_extended)
        self.follower = Follower(app, self.recorder, self.loader)
        app.sender.chords = self.follower.chords
        self._app = app
        self._settings = settings
        self._deduplicates = settings.worker_deduplicate_successful_tasks and self.recorder.enabled
        self._zone = zone_of_settings(settings.timezone, settings.enable_utc)
        self._hostname = hostname
        self._own_thread = own_thread
        self._clock = clock or SystemClock()
        self.voice: Voice | None = None
        self._memory = ResidentMemory()
        self._framework = framework()
        self._ender = Ender(self.recorder, self.follower, self._memory, self._clock)
        self._prepared: dict[str, Prepared] = {}

    def run(self, job: Job, call: Call | None = None) -> Outcome:
        """Run ``job`` to its end in this thread. Never raises for the task's own failure.

        Raises: Stopped when the pool's ``call`` did.
        """
        attempt = self._begin(job)
        if not isinstance(attempt, Attempt):
            return attempt
        self._enter(attempt)
        if self._framework is not None:
            self._framework.begin()
        try:
            try:
                if attempt.needs_start:
                    self._announce_start(attempt)
                prepared = attempt.prepared
                attempt.begin(self._own_thread)
                if call is not None:
                    value = call(prepared.in_slot, attempt.args, attempt.kwargs)
                else:
                    value = prepared.in_slot(*attempt.args, **attempt.kwargs)
                attempt.end()
            except BaseException as exc:  # boundary: whatever a task raises becomes its outcome
                attempt.end()
                if isinstance(exc, Stopped):
                    raise
                return self._ender.raised(attempt, exc)
            return self._ender.returned(attempt, value)
        finally:
            if self._framework is not None:
                self._framework.end()
            self._leave(attempt)

    async def arun(self, job: Job) -> Outcome:
        """Run ``job`` on this event loop; an ordinary function runs on a helper thread.

        Raises: CancelledError when the awaiting asyncio task was cancelled while the task ran.
        """
        attempt = self._begin(job)
        if not isinstance(attempt, Attempt):
            return attempt
        if not attempt.prepared.is_async:
            return await _to_the_end(partial(self.run, job))
        self._enter(attempt)
        try:
            try:
                if attempt.needs_start:
                    await asyncio.to_thread(around, self._framework, partial(self._announce_start, attempt))
                attempt.begin(own_thread=False)
                value = await limited(
                    attempt.prepared.call(*attempt.args, **attempt.kwargs), job.soft_limit_s, job.hard_limit_s
                )
                attempt.end()
            except BaseException as exc:  # boundary: whatever a task raises becomes its outcome
                attempt.end()
                if isinstance(exc, asyncio.CancelledError) and _was_cancelled():
                    raise
                return await _to_the_end(partial(around, self._framework, partial(self._ender.raised, attempt, exc)))
            if self._ender.is_quick(attempt):
                return self._ender.returned(attempt, value)
            return await _to_the_end(partial(around, self._framework, partial(self._ender.returned, attempt, value)))
        finally:
            self._leave(attempt)

    def close(self) -> None:
        """Let go of the app's connections. Thread: the one that ends the process."""
        if self.voice is not None:
            self.voice.stop()
        self._app.close()

    def speak(self, voice: Voice) -> None:
        """Let tasks be heard: their progress, events and log lines."""
        self.voice = voice
        self._app.sender.voice = voice
        voice.start()

    def prepared(self, name: str) -> Prepared | None:
        """What is known of the task ``name``; None when it is not registered."""
        found = self._prepared.get(name)
        if found is None:
            task = self._app.tasks.get(name)
            if task is None:
                return None
            found = self._prepared[name] = prepare(task, self._settings)
        return found

    def _begin(self, job: Job) -> Attempt | Outcome:
        try:
            headers, body = self.loader.load(job)
        except UntrustedSignature as exc:
            # Anybody may have written its id, so nothing is stored under that.
            forged = TaskHeaders(id=job.id, task=job.task)
            return self._ender.not_run(job, forged, "UNVERIFIED", "", exc, "reject")
        except (MalformedMessage, UntrustedContent) as exc:
            known = TaskHeaders(id=job.id, task=job.task)
            return self._ender.not_run(job, known, "MALFORMED", "FAILURE", exc, "reject")
        prepared = self.prepared(headers.task)
        if prepared is None:
            unknown = NotRegistered(headers.task)
            return self._ender.not_run(job, headers, "UNKNOWN", "FAILURE", unknown, "reject")
        now = self._clock.now()
        expires = epoch_of(headers, headers.expires, "$headers.expires", self._zone)
        if expires is not None and now > expires:
            return self._ender.not_run(job, headers, "REVOKED", "REVOKED", TaskRevokedError("expired"), "ack")
        if headers.user and not self.follower.chords.may_start(headers):
            return self._ender.not_again(job, headers)
        if self._deduplicates and prepared.policy.acks_late and job.delivery_info.get("redelivered"):
            prepared = self._unless_done(prepared, headers.id)
        request = context_from_message(
            headers, body, delivery_info=job.delivery_info, properties=job.properties, hostname=self._hostname
        )
        ignore = prepared.ignore_result if headers.ignore_result is None else headers.ignore_result
        if not ignore and self.recorder.enabled:
            request.before_retry = partial(self._ender.store_retry, headers)
        return Attempt(job, headers, body, prepared, request, bool(ignore), now)

    def _unless_done(self, prepared: Prepared, task_id: str) -> Prepared:
        """The task, or one that only returns what a run before this redelivery has stored.

        That run may have ended before what follows it was published, so it is published again, under the same ids.
        """
        try:
            meta = self._app.backend.load(task_id)
        except Unavailable as exc:
            log.warning("a redelivered task is run unchecked", extra={"task_id": task_id, "error": str(exc)})
            return prepared
        if meta.status != "SUCCESS":
            return prepared
        log.info("a redelivered task has succeeded before and is not run again", extra={"task_id": task_id})
        return already_returned(prepared, meta.result)

    def _enter(self, attempt: Attempt) -> None:
        """Make this the running task of the thread or coroutine, for ``task.request`` and for logs."""
        headers = attempt.headers
        attempt.log_token = bind({"task_id": headers.id, "task": headers.task, "attempt": headers.retries + 1})
        attempt.frame_token = requests.push(attempt.prepared.task, attempt.request)

    def _leave(self, attempt: Attempt) -> None:
        requests.pop(attempt.frame_token)
        unbind(attempt.log_token)
        if self.voice is not None:
            self.voice.finished(attempt.headers.id, attempt.headers.retries + 1)

    def _announce_start(self, attempt: Attempt) -> None:
        """Store STARTED and call whoever wants to know, as far as anybody does."""
        prepared, headers = attempt.prepared, attempt.headers
        if prepared.track_started and not attempt.ignore_result:
            about = {"pid": os.getpid(), "hostname": self._hostname}
            try:
                self.recorder.write(headers, "STARTED", about, request=attempt.request)
            except Unavailable as exc:
                log.warning("the state STARTED could not be stored", extra={"error": str(exc)})
        if task_prerun.receivers:
            task_prerun.send(
                sender=prepared.task, task_id=headers.id, task=prepared.task, args=attempt.args, kwargs=attempt.kwargs
            )
        if prepared.before_start is not None:
            prepared.before_start(headers.id, attempt.args, attempt.kwargs)


def _was_cancelled() -> bool:
    """Whether somebody cancelled this asyncio task, rather than the coroutine raising by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _to_the_end(work: Callable[[], Outcome]) -> Outcome:
    """Run ``work`` on a helper thread and wait for it even when cancelled: half a store helps nobody."""
    future = asyncio.ensure_future(asyncio.to_thread(work))
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
    return future.result()
