"""rq, whose worker imports the function by its name."""

from __future__ import annotations

import time

from redis import Redis
from rq import Queue

from benchmarks.peers.place import URL, board

TASK = "benchmarks.peers.rq_app.mark"


def mark(row: int) -> None:
    """Note that the task ran."""
    board.mark(row)


def fill(tasks: int) -> float:
    """Send ``tasks`` calls one at a time; how many per second."""
    connection = Redis.from_url(URL)
    queue = Queue(connection=connection)
    queue.enqueue(TASK, 0, result_ttl=0)
    started = time.perf_counter()
    for row in range(1, tasks):
        queue.enqueue(TASK, row, result_ttl=0)
    taken = time.perf_counter() - started
    connection.close()
    return tasks / taken
