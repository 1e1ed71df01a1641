"""Slots that are threads of the worker's own process.

One unbounded C queue feeds all of them; what bounds it is the worker's prefetch. A thread cannot
be killed, so there is no hard time limit and no termination of a running task here.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from typing import ClassVar

from opsq.core.pools.base import Job, Outcome, PoolCapabilities, PoolConfig, RunningJob
from opsq.core.pools.in_process import InProcessPool
from opsq.core.pools.verdicts import cancelled_before_start, runner_broke

log = logging.getLogger(__name__)

_NUDGE = None
"""Wakes an idle slot so that it looks at ``_surplus``; means nothing else."""


class ThreadsPool(InProcessPool):
    """Runs jobs on ``slots`` threads. Thread: any."""

    name: ClassVar[str] = "threads"
    capabilities: ClassVar[PoolCapabilities] = PoolCapabilities(
        hard_limit=False,
        soft_limit=False,
        terminate=False,
        resize=True,
        isolates_crash=False,
        native_async=False,
        recycles=False,
    )

    def __init__(self, config: PoolConfig) -> None:
        super().__init__(config)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._threads: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()
        self._surplus = 0
        self._serial = 0
        self._closed = False

    def start(self) -> None:
        """Start one thread per slot."""
        self._spawn(self.slots)

    def submit(self, job: Job) -> None:
        """Queue ``job``; after ``drain`` it stays queued and is given back by nobody."""
        self._queued[job.key] = job
        self._jobs.put(job)

    def cancel(self, key: int, reason: str = "terminated", signal: int | None = None) -> bool:
        """Take a queued job back; a running one cannot be stopped here."""
        if key not in self._queued:
            return False
        self._cancelled.add(key)
        return True

    def grow(self, n: int = 1) -> None:
        """Add ``n`` slots."""
        self.slots += n
        self._spawn(n)

    def shrink(self, n: int = 1) -> None:
        """Let ``n`` slots end after the job they run; one always stays."""
        with self._lock:
            n = max(0, min(n, self.slots - 1))
            self.slots -= n
            self._surplus += n
        for _ in range(n):
            self._jobs.put(_NUDGE)

    def stop(self, deadline: float) -> None:
        """End the threads; one that is stuck in a task is left behind as a daemon."""
        self._closed = True
        self._draining = True
        self._take_back()
        threads = list(self._threads.values())
        for _ in threads:
            self._jobs.put(_NUDGE)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in threads if thread.is_alive()]
        if stuck:
            log.warning("slots still busy at the deadline are left behind", extra={"slots": stuck})

    def stats(self) -> dict[str, object]:
        """Facts for ``inspect stats``, with Celery's keys for this kind of pool."""
        return super().stats() | {"threads": len(self._threads)}

    def _spawn(self, n: int) -> None:
        for _ in range(n):
            with self._lock:
                index = self._serial
                self._serial += 1
                thread = threading.Thread(target=self._slot, args=(index,), name=f"opsq-slot-{index}", daemon=True)
                self._threads[index] = thread
            thread.start()

    def _take_back(self) -> list[int]:
        keys: list[int] = []
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return keys
            if job is not None and self._queued.pop(job.key, None) is not None:
                keys.append(job.key)

    def _leaves(self) -> bool:
        """Say whether the calling slot is one too many."""
        if self._closed:
            return True
        if not self._surplus:
            return False
        with self._lock:
            if not self._surplus:
                return False
            self._surplus -= 1
            return True

    def _slot(self, index: int) -> None:
        get, run_one = self._jobs.get, self._run_one
        while not (self._surplus or self._closed) or not self._leaves():
            job = get()
            if job is not None:
                run_one(index, job)
        self._threads.pop(index, None)

    def _run_one(self, index: int, job: Job) -> None:
        config, key = self._config, job.key
        pid, at = os.getpid(), config.clock.now()
        # Running before it leaves the queue: otherwise drain could see it in neither place.
        self._running[index] = RunningJob(key, pid, at)
        now_wanted = self._queued.pop(key, None)
        if now_wanted is None:
            del self._running[index]
            return  # drained between the queue and here
        job = now_wanted
        if self._cancelled and key in self._cancelled:
            self._cancelled.discard(key)
            self._finish(index, cancelled_before_start(job, at))
            return
        config.on_started(key, pid, at)
        try:
            outcome: Outcome = config.run.run(job)
        except BaseException as exc:  # boundary: a broken runner must not cost a slot
            log.exception("the runner raised", extra={"task_id": job.id, "task": job.task})
            outcome = runner_broke(job, at, config.clock.now(), exc)
        self._finish(index, outcome)

    def _finish(self, index: int, outcome: Outcome) -> None:
        # The outcome first: drain returns when nothing runs, and by then it must have been handed over.
        self._config.on_outcomes([outcome])
        del self._running[index]
        if self._draining:
            self._idle.set()
