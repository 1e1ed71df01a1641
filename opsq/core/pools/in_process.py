"""What pools have in common whose slots are the worker's own threads or coroutines."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from opsq.core.pools.base import Job, PoolConfig, RunningJob


class InProcessPool(ABC):
    """Knows what is queued and what runs, and waits for it at the end. Thread: any.

    A pool takes a job out of ``_queued`` when a slot begins it, notes it in ``_running`` before that, and sets
    ``_idle`` whenever a slot falls free while ``_draining``.
    """

    def __init__(self, config: PoolConfig) -> None:
        self.slots = config.slots
        self._config = config
        self._queued: dict[int, Job] = {}
        self._running: dict[int, RunningJob] = {}
        self._idle = threading.Event()
        self._draining = False

    @abstractmethod
    def _take_back(self) -> list[int]:
        """Empty the queue; the keys of what no slot has begun."""

    def replace(self, jobs: Sequence[Job]) -> None:
        """Run these in place of the queued ones of the same keys."""
        for job in jobs:
            if job.key in self._queued:
                self._queued[job.key] = job

    def running(self) -> list[RunningJob]:
        """What is in a slot right now."""
        return list(self._running.values())

    def recall(self) -> list[int]:
        """Take no new job, give up what is queued; its keys."""
        self._draining = True
        return self._take_back()

    def drain(self, deadline: float) -> list[int]:
        """Give up what is queued, wait for what runs until ``deadline``."""
        given_up = self.recall()
        while self._running:
            self._idle.clear()
            if not self._running:
                break
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._idle.wait(left_s):
                break
        return given_up + [job.key for job in self.running()]

    def stats(self) -> dict[str, object]:
        """Facts for ``inspect stats``, with Celery's keys."""
        return {
            "implementation": f"{type(self).__module__}:{type(self).__qualname__}",
            "max-concurrency": self.slots,
            "queued": len(self._queued),
            "running": len(self._running),
        }
