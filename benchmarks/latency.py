"""Round trip: one task at a time, ``delay().get()``, the result stored and fetched."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from benchmarks import site
from benchmarks.filling import DEFAULT_SLOTS

WARM_UP = 200


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--pool", default="threads", choices=sorted(DEFAULT_SLOTS))
    parser.add_argument("--tasks", type=int, default=2_000)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the percentiles."""
    slots = DEFAULT_SLOTS[options.pool]
    with site.site(options.broker, options.pool, slots, 1) as place:
        from benchmarks.workload import add, app

        with place.worker():
            for number in range(WARM_UP):
                add.delay(number, 1).get(timeout=30)
            taken_ms = sorted(_round_trip_ms(add, number) for number in range(options.tasks))
        app.close()
    cuts = statistics.quantiles(taken_ms, n=100)
    return {
        "system": "opsq", "broker": options.broker, "pool": options.pool, "tasks": options.tasks,
        "p50_ms": round(cuts[49], 3), "p95_ms": round(cuts[94], 3), "p99_ms": round(cuts[98], 3),
    }  # fmt: skip


def _round_trip_ms(add: Any, number: int) -> float:
    started = time.perf_counter()
    answer = add.delay(number, 1).get(timeout=30)
    taken = (time.perf_counter() - started) * 1e3
    if answer != number + 1:
        raise site.CannotMeasure(f"add({number}, 1) answered {answer!r}")
    return taken
