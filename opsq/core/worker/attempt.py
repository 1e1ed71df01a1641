"""One run while it is under way."""

from __future__ import annotations

import time
from typing import Any

from opsq.core.pools.base import Job
from opsq.core.request import Context
from opsq.core.worker.prepared import Prepared
from opsq.signals import task_prerun
from opsq.wire.task import TaskBody, TaskHeaders


class Attempt:
    """What the steps of one run share. Thread: the slot's.

    started_at: epoch seconds. runtime_s, cpu_s: how long the task's own code ran and computed, once it
    has ended; cpu_s is None on an event loop, whose thread works for many.
    """

    __slots__ = (
        "_cpu_at_start_s",
        "_started",
        "args",
        "cpu_s",
        "frame_token",
        "headers",
        "ignore_result",
        "job",
        "kwargs",
        "log_token",
        "needs_start",
        "prepared",
        "request",
        "runtime_s",
        "started_at",
    )

    def __init__(
        self,
        job: Job,
        headers: TaskHeaders,
        body: TaskBody,
        prepared: Prepared,
        request: Context,
        ignore_result: bool,
        started_at: float,
    ) -> None:
        self.job = job
        self.headers = headers
        self.args = body.args
        self.kwargs = body.kwargs
        self.prepared = prepared
        self.request = request
        self.ignore_result = ignore_result
        self.started_at = started_at
        self.runtime_s = 0.0
        self.cpu_s: float | None = None
        self._started = time.perf_counter()
        self._cpu_at_start_s: float | None = None
        self.frame_token: Any = None
        self.log_token: Any = None
        self.needs_start = bool(prepared.track_started or prepared.before_start is not None or task_prerun.receivers)

    def begin(self, own_thread: bool) -> None:
        """Start the clocks; ``own_thread``: nobody else computes on this thread meanwhile."""
        self._cpu_at_start_s = time.thread_time() if own_thread else None
        self._started = time.perf_counter()

    def end(self) -> None:
        """Stop the clocks."""
        self.runtime_s = time.perf_counter() - self._started
        if self._cpu_at_start_s is not None:
            self.cpu_s = time.thread_time() - self._cpu_at_start_s
