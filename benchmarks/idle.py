"""What a worker costs that has nothing to do: share of one core, and memory."""

from __future__ import annotations

import argparse
import time
from typing import Any

import psutil

from benchmarks import site
from benchmarks.filling import DEFAULT_SLOTS

SETTLE_S = 5.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--pool", default="threads", choices=sorted(DEFAULT_SLOTS))
    parser.add_argument("--seconds", type=float, default=20.0)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Watch an idle worker and return its cost."""
    with site.site(options.broker, options.pool, DEFAULT_SLOTS[options.pool], 1) as place, place.worker() as process:
        time.sleep(SETTLE_S)
        processes = site.family(process)
        before, started = _cpu_s(processes), time.monotonic()
        time.sleep(options.seconds)
        used, passed = _cpu_s(processes) - before, time.monotonic() - started
        rss = site.rss_mb(processes)
    return {
        "system": "opsq", "broker": options.broker, "pool": options.pool, "processes": len(processes),
        "cpu_share": round(used / passed, 5), "rss_mb": rss,
    }  # fmt: skip


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
