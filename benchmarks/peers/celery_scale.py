"""Celery with its own defaults and one task that only computes: for its autoscaler beside ours."""

from __future__ import annotations

import time

from celery import Celery

from benchmarks.peers.place import URL, board

app = Celery("benchmarks", broker=URL)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


def compute(row: int, turns: int) -> None:
    """Compute, holding a process and a processor."""
    started, total = time.time(), 0
    for number in range(turns):
        total += number * number & 0xFF
    board.ran(row, started, time.time())


app.task(compute, name="compute")
