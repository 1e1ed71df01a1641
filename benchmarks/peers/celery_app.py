"""Celery, with what makes it fastest: no events, no results, no rate limits, a deep prefetch."""

from __future__ import annotations

import time

from celery import Celery

from benchmarks.peers.place import URL, board

app = Celery("benchmarks", broker=URL)
app.conf.update(
    task_ignore_result=True,
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


def mark(row: int) -> None:
    """Note that the task ran."""
    board.mark(row)


noop = app.task(name="noop")(mark)


def fill(tasks: int) -> float:
    """Send ``tasks`` calls one at a time; how many per second."""
    noop.delay(0)
    started = time.perf_counter()
    for row in range(1, tasks):
        noop.delay(row)
    return tasks / (time.perf_counter() - started)
