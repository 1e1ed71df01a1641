"""Slots that are tasks of one asyncio event loop, on a thread of its own.

Thousands of slots cost next to nothing, as long as the tasks are ``async def`` and await. The
runner decides what to do with an ordinary function: it runs on a small set of helper threads,
where no time limit reaches it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, ClassVar

from opsq.core.pools.base import Job, Outcome, PoolCapabilities, PoolConfig, RunningJob
from opsq.core.pools.in_process import InProcessPool
from opsq.core.pools.verdicts import cancelled_before_start, runner_broke, terminated

log = logging.getLogger(__name__)

HELPER_THREADS = 32
"""Most threads for ordinary functions; more of them at once wait for one another."""


class AsyncioPool(InProcessPool):
    """Runs jobs on one event loop. Thread: any."""

    name: ClassVar[str] = "asyncio"
    capabilities: ClassVar[PoolCapabilities] = PoolCapabilities(
        hard_limit=True,
        soft_limit=True,
        terminate=True,
        resize=True,
        isolates_crash=False,
        native_async=True,
        recycles=False,
    )

    def __init__(self, config: PoolConfig) -> None:
        super().__init__(config)
        self._inbox: deque[Job] = deque()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._begun: set[int] = set()
        self._terminated: dict[int, int | None] = {}
        self._done: list[Outcome] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._helpers: ThreadPoolExecutor | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._pump_due = False

    def start(self) -> None:
        """Start the loop's thread and wait until it runs."""
        self._thread = threading.Thread(target=self._main, name="opsq-asyncio", daemon=True)
        self._thread.start()
        self._ready.wait()

    def submit(self, job: Job) -> None:
        """Queue ``job``, waking the loop at most once for many."""
        self._queued[job.key] = job
        self._inbox.append(job)
        self._wake()

    def cancel(self, key: int, reason: str = "terminated", signal: int | None = None) -> bool:
        """Take a queued job back, or cancel the running coroutine."""
        loop = self._loop
        if loop is None or (key not in self._queued and key not in self._running):
            return False
        loop.call_soon_threadsafe(self._cancel, key, reason, signal)
        return True

    def grow(self, n: int = 1) -> None:
        """Add ``n`` slots."""
        self.slots += n
        self._wake()

    def shrink(self, n: int = 1) -> None:
        """Take ``n`` slots away as they become free; one always stays."""
        self.slots = max(1, self.slots - n)

    def frames_of(self, key: int) -> list[FrameType]:
        """Where the coroutine of a running job is, outermost first; none when it does not run. Thread: any."""
        task, frames = self._tasks.get(key), list[FrameType]()
        at: Any = task.get_coro() if task is not None else None
        while at is not None:
            frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None)
            if frame is None:
                break
            frames.append(frame)
            at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None)
        return frames

    def stop(self, deadline: float) -> None:
        """Cancel what still runs and end the loop."""
        self._draining = True
        self._take_back()
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("the event loop is stuck in a task and is left behind")

    def _main(self) -> None:
        loop = asyncio.new_event_loop()
        helpers = ThreadPoolExecutor(min(HELPER_THREADS, max(1, self.slots)), thread_name_prefix="opsq-helper")
        loop.set_default_executor(helpers)
        self._loop, self._helpers = loop, helpers
        self._ready.set()
        try:
            loop.run_forever()
            for task in self._tasks.values():
                task.cancel()
            if self._tasks:
                loop.run_until_complete(asyncio.wait(tuple(self._tasks.values()), timeout=1.0))
            self._hand_over()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            helpers.shutdown(wait=False, cancel_futures=True)
            loop.close()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not self._pump_due and not loop.is_closed():
            self._pump_due = True
            loop.call_soon_threadsafe(self._pump)

    def _take_back(self) -> list[int]:
        """Empty the inbox; each ``popleft`` is atomic, so the loop may pump meanwhile."""
        keys: list[int] = []
        while self._inbox:
            try:
                job = self._inbox.popleft()
            except IndexError:
                break
            if self._queued.pop(job.key, None) is not None:
                keys.append(job.key)
        return keys

    def _pump(self) -> None:
        self._pump_due = False
        while self._inbox and len(self._tasks) < self.slots and not self._draining:
            job = self._inbox.popleft()
            at = self._config.clock.now()
            self._running[job.key] = RunningJob(job.key, os.getpid(), at)
            now_wanted = self._queued.pop(job.key, None)
            if now_wanted is None:
                del self._running[job.key]
                continue
            job = now_wanted
            loop = asyncio.get_running_loop()
            self._tasks[job.key] = loop.create_task(self._run_one(job, at), name=job.id)

    def _cancel(self, key: int, reason: str, signum: int | None) -> None:
        task = self._tasks.get(key)
        if task is not None:
            if reason == "revoked":
                return
            self._terminated[key] = signum
            # Cancelling a task before its first step would end it without a trace, and without an outcome.
            if key in self._begun:
                task.cancel()
            return
        job = self._queued.pop(key, None)
        if job is not None:
            self._report(cancelled_before_start(job, self._config.clock.now()))

    async def _run_one(self, job: Job, at: float) -> None:
        config, key = self._config, job.key
        self._begun.add(key)
        try:
            if key in self._terminated:
                raise asyncio.CancelledError
            config.on_started(key, os.getpid(), at)
            outcome = await config.run.arun(job)
        except asyncio.CancelledError:
            outcome = terminated(job, at, config.clock.now(), os.getpid(), self._terminated.get(key))
        except BaseException as exc:  # boundary: a broken runner must not end the loop
            log.exception("the runner raised", extra={"task_id": job.id, "task": job.task})
            outcome = runner_broke(job, at, config.clock.now(), exc)
        self._terminated.pop(key, None)
        self._begun.discard(key)
        del self._tasks[key]
        self._report(outcome)
        if self._inbox:
            self._pump()

    def _report(self, outcome: Outcome) -> None:
        if not self._done:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._done.append(outcome)

    def _hand_over(self) -> None:
        done, self._done = self._done, []
        if done:
            self._config.on_outcomes(done)
            for outcome in done:
                self._running.pop(outcome.key, None)
        if self._draining:
            self._idle.set()
