"""Memory of one worker after 20,000 and after many more tasks: it must be flat.

With ``--live N``: memory the monitor's fold holds for N tasks that are still moving, per task.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from typing import Any

import psutil

from benchmarks import fold, site
from benchmarks.filling import DEFAULT_SLOTS, fill
from opsq.events.cluster import Cluster, Limits
from opsq.events.store import MemoryStore
from opsq.wire.event import parse_events
from opsq.wire.jsonext import dumps_json

EARLY = 20_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--pool", default="threads", choices=sorted(DEFAULT_SLOTS))
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument(
        "--live", type=int, default=0, metavar="N", help="measure the monitor with N live tasks instead"
    )
    parser.add_argument("--emitter", choices=("opsq", "celery"), default="opsq", help="whose events, with --live")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return both figures and their ratio."""
    if options.live:
        return live(options.live, options.emitter)
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


def live(tasks: int, emitter: str) -> dict[str, Any]:
    """Fold the first three events of many tasks; what the process then holds more, by its resident memory."""
    dice = random.Random(1)
    cluster = Cluster(MemoryStore(), Limits(live_bytes=2**40))
    warm = [one for number in range(1000) for one in fold.life(number, fold.T0, emitter, dice)[:3]]
    _feed(cluster, warm)
    gc.collect()
    before = site.rss_mb([psutil.Process()])
    for start in range(1000, 1000 + tasks, 1000):
        _feed(cluster, [one for n in range(start, start + 1000) for one in fold.life(n, fold.T0, emitter, dice)[:3]])
    gc.collect()
    held = (site.rss_mb([psutil.Process()]) - before) * 1e6
    return {
        "system": "opsq", "what": "live tasks", "emitter": emitter, "tasks": tasks, "held_mb": round(held / 1e6, 1),
        "bytes_per_task": round(held / tasks), "counted_bytes_per_task": round(cluster.live.bytes / len(cluster.live)),
    }  # fmt: skip


def _feed(cluster: Cluster, events: list[dict[str, Any]]) -> None:
    cluster.apply(parse_events(dumps_json(events)), fold.T0 + 1)
    cluster.take()  # as if written: what is left is what stays in memory
    cluster.written()
