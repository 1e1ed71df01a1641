"""Huey, as ``huey_consumer benchmarks.peers.huey_app.huey`` finds it."""

from __future__ import annotations

import time

from huey import RedisHuey

from benchmarks.peers.place import URL, board

huey = RedisHuey("benchmarks", url=URL, results=False)


def mark(row: int) -> None:
    """Note that the task ran."""
    board.mark(row)


noop = huey.task(name="noop")(mark)


def fill(tasks: int) -> float:
    """Send ``tasks`` calls one at a time; how many per second."""
    noop(0)
    started = time.perf_counter()
    for row in range(1, tasks):
        noop(row)
    return tasks / (time.perf_counter() - started)
