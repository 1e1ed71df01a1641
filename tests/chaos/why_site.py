"""A broker with a monitor, workers of ``why_app``, and the two ways to ask why a task waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import urlopen

from opsq import Opsq
from tests.promises import within
from tests.servers import free_port

HERE = Path(__file__).resolve().parent
PATIENCE_S = 60.0
#: Within this the right cause has to be told. Source: issue 6, acceptance 7.
BOUND_S = within(15.0)


class WhySite:
    """Processes around one broker. Thread: the test's."""

    def __init__(self, broker: str, folder: Path) -> None:
        self.broker = broker
        self.app = Opsq("client", broker=broker, task_ignore_result=True, set_as_current=False)
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._port = free_port()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPSQ_")}
        self._environment = {
            **inherited,
            "OPSQ_BROKER_URL": broker,
            "OPSQ_DATA_DIR": str(folder / "data"),
            "OPSQ_TASK_IGNORE_RESULT": "true",
            "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)]),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.app.close()
        for process in self._processes.values():
            process.kill()  # what runs there would keep a warm shutdown waiting
        for process in self._processes.values():
            process.wait()

    def worker(self, name: str, queue: str, *, slots: int = 1) -> None:
        """Start a worker of one queue; it holds as many tasks ready as it has slots."""
        pool = ("-P", "threads", "-c", str(slots), "-n", f"{name}@here", "-Q", queue)
        self._start(name, "worker", "-A", "why_app", *pool, "--set", "worker_prefetch_multiplier=2")

    def monitor(self) -> None:
        """Start a monitor."""
        self._start("monitor", "monitor", "--port", str(self._port))

    def up(self, *names: str) -> None:
        """Wait until the monitor answers and has heard these workers take from their queues."""

        def heard() -> bool:
            listed = (self.read("/api/v1/workers") or {"workers": ()})["workers"]
            return {f"{name}@here" for name in names} <= {each["name"] for each in listed if each["queues"]}

        self.until(f"{names} on the page", heard)

    def kill(self, name: str) -> None:
        """End a process at once."""
        self._processes[name].kill()
        self._processes[name].wait()

    def send(self, queue: str, *args: Any, task: str = "why_app.nap", **options: Any) -> str:
        """Publish a task; its id."""
        return str(self.app.send_task(task, args, queue=queue, **options).id)

    def until(self, what: str, met: Any, within_s: float = PATIENCE_S) -> Any:
        """Wait for something to hold."""
        deadline, pause = time.monotonic() + within_s, threading.Event()
        while not (found := met()):
            for name, process in self._processes.items():
                assert process.poll() in (None, -signal.SIGKILL), f"{name} ended:\n{self.logs()}"
            assert time.monotonic() < deadline, f"{what} did not come within {within_s:g} s\n{self.logs()}"
            pause.wait(0.05)
        return found

    def explained(self, id: str, cause: str, within_s: float = BOUND_S) -> tuple[Mapping[str, Any], float]:
        """Ask the monitor until it tells this cause; its answer, and after how many seconds."""
        began, seen = time.monotonic(), ""

        def told() -> Any:
            nonlocal seen
            answer = self.read(f"/api/v1/tasks/{quote(id)}/why")
            if answer is None:
                return None
            seen = f"{answer['cause']!r}: {answer['sentence']} {answer['lacks']}"
            return answer if answer["cause"] == cause else None

        try:
            answer = self.until(f"the cause {cause}", told, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast told: {seen}") from None
        return answer, time.monotonic() - began

    def asked(self, id: str, *words: str) -> tuple[Mapping[str, Any], int]:
        """What ``opsq why --json`` says, and its exit code."""
        command = [sys.executable, "-m", "opsq", "why", id, "--json", *words]
        done = subprocess.run(
            command, cwd=HERE, env=self._environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.stdout, done.stderr
        answer: Mapping[str, Any] = json.loads(done.stdout)
        return answer, done.returncode

    def read(self, path: str) -> Any:
        """The JSON of the monitor, None while there is none."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
                return json.load(answer)
        except (HTTPError, URLError, ConnectionError, TimeoutError):
            return None

    def logs(self) -> str:
        """The end of what every process said."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in self._folder.glob("*.log"))

    def _start(self, name: str, *words: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            command: Sequence[str] = [sys.executable, "-m", "opsq", *words, "-l", "WARNING"]
            self._processes[name] = subprocess.Popen(command, cwd=HERE, env=self._environment, stdout=log, stderr=log)
