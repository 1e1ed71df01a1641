"""Calls per second of one client, one ``delay()`` at a time; or in batches with ``--batch``."""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import site
from benchmarks.filling import fill


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--tasks", type=int, default=30_000)
    parser.add_argument("--batch", action="store_true", help="send_many of 1,000 instead of delay()")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the rate."""
    with site.site(options.broker, "solo", 1, options.tasks):
        from benchmarks.workload import app, noop

        noop.delay(0)
        started = time.perf_counter()
        if options.batch:
            fill(app, noop, options.tasks)
        else:
            for row in range(options.tasks):
                noop.delay(row)
        taken = time.perf_counter() - started
        waiting = sum(app.queue_depths(["celery"]).values())
        app.close()
    if waiting != options.tasks + 1:
        raise site.CannotMeasure(f"{options.tasks + 1} calls were sent and {waiting} messages wait")
    return {
        "system": "opsq", "broker": options.broker, "tasks": options.tasks, "batch": options.batch,
        "per_second": round(options.tasks / taken, 1),
    }  # fmt: skip
