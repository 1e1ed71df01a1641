"""Tasks per second of one worker: N no-op tasks wait, then one worker starts; first to last execution.

Results ignored, task events on, late acknowledgement, default prefetch. Every row of the board must
have run exactly as often as ``executed`` says; ``distinct`` counts rows that ran at all.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import memory_broker, site
from benchmarks.filling import DEFAULT_SLOTS, figures_of, fill


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--pool", default="threads", choices=sorted(DEFAULT_SLOTS))
    parser.add_argument("--tasks", type=int, default=50_000)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the figures."""
    slots = DEFAULT_SLOTS[options.pool]
    if options.broker == "memory":
        figures = memory_broker.throughput_of(options.pool, slots, options.tasks)
    else:
        figures = _with_processes(options.broker, options.pool, slots, options.tasks)
    return {"system": "opsq", "broker": options.broker, "pool": options.pool, "slots": slots} | figures


def _with_processes(broker: str, pool: str, slots: int, tasks: int) -> dict[str, Any]:
    with site.site(broker, pool, slots, tasks) as place:
        from benchmarks.workload import app, board, noop
        from benchmarks.workload_async import noop_async

        fill(app, noop_async if pool == "asyncio" else noop, tasks)
        with place.worker() as process:
            place.wait_until_done(board, process)
            rss = site.rss_mb(site.family(process))
        app.close()
        return figures_of(board, rss)
