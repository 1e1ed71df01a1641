"""A prefork worker process of ``prefork_app`` with its ledger, for the tests beside this file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from opsq import Opsq

HERE = Path(__file__).parent


class PreforkWorker:
    """One folder, one app, one worker. wrap: words put before the worker's command."""

    def __init__(self, folder: Path, *options: str, slots: int = 2, wrap: Sequence[str] = ()) -> None:
        self.folder = folder
        self.ledger = folder / "ledger"
        self.log = folder / "worker.log"
        self.slots = slots
        self.app = Opsq("prefork_app", data_dir=str(folder / "data"), set_as_current=False)
        command = [sys.executable, "-m", "opsq", "worker", "-A", "prefork_app", "-c", str(slots), "-P", "prefork"]
        self._log = self.log.open("ab")
        self.process = subprocess.Popen(
            [*wrap, *command, *options], cwd=HERE, env=self.env(), stdout=self._log, stderr=self._log
        )

    def env(self) -> dict[str, str]:
        """The environment of the worker and of commands beside it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPSQ_")}
        return inherited | {
            "LEDGER": str(self.ledger),
            "OPSQ_DATA_DIR": str(self.folder / "data"),
            "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)]),
        }

    def call(self, name: str, *args: Any) -> Any:
        """Send one task."""
        return self.app.send_task(f"prefork_app.{name}", args)

    def send_small(self, count: int, kib: int = 0) -> None:
        """Send ``count`` of the small task, in batches."""
        for begin in range(0, count, 1_000):
            names = range(begin, min(begin + 1_000, count))
            self.app.send_many([self.app.signature("prefork_app.small", args=(number, kib)) for number in names])

    def lines(self, kind: str, number: str | None = None) -> list[tuple[str, int, float]]:
        """(id, pid, epoch seconds) of the lines of ``kind``, of one id or of all."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        found = [line.split() for line in text.splitlines() if line.startswith(f"{kind} ")]
        return [(id, int(pid), float(at)) for _, id, pid, at in found if number in (None, id)]

    def children(self) -> list[psutil.Process]:
        """The living child processes that run tasks."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if process.name().startswith("opsq-child") and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def until(self, met: Callable[[], Any], what: str, within_s: float = 60.0) -> Any:
        """Ask until it is true; returns the answer."""
        pause, deadline = threading.Event(), time.monotonic() + within_s
        while True:
            value = met()
            if value:
                return value
            assert self.process.poll() is None, f"the worker ended:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{what} did not come in {within_s} s:\n{self.log.read_text()[-3000:]}"
            pause.wait(0.005)

    def command(self, *words: str) -> dict[str, Any]:
        """Run an ``opsq`` command with --json; its answer."""
        done = subprocess.run(
            [sys.executable, "-m", "opsq", *words, "--json"], env=self.env(), cwd=HERE, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.close()
        return code

    def close(self) -> None:
        """End whatever is left. Harmless twice."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._log.close()
        self.app.close()
