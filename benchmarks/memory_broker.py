"""Throughput on the memory broker, whose queue only this process can see: worker and client are one process."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.board import Board
from benchmarks.filling import figures_of, fill
from benchmarks.site import PATIENCE_S, CannotMeasure, rss_mb
from opsq import Opsq
from opsq.testing.harness import running_worker


def throughput_of(pool: str, slots: int, tasks: int) -> dict[str, Any]:
    """Fill the queue, start a worker in this process, wait, return the figures."""
    if pool == "prefork":
        raise CannotMeasure("the memory broker cannot feed prefork: its queue is in this process alone")
    with tempfile.TemporaryDirectory(prefix="opsq-bench-") as folder:
        board = Board(Path(folder) / "board", tasks)
        app = Opsq("benchmarks", broker="memory://", task_ignore_result=True)
        noop = app.task(name="noop")(board.mark)
        fill(app, noop, tasks)
        with running_worker(app, pool=pool, concurrency=slots):
            deadline = time.monotonic() + PATIENCE_S
            while board.distinct() < tasks and time.monotonic() < deadline:
                time.sleep(0.02)
            rss = rss_mb([psutil.Process(os.getpid())])
        app.close()
        return figures_of(board, rss)
