"""Autoscaling with real workers: a step of load, tasks that only compute (Celery's autoscaler beside), memory, a gauge.

Every part starts workers as people start them and looks at their processes from outside.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import site
from benchmarks.cpu import spin
from benchmarks.filling import fill

PARTS: Final = ("step", "cpu", "memory", "gauge")
#: The load of a step in tasks per second of NAP_S each: one slot, twenty, one.
LOW, HIGH, NAP_S = 2.0, 40.0, 0.5
BEFORE_S, DURING_S, AFTER_S = 8.0, 15.0, 25.0
HOLD_S: Final = 5.0
COMPUTE_S: Final = 0.05
LOOK_S: Final = 0.05
MOST: Final = 32
MEMORY_ROOM: Final = 60_000_000
"""Bytes beyond what the worker has at rest, in the part that is short of memory."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--broker", default="redis,sqlite", help="of the step, by comma")
    parser.add_argument("--tasks", type=int, default=300, help="of the part that computes")
    parser.add_argument("--without-celery", action="store_true")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the parts, each in processes of its own."""
    found: dict[str, Any] = {"system": "opsq", "parts": options.parts}
    for part in options.parts:
        if part == "step":
            found |= {f"step_{broker}": _own(f"step({broker!r})") for broker in options.broker.split(",")}
        elif part == "cpu":
            found["cpu"] = _cpu(options.tasks, beside=not options.without_celery)
        else:
            found[part] = _own(f"{part}()")
    return found


def _own(call: str) -> Any:
    """Run one measurement of this module in a process of its own: the board belongs to the site of one run."""
    program = f"import json; from benchmarks import autoscale_live; print(json.dumps(autoscale_live.{call}))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise site.CannotMeasure(f"{call} ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


@dataclass
class Watch:
    """Looks at a worker's family: (time, children, bytes) again and again. slots: counts the children of a family."""

    process: subprocess.Popen[bytes]
    is_slot: Callable[[psutil.Process], bool]
    seen: list[tuple[float, int, int]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look until stopped. Thread: its own."""
        while not self._stop.wait(LOOK_S):
            slots = size = 0
            for one in _family(self.process):
                try:
                    slots += self.is_slot(one)
                    size += one.memory_info().rss
                except psutil.Error:
                    continue
            self.seen.append((time.time(), slots, size))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look for the length of the block."""
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def most(self, since: float = 0.0) -> int:
        """Most slots at once."""
        return max((slots for at, slots, _ in self.seen if at >= since), default=0)

    def peak_mb(self) -> float:
        """Most resident memory of the family, in MB."""
        return round(max((size for _, _, size in self.seen), default=0) / 1e6, 1)

    def first_at_least(self, slots: int, since: float) -> float | None:
        """Seconds after ``since`` until there were so many slots."""
        return next((round(at - since, 2) for at, there, _ in self.seen if at >= since and there >= slots), None)

    def last_above(self, slots: int, since: float) -> float:
        """Seconds after ``since`` at which there were more slots for the last time."""
        return round(max((at - since for at, there, _ in self.seen if at >= since and there > slots), default=0.0), 2)


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return site.family(process)
    except psutil.Error:
        return []


def opsq_slot(process: psutil.Process) -> bool:
    """Whether it is a child that runs tasks."""
    return process.name().startswith("opsq-child")


def step(broker: str) -> dict[str, Any]:
    """Load for one slot, for twenty, and for one again: how soon the pool follows."""
    tasks = round(LOW * BEFORE_S + HIGH * DURING_S + LOW * AFTER_S)
    with site.site(broker, "prefork", 1, tasks) as place:
        from benchmarks.workload import app, board, nap

        with place.worker(f"--autoscale={MOST},1") as process:
            watch = Watch(process, opsq_slot)
            with watch.looking():
                time.sleep(2.0)
                sent: list[float] = []
                for rate, seconds in ((LOW, BEFORE_S), (HIGH, DURING_S), (LOW, AFTER_S)):
                    _feed(sent, rate, seconds, lambda row: nap.delay(row, NAP_S))
            place.wait_until_done(board, process)
        app.close()
    up_at = sent[round(LOW * BEFORE_S)]
    down_at = sent[round(LOW * BEFORE_S + HIGH * DURING_S)]
    before = max((slots for at, slots, _ in watch.seen if up_at - 1 <= at < up_at), default=1)
    need = round(LOW * NAP_S) + 2
    waits = [started - at for at, started in zip(sent, board.starts(0, tasks), strict=True)]
    return {
        "broker": broker, "tasks": tasks, "most_slots": watch.most(),
        "first_slot_s": watch.first_at_least(before + 1, up_at),
        "twenty_slots_s": watch.first_at_least(round(HIGH * NAP_S), up_at),
        "back_s": watch.last_above(need, down_at), "back_bound_s": 2 * HOLD_S + NAP_S,
        "wait_p95_s": round(statistics.quantiles(waits, n=20)[-1], 2), "wait_most_s": round(max(waits), 2),
        "late_of_5_s": round(sum(wait > 5.0 for wait in waits) / tasks, 4),
    }  # fmt: skip


def _feed(sent: list[float], rate: float, seconds: float, send: Callable[[int], Any]) -> None:
    began = time.monotonic()
    for number in range(round(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        sent.append(time.time())
        send(len(sent) - 1)


def _cpu(tasks: int, *, beside: bool) -> dict[str, Any]:
    turns = _turns()
    fixed, scaled = (
        _own(f"compute({tasks}, {turns}, {words!r})") for words in (["-c", "2"], [f"--autoscale={MOST},1"])
    )
    found = {"task_s": COMPUTE_S, "tasks": tasks, "opsq_c2": fixed, "opsq_autoscale": scaled}
    found |= {f"opsq_{key}": value for key, value in _ratios(fixed, scaled).items()}
    if beside and Path(".venv-peers/bin/python").exists():
        fixed, scaled = (
            _own(f"celery({tasks}, {turns}, {words!r})") for words in (["-c", "2"], [f"--autoscale={MOST},1"])
        )
        found |= {"celery_c2": fixed, "celery_autoscale": scaled}
        found |= {f"celery_{key}": value for key, value in _ratios(fixed, scaled).items()}
    return found


def _ratios(fixed: dict[str, Any], scaled: dict[str, Any]) -> dict[str, float]:
    return {
        "memory_ratio": round(scaled["peak_mb"] / fixed["peak_mb"], 2),
        "throughput_ratio": round(scaled["per_second"] / fixed["per_second"], 3),
        "task_time_ratio": round(scaled["task_p50_ms"] / fixed["task_p50_ms"], 2),
    }


def _turns() -> int:
    best = min(_timed(200_000) for _ in range(3))
    return int(200_000 * COMPUTE_S / best)


def _timed(turns: int) -> float:
    began = time.perf_counter()
    spin(turns)
    return time.perf_counter() - began


def compute(tasks: int, turns: int, words: Sequence[str]) -> dict[str, Any]:
    """So many tasks at once that only compute, in an opsq worker with these options."""
    with site.site("redis", "prefork", 2, tasks) as place:
        from benchmarks.workload import app, board
        from benchmarks.workload import compute as task

        with place.worker(*words) as process:
            watch = Watch(process, opsq_slot)
            with watch.looking():
                time.sleep(2.0)
                began = time.time()
                fill(app, task, tasks, turns)
                place.wait_until_done(board, process)
        app.close()
        return _computed(board, watch, began, tasks)


def celery(tasks: int, turns: int, words: Sequence[str]) -> dict[str, Any]:
    """The same in a Celery worker."""
    with site.site("redis", "prefork", 2, tasks) as place:
        from benchmarks.board import Board

        board = Board(place.board_path, tasks)
        settings = {"BENCH_BROKER": "redis", "BENCH_BROKER_URL": place.settings["OPSQ_BROKER_URL"], "BENCH_SLOTS": "2"}
        environment = place.environment() | settings
        python = os.path.abspath(".venv-peers/bin/python")
        command = [python, "-m", "celery", "-A", "benchmarks.peers.celery_scale", "worker", "-l", "WARNING", *words]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        try:
            watch = Watch(process, lambda one: one.pid != process.pid)
            with watch.looking():
                time.sleep(4.0)
                began = time.time()
                program = (
                    "from benchmarks.peers.celery_scale import app; "
                    f"[app.tasks['compute'].delay(row, {turns}) for row in range({tasks})]"
                )
                subprocess.run([python, "-c", program], env=environment, check=True)
                place.wait_until_done(board, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        return _computed(board, watch, began, tasks)


def _computed(board: Any, watch: Watch, began: float, tasks: int) -> dict[str, Any]:
    first, last = board.span()
    times = sorted(board.lengths())
    return {
        "per_second": round(tasks / (last - first), 1), "from_sending_s": round(last - began, 2),
        "most_slots": watch.most(), "peak_mb": watch.peak_mb(),
        "task_p50_ms": round(1e3 * times[len(times) // 2], 1),
        "task_p95_ms": round(1e3 * times[int(0.95 * len(times))], 1),
    }  # fmt: skip


def memory() -> dict[str, Any]:
    """A load that wants many slots in little memory: the guard holds, and nothing is killed."""
    tasks = 120
    with site.site("redis", "prefork", 1, tasks) as place:
        from benchmarks.workload import app, board, nap

        with place.worker("-c", "1") as process:
            time.sleep(4.0)  # so long that it can be told to end
            rest = sum(one.memory_full_info().pss for one in site.family(process))
        limit = int((rest + MEMORY_ROOM) / 0.8)
        with place.worker(f"--autoscale={MOST},1", "--set", f"autoscale_memory_limit={limit}") as process:
            watch = Watch(process, opsq_slot)
            with watch.looking():
                time.sleep(2.0)
                fill(app, nap, tasks, 1.0)
                place.wait_until_done(board, process)
                used = sum(one.memory_full_info().pss for one in site.family(process))
        app.close()
    return {
        "limit_mb": round(limit / 1e6, 1), "used_mb": round(used / 1e6, 1), "most_slots": watch.most(),
        "ran": board.distinct(), "twice": board.executed() - board.distinct(),
    }  # fmt: skip


def gauge() -> dict[str, Any]:
    """A measure of the user's own, up and down: how soon the pool follows it."""
    with site.site("sqlite", "prefork", 1, 1) as place:
        measure_file = place.folder / "measure"
        measure_file.write_text("1")
        os.environ["BENCH_MEASURE"] = str(measure_file)
        words = ("--set", "autoscale_signal=benchmarks.measure:read", "--set", "autoscale_signal_per_slot=10")
        with place.worker(f"--autoscale={MOST},1", *words) as process:
            watch = Watch(process, opsq_slot)
            with watch.looking():
                time.sleep(3.0)
                up_at = _tell(measure_file, "80")
                time.sleep(5.0)
                down_at = _tell(measure_file, "20")
                time.sleep(2 * HOLD_S + 5.0)
    return {
        "up_to_8_s": watch.first_at_least(8, up_at), "down_to_2_s": watch.last_above(2, down_at),
        "most_slots": watch.most(), "at_the_end": watch.seen[-1][1],
    }  # fmt: skip


def _tell(file: Path, text: str) -> float:
    file.write_text(text)
    return time.time()
