"""Memory of one worker after 20,000 and after many more tasks: it must be flat."""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import site
from benchmarks.filling import DEFAULT_SLOTS, fill

EARLY = 20_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--pool", default="threads", choices=sorted(DEFAULT_SLOTS))
    parser.add_argument("--tasks", type=int, default=200_000)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return both figures and their ratio."""
    with site.site(options.broker, options.pool, DEFAULT_SLOTS[options.pool], options.tasks) as place:
        from benchmarks.workload import app, board, noop

        fill(app, noop, options.tasks)
        with place.worker() as process:
            while board.distinct() < EARLY:
                time.sleep(0.005)
            early_at, early = board.distinct(), site.rss_mb(site.family(process))
            place.wait_until_done(board, process)
            late = site.rss_mb(site.family(process))
        app.close()
    return {
        "system": "opsq", "broker": options.broker, "pool": options.pool, "tasks": options.tasks,
        "early_at": early_at, "early_rss_mb": early, "late_rss_mb": late, "growth": round(late / early - 1, 4),
    }  # fmt: skip
