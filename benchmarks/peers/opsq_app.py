"""opsq; its worker is ``opsq worker`` with nothing set but pool and concurrency."""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.filling import BATCH
from benchmarks.workload import app, noop
from benchmarks.workload_async import noop_async

TIMED = 3_000


def fill(tasks: int) -> float:
    """Send ``tasks`` calls; how many of the first 3,000 per second, one at a time, the others go in batches.

    Confirmed by RabbitMQ one by one, all of them would take longer than everything else.
    """
    task: Any = noop_async if os.environ["BENCH_POOL"] == "asyncio" else noop
    task.delay(0)
    timed = min(tasks, TIMED)
    started = time.perf_counter()
    for row in range(1, timed):
        task.delay(row)
    taken = time.perf_counter() - started
    for start in range(timed, tasks, BATCH):
        app.send_many([task.s(row) for row in range(start, min(start + BATCH, tasks))])
    app.close()
    return timed / taken
