"""A real monitor whose disk is full: it goes on in memory, says so everywhere, and writes when there is room again."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from opsq.broker.connection import BrokerConnection
from opsq.broker.message import OutMessage
from opsq.broker.publisher import Publisher
from opsq.events.rebuild import rebuild
from opsq.events.stores import open_store
from tests.cli.runner import clean_environment
from tests.servers import free_port, redis_server

T = TypeVar("T")
PATIENCE_S = 60.0


class Monitor:
    """A running ``opsq monitor``, as seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"

    def read(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nobody answers."""
        try:
            with urlopen(self._url + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except URLError:
            return 0, ""

    def body(self, path: str, status: int) -> str:
        """What is answered with this status; nothing with another."""
        found, text = self.read(path)
        return text if found == status else ""

    def room(self, most_bytes: int) -> None:
        """Let files grow to so much and no further: what a full disk does, for this process alone."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most_bytes, hard))


def until(read: Callable[[], T], what: str) -> T:
    """Ask until the answer is true."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not (found := read()):
        assert time.monotonic() < deadline, f"waited for {what}"
        pause.wait(0.05)
    return found


@contextmanager
def monitor(folder: Path, broker: str) -> Iterator[Monitor]:
    """``opsq monitor`` in a process of its own."""
    port = free_port()
    words = ("monitor", "-b", broker, "--data-dir", str(folder), "--set", f"web_port={port}")
    process = subprocess.Popen(
        [sys.executable, "-m", "opsq", *words],
        cwd=folder, env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Monitor(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)


def announce(publisher: Publisher, id: str) -> None:
    """Say that a worker took a task and finished it, in Celery's words."""
    now = time.time()
    said = {"hostname": "celery@w1", "pid": 1, "utcoffset": 0, "uuid": id}
    events = [
        {**said, "type": "task-received", "timestamp": now, "clock": 1, "name": "app.add", "retries": 0},
        {**said, "type": "task-succeeded", "timestamp": now + 0.1, "clock": 2, "runtime": 0.1, "result": "'x'"},
    ]
    publisher.publish(
        OutMessage(
            body=json.dumps(events).encode(), content_type="application/json", content_encoding="utf-8",
            headers={"hostname": "celery@w1"}, exchange="celeryev", routing_key="task.multi",
        )
    )  # fmt: skip


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """Readiness, page, metric and API while it is full; everything in the file afterwards."""
    with redis_server(tmp_path) as redis, monitor(tmp_path, redis.url) as watching:
        publisher = Publisher(lambda: BrokerConnection(redis.url))
        try:
            until(lambda: watching.read("/readyz")[0] == 200, "the monitor")
            announce(publisher, "before")
            until(lambda: watching.read("/api/v1/tasks/before")[0] == 200, "the task before")
            watching.room(4096)
            announce(publisher, "during")
            body = until(lambda: watching.body("/readyz", 503), "not ready")
            assert "history is not kept" in body
            assert "History is not being kept since" in watching.read("/")[1]
            assert "opsq_history_writable 0.0" in watching.read("/metrics")[1]
            assert "SUCCESS" in until(lambda: watching.body("/api/v1/tasks/during", 200), "it")
            listed = json.loads(watching.read("/api/v1/tasks")[1])["tasks"]
            assert [each["id"] for each in listed] == ["during", "before"]
            watching.room(resource.RLIM_INFINITY)
            until(lambda: watching.read("/readyz")[0] == 200, "it to recover by itself")
            assert "opsq_history_writable 1.0" in watching.read("/metrics")[1]
            assert watching.read("/api/v1/tasks/during")[0] == 200
        finally:
            publisher.close()
    store = open_store(f"sqlite:///{tmp_path}/history.db")
    assert sorted(store.load(["before", "during"])) == ["before", "during"]
    assert rebuild(store, time.time()).told == []
    store.close()
