"""SQLite broker, prefork worker, SIGKILL: nothing is lost, nobody stays behind, the file is whole.

Run alone for the figures: ``python tests/chaos/test_sqlite_kills.py --tasks 10000 --kills 20``; the
last line is one JSON object. In ``make test`` a short run, in ``make chaos`` the full one.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from ledger import Ledger  # noqa: E402  a sibling, and this file is also run as a script

from tests.promises import within  # noqa: E402

CONCURRENCY = 8
ORPHANS_MAX_S = within(2.0)


class Run:
    """One run of the experiment in ``folder``."""

    def __init__(self, folder: Path, tasks: int, kills: int, seed: int) -> None:
        self.folder = folder
        self.tasks = tasks
        self.kills = kills
        self.random = random.Random(seed)
        self.path = folder / "ledger"
        self.data = folder / "data"
        self.log = folder / "worker.log"
        self.orphans: list[str] = []
        self.gone_after_s: list[float] = []
        self.misses = 0
        self._log_from = 0
        self._offset = 0
        self._tail = ""
        self._open: set[tuple[str, str]] = set()
        self._done: set[str] = set()

    def go(self) -> dict[str, Any]:
        """Publish, kill, restart, wait, check; returns the figures."""
        begun = time.monotonic()
        self._publish()
        worker = self._start_worker()
        hits = 0
        while hits < self.kills:
            self._wait_for_work(len(self._done) + self._stride(hits))
            hits += self._kill(worker)
            worker = self._start_worker()
        self._until(lambda: len(self._done) == self.tasks, "every task", 90.0)
        # All may be done before the last worker is up: it would not hear the signal yet.
        self._until(self._drained, "a worker that has nothing to do", 90.0)
        worker.send_signal(signal.SIGTERM)
        exit_code = worker.wait(60)
        return self._figures(exit_code, time.monotonic() - begun)

    def _publish(self) -> None:
        program = (
            "import kill_app, sys, json\n"
            "calls = json.load(sys.stdin)\n"
            "kill_app.app.send_many([('kill_app.work', tuple(call), {}, {}) for call in calls])\n"
            "kill_app.app.close()\n"
        )
        calls = [(number, self.random.uniform(5, 20)) for number in range(self.tasks)]
        done = subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(calls), cwd=HERE, env=self._env(), text=True, check=False
        )
        assert done.returncode == 0, "publishing failed"
        with self.path.open("a") as file:
            file.write("".join(f"C {number}\n" for number in range(self.tasks)))

    def _env(self) -> dict[str, str]:
        root = str(HERE.parent.parent)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPSQ_")}
        return inherited | {
            "LEDGER": str(self.path),
            "OPSQ_DATA_DIR": str(self.data),
            "PYTHONPATH": os.pathsep.join([root, str(HERE)]),
        }

    def _start_worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "opsq", "worker", "-A", "kill_app", "-c", str(CONCURRENCY), "-P", "prefork"]
        with self.log.open("ab") as log:
            self._log_from = log.tell()
            return subprocess.Popen(command, cwd=HERE, env=self._env(), stdout=log, stderr=log)

    def _drained(self) -> bool:
        """Whether the worker is up and nothing that a dead one held is left for it."""
        return b"ready" in self.log.read_bytes()[self._log_from :]

    def _stride(self, hits: int) -> int:
        """How many more tasks are to end before the next kill, so that the kills spread over the run."""
        even = (self.tasks - len(self._done)) / (self.kills - hits + 1)
        return max(1, int(even * self.random.uniform(0.5, 1.1)))

    def _wait_for_work(self, done: int) -> None:
        """Wait until so many tasks have ended and at least one runs."""
        self._until(lambda: len(self._done) >= min(done, self.tasks - 1) and bool(self._open), "running tasks", 60.0)

    def _kill(self, worker: subprocess.Popen[bytes]) -> bool:
        """Kill the main process; says whether that interrupted a task."""
        family = psutil.Process(worker.pid).children(recursive=True)
        before = time.time()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        killed = time.monotonic()
        left = self._wait_gone(family)
        self.gone_after_s.append(time.monotonic() - killed)
        self.orphans += [f"{process.pid} {process.status()}" for process in left]
        self._look()
        interrupted = len(self._open)
        self._open.clear()
        with self.path.open("a") as file:
            file.write(f"F kill {before:.6f} {time.time():.6f}\n")
        if not interrupted:
            self.misses += 1
        return interrupted > 0

    def _wait_gone(self, family: list[psutil.Process]) -> list[psutil.Process]:
        """Wait until nothing of ``family`` runs; a zombie is dead, who reaps it is not our business."""
        pause = threading.Event()
        until = time.monotonic() + ORPHANS_MAX_S
        while True:
            family = [process for process in family if _runs(process)]
            if not family or time.monotonic() > until:
                return family
            pause.wait(0.002)

    def _until(self, met: Callable[[], bool], what: str, within_s: float) -> None:
        pause = threading.Event()
        until = time.monotonic() + within_s
        while True:
            self._look()
            if met():
                return
            if time.monotonic() > until:
                tail = self.log.read_text()[-3000:]
                raise AssertionError(f"{what} did not come within {within_s} s; {len(self._done)} done\n{tail}")
            pause.wait(0.002)

    def _look(self) -> None:
        """Read what was added to the ledger."""
        with self.path.open() as file:
            file.seek(self._offset)
            text = self._tail + file.read()
            self._offset = file.tell()
        *lines, self._tail = text.split("\n")
        for line in lines:
            kind, _, rest = line.partition(" ")
            if kind in ("S", "D"):
                id, pid, _ = rest.split()
                if kind == "S":
                    self._open.add((id, pid))
                else:
                    self._open.discard((id, pid))
                    self._done.add(id)

    def _figures(self, exit_code: int, seconds: float) -> dict[str, Any]:
        ledger = Ledger.read(self.path)
        started = ledger.times_started()
        with sqlite3.connect(self.data / "broker.db") as database:
            integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
        database.close()
        return {
            "tasks": self.tasks,
            "kills": len(ledger.faults),
            "kills_that_hit": len(ledger.faults) - self.misses,
            "executed": len(ledger.done),
            "lost": self.tasks - len(ledger.done),
            "started_twice": sum(count > 1 for count in started.values()),
            "most_starts_of_one": max(started.values()),
            "unended_runs": len(ledger.unended()),
            "violations": ledger.violations()[:20],
            "orphans": self.orphans,
            "family_gone_after_s_max": round(max(self.gone_after_s, default=0.0), 3),
            "restart_to_first_task_s": self._restarts(ledger),
            "exit_code": exit_code,
            "integrity": integrity,
            "seconds": round(seconds, 1),
        }

    def _restarts(self, ledger: Ledger) -> dict[str, float]:
        """Median and maximum of the seconds between a kill and the next start of a task."""
        starts = sorted(at for _, _, at in ledger.starts)
        firsts = [(fault, bisect.bisect_right(starts, fault.ended)) for fault in ledger.faults]
        waits = sorted(starts[place] - fault.began for fault, place in firsts if place < len(starts))
        return {"median": round(waits[len(waits) // 2], 2), "max": round(waits[-1], 2)} if waits else {}


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def check(figures: dict[str, Any], kills: int) -> list[str]:
    """Say what of acceptance 4 is not met."""
    wrong = []
    if figures["lost"] or figures["violations"]:
        wrong.append(f"lost {figures['lost']}, violations {figures['violations'][:5]}")
    if figures["kills_that_hit"] < kills:
        wrong.append(f"only {figures['kills_that_hit']} kills interrupted a task")
    if figures["started_twice"] < kills:
        wrong.append(f"only {figures['started_twice']} ids started twice: did the kills hit?")
    if figures["orphans"]:
        wrong.append(f"orphans {ORPHANS_MAX_S} s after a kill: {figures['orphans']}")
    if figures["integrity"] != "ok":
        wrong.append(f"the database says {figures['integrity']}")
    if figures["exit_code"] != 0:
        wrong.append(f"the last worker ended with exit code {figures['exit_code']}")
    return wrong


def test_sigkill_of_the_worker_loses_nothing(tmp_path: Path) -> None:
    full = os.environ.get("CHAOS") == "full"
    tasks, kills = (10_000, 20) if full else (1_500, 4)
    figures = Run(tmp_path, tasks, kills, seed=int(os.environ.get("CHAOS_SEED", "1"))).go()
    assert not check(figures, kills), json.dumps(figures, indent=1)


def main() -> int:
    """Run the experiment and print its figures."""
    parser = argparse.ArgumentParser(description="SIGKILL a worker on SQLite again and again.")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = Run(Path(folder), options.tasks, options.kills, options.seed).go()
    wrong = check(figures, options.kills)
    print(json.dumps(figures | {"seed": options.seed, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
