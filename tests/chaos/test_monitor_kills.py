"""The monitor is killed under load and comes back: nothing twice, nothing wrong, the gap repaired or counted.

Real processes: a Redis, ``opsq monitor`` killed by SIGKILL, and a worker that goes on meanwhile. ``CHAOS=full`` kills
more often, under more load.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opsq import Opsq
from opsq.errors import BrokerUnavailable
from opsq.events.cluster import Ledger
from opsq.events.evidence import decode
from opsq.events.life import summarise
from opsq.events.sequence import Emitter
from opsq.events.sqlite import SqliteStore
from opsq.testing.harness import running_worker
from tests.rabbitmq import RabbitServer, rabbitmq_server
from tests.servers import RedisServer, redis_server

FULL = os.environ.get("CHAOS") == "full"
KILLS = 5 if FULL else 1
TASKS = 1_000 if FULL else 150
PATIENCE_S = 60.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


class Monitor:
    """``opsq monitor`` on a history of this test's own."""

    def __init__(self, broker: RedisServer | RabbitServer, folder: Path) -> None:
        self.history = folder / "history.db"
        self._words = ("-m", "opsq", "monitor", "-b", broker.url, "--data-dir", str(folder), "--no-web")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it has heard of a worker."""
        began = time.time()
        self.launch()
        until(lambda: self._heard_since(began), "the monitor that hears")

    def launch(self) -> None:
        """Start it and return at once."""
        self._process = subprocess.Popen(
            [sys.executable, *self._words],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def _heard_since(self, began: float) -> bool:
        rows = self.read("SELECT record FROM workers")
        return any(msgspec.msgpack.decode(row[0])[2] > began for row in rows)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> None:
        """End it as people do."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(15)

    def read(self, sql: str) -> list[Any]:
        """Read the history while it is written; nothing while there is none."""
        try:
            with closing(sqlite3.connect(f"{self.history.as_uri()}?mode=ro", uri=True)) as db:
                return db.execute(sql).fetchall()
        except sqlite3.Error:
            return []

    def succeeded(self) -> int:
        """How many tasks are known to have succeeded."""
        sql = "SELECT count(*) FROM tasks JOIN names ON tasks.state = names.id WHERE names.name = 'SUCCESS'"
        return int((self.read(sql) or [(0,)])[0][0])


@contextmanager
def monitored(broker: RedisServer | RabbitServer, folder: Path) -> Iterator[Monitor]:
    monitor = Monitor(broker, folder)
    try:
        yield monitor
    finally:
        monitor.stop()


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a fact that another process writes."""
    give_up_at = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {patience_s} s for {what}"
        time.sleep(0.02)


def test_a_monitor_killed_under_load(redis: RedisServer, tmp_path: Path) -> None:
    app = Opsq("kills", broker=redis.url, set_as_current=False, worker_heartbeat_interval=0.5)

    @app.task(ignore_result=True)
    def work(n: int) -> int:
        return n

    sent: list[str] = []

    def send(count: int) -> None:
        sent.extend(each.id for each in app.send_many([(work.name, (n,)) for n in range(count)]))

    with monitored(redis, tmp_path) as monitor, running_worker(app, pool="threads", concurrency=2) as worker:
        monitor.start()
        for _ in range(KILLS):
            seen = monitor.succeeded()
            send(TASKS)
            until(lambda seen=seen: monitor.succeeded() > seen, "the first rows of these")  # type: ignore[misc]
            monitor.kill()
            send(TASKS)
            worker.wait("settled", sent[-1])
            monitor.start()
            send(1)  # a gap shows when the next number comes
            # Before the next gap: what a worker keeps to send again is bounded.
            until(lambda: monitor.succeeded() == len(sent), f"{len(sent)} tasks after a restart")
        monitor.stop()
    app.close()
    check(monitor.history, sent)


def check(history: Path, sent: list[str]) -> None:
    """Rows, counts and losses agree with each other, and with what was done."""
    store = SqliteStore(history)
    try:
        known = store.restore()
    finally:
        store.close()
    with closing(sqlite3.connect(history)) as db:
        rows = db.execute("SELECT id, evidence FROM tasks").fetchall()
    assert sorted(id for id, _ in rows) == sorted(sent), "each task once, and no other"
    summaries = [summarise(decode(evidence)) for _, evidence in rows]
    assert {summary.state for summary in summaries} == {"SUCCESS"}
    assert not [summary.anomalies for summary in summaries if summary.anomalies]
    recount = Counter((each.state, each.type, each.queue, each.worker) for each in summaries)
    assert recount == dict(known.cells)
    counts = msgspec.msgpack.decode(known.ledger["counts"], type=Ledger)
    emitters = msgspec.msgpack.decode(known.ledger["emitters"], type=dict[str, Emitter])
    lost = counts.lost_before + counts.dropped + sum(emitter.lost for emitter in emitters.values())
    of_workers = sum(emitter.lost for emitter in emitters.values() if not emitter.host.startswith("gen"))
    assert of_workers == 0, "what the worker had kept was asked for again"
    # A client keeps nothing to send again, so each call announced while nobody listened is missing, and counted.
    heard = sum(1 for _, evidence in rows for mark in decode(evidence).marks if mark[0] == 0)
    assert lost == len(sent) - heard


@pytest.fixture(params=["redis", "amqp"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer | RabbitServer]:
    with rabbitmq_server(tmp_path) if request.param == "amqp" else redis_server(tmp_path) as server:
        yield server


def test_a_broker_that_restarts(broker: RedisServer | RabbitServer, tmp_path: Path) -> None:
    """Events are received again within five seconds of its return."""

    def announce() -> None:
        # Connected anew each time: how a sender finds its broker again is not the question here.
        app = Opsq("announces", broker=broker.url, set_as_current=False)
        try:
            told = app.events.Dispatcher(hostname="w@h")
            told.send("worker-heartbeat", freq=2.0, processed=1, active=0)
        except BrokerUnavailable:
            pass  # it is not quite back
        finally:
            app.close()

    def heard(since: float) -> bool:
        announce()
        records = [msgspec.msgpack.decode(row[0]) for row in monitor.read("SELECT record FROM workers")]
        return any(record[0] == "w@h" and record[2] > since for record in records)

    with monitored(broker, tmp_path) as monitor:
        monitor.launch()
        until(lambda: heard(0.0), "the monitor that hears")
        broker.stop()
        broker.start()
        back_at = time.time()
        until(lambda: heard(back_at), "an event after the restart", 5.0)
