"""A broker's users under fire: workers of ``kill_app`` in processes, and the ledger that their tasks write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from opsq import Opsq
from tests.chaos.ledger import Ledger

HERE = Path(__file__).resolve().parent
PATIENCE_S = 60.0


class Site:
    """Workers of one queue on ``broker``. environment: of every worker, beside what they need anyway."""

    def __init__(self, broker: str, folder: Path, **environment: str) -> None:
        self.broker = broker
        self.queue = f"site-{uuid4().hex[:8]}"
        self.path = folder / "ledger"
        self._folder = folder
        self._environment = environment
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def app(self, broker: Any = None, **settings: Any) -> Opsq:
        """A client of it."""
        names: dict[str, Any] = {"task_default_queue": self.queue, "task_ignore_result": True, **settings}
        return Opsq("client", broker=broker or self.broker, **names)

    def worker(self, name: str, *, broker: str = "", pool: str = "threads", slots: int = 4) -> subprocess.Popen[bytes]:
        """Start one. broker: as it sees it, through a proxy for example."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPSQ_")}
        environment = {
            **inherited,
            "LEDGER": str(self.path),
            "OPSQ_BROKER_URL": broker or self.broker,
            "OPSQ_DATA_DIR": str(self._folder / "data"),
            "OPSQ_TASK_IGNORE_RESULT": "true",
            "OPSQ_TASK_DEFAULT_QUEUE": self.queue,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)]),
            **self._environment,
        }
        command = [*(sys.executable, "-m", "opsq", "worker", "-A", "kill_app"), *("-P", pool, "-c", str(slots))]
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*command, "-n", name], cwd=HERE, env=environment, stdout=log, stderr=log)
        self._running.append(process)
        return process

    def note(self, line: str) -> None:
        """Add a line to the ledger. Thread: any."""
        ledger = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
        try:
            os.write(ledger, f"{line}\n".encode())
        finally:
            os.close(ledger)

    def fault(self, name: str, began: float) -> float:
        """Note a fault that has ended now; when that is."""
        now = time.time()
        self.note(f"F {name} {began:.6f} {now:.6f}")
        return now

    def call(self, numbers: range, milliseconds: float) -> None:
        """Publish so many tasks."""
        app = self.app()
        app.send_many([("kill_app.work", (number, milliseconds), {}, {}) for number in numbers])
        app.close()
        self.note("\n".join(f"C {number}" for number in numbers))

    def ledger(self) -> Ledger:
        """What happened until now; a line that is being written is left out."""
        text = self.path.read_text() if self.path.exists() else ""
        return Ledger.of(text[: text.rfind("\n") + 1].splitlines())

    def until(self, what: str, met: Callable[[], Any], within_s: float = PATIENCE_S) -> float:
        """Wait for it; the seconds it took."""
        begun, pause = time.monotonic(), threading.Event()
        while not met():
            if time.monotonic() - begun > within_s:
                raise AssertionError(f"{what} did not come within {within_s:g} s\n{self.logs()}")
            pause.wait(0.02)
        return time.monotonic() - begun

    def first_start_after(self, at: float) -> float:
        """Seconds from ``at`` (epoch) to the next task that begins."""
        self.until("the next task", lambda: any(begun > at for _, _, begun in self.ledger().starts))
        return min(begun for _, _, begun in self.ledger().starts if begun > at) - at

    def logs(self) -> str:
        """The end of what every worker said."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in self._folder.glob("*.log"))

    def close(self) -> None:
        """End everything."""
        for process in self._running:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
