"""A task that only computes: a prefork worker with two slots against two bare processes doing the same.

share = seconds of the bare processes / seconds of the worker, first start to last end, the median over
rounds that are measured in turns, so that a busy machine disturbs both alike. What else runs on the machine
only ever adds time, so ``best_share``, the quotient of the shortest rounds, is the less disturbed figure.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import site
from benchmarks.filling import fill

SLOTS = 2
SECONDS_PER_TASK = 0.02
"""Short on purpose: what lies between two tasks of a slot, about a millisecond, then counts most."""


def spin(turns: int) -> int:
    """Compute and nothing else."""
    total = 0
    for number in range(turns):
        total += number * number & 0xFF
    return total


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--broker", default="sqlite")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--task-ms", type=float, default=SECONDS_PER_TASK * 1e3, help="how long a task computes")
    parser.add_argument("--rounds", type=int, default=5)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds and return the share."""
    turns = _turns(options.task_ms / 1e3)
    rounds = [
        (_bare(options.tasks, turns), _worker(options.broker, options.tasks, turns)) for _ in range(options.rounds)
    ]
    shares = [bare / worker for bare, worker in rounds]
    return {
        "system": "opsq", "broker": options.broker, "pool": "prefork", "slots": SLOTS, "tasks": options.tasks,
        "task_ms": options.task_ms, "rounds": options.rounds,
        "bare_s": round(statistics.median(bare for bare, _ in rounds), 3),
        "worker_s": round(statistics.median(worker for _, worker in rounds), 3),
        "share": round(statistics.median(shares), 4),
        "best_share": round(min(bare for bare, _ in rounds) / min(worker for _, worker in rounds), 4),
        "shares": [round(each, 3) for each in shares],
    }  # fmt: skip


def _turns(seconds: float) -> int:
    """How many turns take as long as one task is to take."""
    turns = 100_000
    begun = time.perf_counter()
    spin(turns)
    return int(turns * seconds / (time.perf_counter() - begun))


def _bare(tasks: int, turns: int) -> float:
    program = (
        "import sys, time; from benchmarks.cpu import spin; print('ready', flush=True); sys.stdin.readline(); "
        f"t = time.time(); [spin({turns}) for _ in range({tasks // SLOTS})]; print(t, time.time())"
    )
    command = [sys.executable, "-c", program]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(SLOTS)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    spans = [tuple(map(float, process.communicate()[0].split())) for process in processes]
    return max(end for _, end in spans) - min(start for start, _ in spans)


def _worker(broker: str, tasks: int, turns: int) -> float:
    """Measure in a process of its own: the board belongs to the site of one run."""
    program = (
        "import argparse, json; from benchmarks import cpu; "
        f"print(json.dumps(cpu.one_worker_run({broker!r}, {tasks}, {turns})))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise site.CannotMeasure(f"the worker's round ended with exit code {done.returncode}")
    return float(done.stdout.splitlines()[-1])


def one_worker_run(broker: str, tasks: int, turns: int) -> float:
    """Run ``tasks`` spins in a worker; the seconds from the first start to the last end."""
    with site.site(broker, "prefork", SLOTS, tasks) as place:
        from benchmarks.workload import app, board, compute

        fill(app, compute, tasks, turns)
        with place.worker() as process:
            place.wait_until_done(board, process)
        app.close()
        first, last = board.span()
    return last - first
