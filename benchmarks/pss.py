"""Memory of a prefork worker with eight slots against one process that does the same alone.

pss_ratio = proportional set size of the whole family (main process, fork server, children) / that of a
solo worker, both after the same tasks. Shared pages count once, divided by those who share them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

from benchmarks import site
from benchmarks.filling import fill

SLOTS = 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--tasks", type=int, default=4_000)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run both and return the ratio."""
    one = _in_its_own_process(options, "solo", 1)
    many = _in_its_own_process(options, "prefork", SLOTS)
    return {
        "system": "opsq", "broker": options.broker, "pool": "prefork", "slots": SLOTS, "tasks": options.tasks,
        "one_process_mb": round(one, 1), "pss_mb": round(many, 1), "pss_ratio": round(many / one, 3),
    }  # fmt: skip


def _in_its_own_process(options: argparse.Namespace, pool: str, slots: int) -> float:
    """Measure in a process of its own: the board belongs to the site of one run."""
    program = (
        f"from benchmarks import pss; print(pss.family_pss_mb({options.broker!r}, {pool!r}, {slots}, {options.tasks}))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise site.CannotMeasure(f"the {pool} worker's run ended with exit code {done.returncode}")
    return float(done.stdout.splitlines()[-1])


def family_pss_mb(broker: str, pool: str, slots: int, tasks: int) -> float:
    """Run ``tasks`` no-ops in a worker and weigh it and its descendants, in MB."""
    with site.site(broker, pool, slots, tasks) as place:
        from benchmarks.workload import app, board, noop

        fill(app, noop, tasks)
        with place.worker() as process:
            place.wait_until_done(board, process)
            total = sum(each.memory_full_info().pss for each in site.family(process))
        app.close()
    return float(total) / 1e6
