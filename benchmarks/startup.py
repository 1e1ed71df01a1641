"""Seconds from starting the ``opsq worker`` command to the start of the first task, which waits already."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from benchmarks import site
from benchmarks.filling import DEFAULT_SLOTS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--pool", default="threads", choices=sorted(DEFAULT_SLOTS))
    parser.add_argument("--rounds", type=int, default=5)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start a worker several times and return the median."""
    taken = []
    with site.site(options.broker, options.pool, DEFAULT_SLOTS[options.pool], options.rounds) as place:
        from benchmarks.workload import app, board, noop

        for row in range(options.rounds):
            noop.delay(row)
            app.close()
            started = time.time()
            with place.worker() as process:
                while board.distinct() <= row:
                    if process.poll() is not None:
                        raise site.CannotMeasure(f"the worker ended with exit code {process.returncode}")
                    time.sleep(0.005)
            taken.append(board.span()[1] - started)
    return {
        "system": "opsq", "broker": options.broker, "pool": options.pool, "rounds": options.rounds,
        "seconds": round(statistics.median(taken), 3), "worst_seconds": round(max(taken), 3),
    }  # fmt: skip
