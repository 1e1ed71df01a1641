"""How busy slots are kept: tasks that sleep 100 ms at concurrency 10.

busy_share = sum of the sleeps / (slots × (last finish − first start)); 1 means that no slot ever waited.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import site
from benchmarks.filling import DEFAULT_SLOTS, fill

NAP_S = 0.1
SLOTS = {"solo": 1}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--pool", default="threads", choices=sorted(DEFAULT_SLOTS))
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--concurrency", type=int, default=10)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the share."""
    slots = SLOTS.get(options.pool, options.concurrency)
    with site.site(options.broker, options.pool, slots, options.tasks) as place:
        from benchmarks.workload import app, board, nap
        from benchmarks.workload_async import nap_async

        fill(app, nap_async if options.pool == "asyncio" else nap, options.tasks, NAP_S)
        with place.worker() as process:
            place.wait_until_done(board, process)
        app.close()
        first, last = board.span()
        share = options.tasks * NAP_S / (slots * (last - first))
        executed = board.executed()
    return {
        "system": "opsq", "broker": options.broker, "pool": options.pool, "slots": slots, "tasks": options.tasks,
        "executed": executed, "busy_share": round(share, 4),
    }  # fmt: skip
