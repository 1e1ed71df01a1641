"""A worker on RabbitMQ, as people start it: events, results, a killed main process, a restarted broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from opsq import Opsq
from opsq.broker.connection import BrokerConnection
from opsq.broker.topology import event_queue
from opsq.testing.broker_reader import Reader
from tests.promises import within
from tests.rabbitmq import RabbitServer

HERE = Path(__file__).resolve().parent
CALLS = 40
PATIENCE_S = 60.0


class Fleet:
    """Workers of one queue, and the ledger their tasks write."""

    def __init__(self, url: str, folder: Path) -> None:
        self.queue = f"fleet-{uuid4().hex[:8]}"
        self.ledger = folder / "ledger"
        self.app = Opsq("client", broker=url, backend=f"sqlite:///{folder}/results.db", task_default_queue=self.queue)
        self._url = url
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start one."""
        environment = os.environ | {
            "LEDGER": str(self.ledger),
            "OPSQ_BROKER_URL": self._url,
            "OPSQ_RESULT_BACKEND": f"sqlite:///{self._folder}/results.db",
            "OPSQ_TASK_DEFAULT_QUEUE": self.queue,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE)]),
        }
        command = [sys.executable, "-m", "opsq", "worker", "-A", "kill_app", "-P", "threads", "-c", "4", "-n", name]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running.append(subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=log))
        return self._running[-1]

    def call(self, count: int, milliseconds: float) -> None:
        """Publish so many tasks, numbered from 0."""
        calls = [("kill_app.work", (number, milliseconds), {}, {}) for number in range(count)]
        self.app.send_many(calls)

    def lines(self, kind: str) -> list[tuple[str, float]]:
        """Number and time of what began (S) or ended (D)."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        words = [line.split() for line in text.splitlines()]
        return [(each[1], float(each[3])) for each in words if each[0] == kind]

    def in_work(self, pid: int) -> set[str]:
        """Numbers of the tasks that this process began and has not ended."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        words = [line.split() for line in text.splitlines()]
        of_it = [(kind, number) for kind, number, writer, _ in words if writer == str(pid)]
        return {number for kind, number in of_it if kind == "S"} - {number for kind, number in of_it if kind == "D"}

    def stands_in_work(self, process: subprocess.Popen[bytes]) -> bool:
        """Stop the clockwork of ``process``; it goes on unless it is in the middle of a task."""
        process.send_signal(signal.SIGSTOP)
        found = bool(self.in_work(process.pid))
        if not found:
            process.send_signal(signal.SIGCONT)
        return found

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for it."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
            time.sleep(0.02)

    def close(self) -> None:
        """End everything."""
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.app.close()


@pytest.fixture
def fleet(rabbitmq: RabbitServer, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(rabbitmq.url, tmp_path)
    yield made
    made.close()


def test_events_of_client_and_worker_reach_a_monitor(fleet: Fleet, rabbitmq: RabbitServer) -> None:
    monitor = Reader(BrokerConnection(rabbitmq.url), event_queue(uuid4().hex), no_ack=True)
    monitor.ask(lambda: None)
    fleet.worker("w1")
    result = fleet.app.send_task("kill_app.work", (7, 1.0))
    assert result.get(timeout=PATIENCE_S) == 7
    kinds: set[str] = set()
    wanted = {"task-sent", "task-received", "task-started", "task-succeeded", "worker-online"}
    while not wanted <= kinds:
        for delivery in monitor.take():
            assert delivery.exchange == "celeryev"
            found = json.loads(delivery.body)
            for event in found if isinstance(found, list) else [found]:
                if event.get("uuid") in (None, result.id):
                    kinds.add(event["type"])
    monitor.stop()


def test_a_killed_worker_s_tasks_run_again_within_two_seconds(fleet: Fleet) -> None:
    first = fleet.worker("w1")
    fleet.call(CALLS, 200.0)
    fleet.until("running tasks", lambda: len(fleet.lines("S")) >= 4)
    fleet.worker("w2")
    fleet.until("some of the calls", lambda: len(fleet.lines("D")) >= 8)
    # The four threads begin and end as one, so there are moments between two tasks when none is in work.
    fleet.until("a task in work", lambda: fleet.stands_in_work(first))
    first.kill()
    first.wait()
    killed_at = time.time()
    lost = fleet.in_work(first.pid)
    fleet.until("every task", lambda: len({number for number, _ in fleet.lines("D")}) == CALLS)
    again = [at for number, at in fleet.lines("S") if number in lost and at > killed_at]
    assert lost, "nothing ran when it was killed"
    assert again, "what it ran was not run again"
    assert min(again) - killed_at < within(2.0)
    assert all(count <= 2 for count in counts(fleet).values())


def test_a_worker_outlives_a_restart_of_the_broker(fleet: Fleet, rabbitmq: RabbitServer) -> None:
    fleet.worker("w1")
    fleet.call(CALLS, 50.0)
    fleet.until("running tasks", lambda: len(fleet.lines("D")) >= 8)
    rabbitmq.kill()
    rabbitmq.launch()
    rabbitmq.wait()
    back_at = time.time()
    fleet.until("work after the restart", lambda: any(at > back_at for _, at in fleet.lines("S")))
    assert min(at for _, at in fleet.lines("S") if at > back_at) - back_at < within(2.5)
    fleet.until("every task", lambda: len({number for number, _ in fleet.lines("D")}) == CALLS)


def counts(fleet: Fleet) -> dict[str, int]:
    """How often each task began."""
    found: dict[str, int] = {}
    for number, _ in fleet.lines("S"):
        found[number] = found.get(number, 0) + 1
    return found
