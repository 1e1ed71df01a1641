"""The broker contract for every registered broker, and what only SQLite promises."""

from __future__ import annotations

import inspect
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from opsq.broker.connection import BrokerConnection
from opsq.broker.publisher import Publisher
from opsq.broker.registry import BROKERS
from opsq.broker.topology import QueueSpec, event_exchange, event_queue, queue_named
from opsq.errors import BrokerUnavailable
from opsq.testing.broker_reader import Reader, message, unique
from opsq.testing.contract_broker import BrokerContract
from tests.contract import test_broker_contract_elsewhere
from tests.promises import within
from tests.rabbitmq import RabbitServer
from tests.servers import RedisServer, free_port, wait_for_port

# Runs as a process of its own: consumes, prints each body it got, settles what it is told to.
CONSUME = """
import sys
from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Settlement
from opsq.broker.topology import queue_named

url, queue, settle = sys.argv[1], sys.argv[2], sys.argv[3] == "settle"
options = {"lease_seconds": float(sys.argv[4])} if len(sys.argv) > 4 else {}

def on_batch(batch):
    for delivery in batch:
        print(delivery.body.decode(), flush=True)
    if settle:
        consumer.settle([Settlement(delivery.tag) for delivery in batch])

connection = BrokerConnection(url, transport_options=options)
consumer = Consumer(connection, [queue_named(queue)], on_batch=on_batch, prefetch=50)
consumer.run()
"""
PUBLISH = """
import sys
from opsq.broker.connection import BrokerConnection
from opsq.broker.publisher import Publisher
from opsq.broker.topology import queue_named
from opsq.testing.broker_reader import message

url, queue, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
publisher = Publisher(lambda: BrokerConnection(url))
for number in range(first, first + count):
    publisher.publish(message(queue_named(queue), str(number).encode()))
    print(number, flush=True)
"""


class TestSqlite(BrokerContract):
    features = BROKERS["sqlite"].features

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/broker.db"


class TestMemory(BrokerContract):
    features = BROKERS["memory"].features

    @pytest.fixture
    def url(self) -> str:
        return "memory://"


class TestAmqp(BrokerContract):
    features = BROKERS["amqp"].features

    @pytest.fixture
    def url(self, rabbitmq: RabbitServer) -> str:
        return rabbitmq.url

    def test_a_higher_priority_is_served_first(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        # RabbitMQ keeps priorities apart only in a queue that says so.
        spec = queue_named(spec.name, max_priority=10)
        super().test_a_higher_priority_is_served_first(publisher, read, spec)

    def test_private_queues_go_with_their_reader(self, publisher: Publisher, read: Any, connect: Any) -> None:
        # Exclusive to its reader's connection: others may not even look while it is there.
        spec = event_queue(uuid4().hex, exchange=event_exchange(unique("celeryev")))
        monitor = read(spec, no_ack=True)
        monitor.ask(lambda: None)
        with pytest.raises(BrokerUnavailable, match=r"exclusive to another connection.*name of its own"):
            publisher.publish(message(spec))
        monitor.stop()
        publisher.publish(message(spec))


class TestAmqps(TestAmqp):
    """The same over TLS, the broker's certificate and name checked."""

    @pytest.fixture
    def url(self, rabbitmq: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("SSL_CERT_FILE", str(rabbitmq.certificate))
        return rabbitmq.tls_url


class TestRedis(BrokerContract):
    features = BROKERS["redis"].features

    @pytest.fixture
    def url(self, redis: RedisServer) -> str:
        return redis.url


@pytest.fixture(scope="module")
def sentinel(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a sentinel that watches the run's Redis."""
    port = free_port()
    config = tmp_path_factory.mktemp("sentinel") / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {redis.port} 1\n")
    program = ["redis-server", str(config), "--sentinel"]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_port(port, process)
        yield f"sentinel://127.0.0.1:{port}/0"
        process.terminate()


class TestSentinel(TestRedis):
    """The same behind a sentinel."""

    options: ClassVar[dict[str, Any]] = {"master_name": "main"}

    @pytest.fixture
    def url(self, sentinel: str) -> str:
        return sentinel


def test_every_registered_broker_runs_the_contract() -> None:
    files = (sys.modules[__name__], test_broker_contract_elsewhere)
    found = [each for file in files for each in inspect.getmembers(file, inspect.isclass)]
    tested = {name.removeprefix("Test").lower() for name, kind in found if issubclass(kind, BrokerContract)}
    assert set(BROKERS) <= tested


class TestSeveralProcesses:
    """What SQLite promises beyond the contract."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "broker.db"

    @pytest.fixture
    def url(self, path: Path) -> str:
        return f"sqlite:///{path}"

    @pytest.fixture
    def spec(self) -> QueueSpec:
        return queue_named("work")

    @pytest.fixture
    def publisher(self, url: str) -> Iterator[Publisher]:
        publisher = Publisher(lambda: BrokerConnection(url))
        yield publisher
        publisher.close()

    @pytest.fixture
    def spawn(self, url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
        running: list[subprocess.Popen[str]] = []

        def start(program: str, *arguments: object) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", program, url, "work", *map(str, arguments)]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            return running[-1]

        yield start
        for process in running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @pytest.fixture
    def reader(self, url: str, spec: QueueSpec) -> Iterator[Reader]:
        reader = Reader(BrokerConnection(url), spec)
        yield reader
        reader.stop()

    @staticmethod
    def lines(process: subprocess.Popen[str], count: int) -> list[str]:
        assert process.stdout is not None
        return [process.stdout.readline().strip() for _ in range(count)]

    def test_a_killed_consumer_gives_back_what_it_held(
        self, publisher: Publisher, spawn: Any, url: str, spec: QueueSpec, path: Path
    ) -> None:
        publisher.publish_many([message(spec, str(number).encode()) for number in range(50)])
        victim = spawn(CONSUME, "hold")
        assert len(set(self.lines(victim, 50))) == 50
        survivor = Reader(BrokerConnection(url), spec)
        assert survivor.nothing()
        killed_at = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        got = survivor.take(50)
        assert time.monotonic() - killed_at < within(3.0)
        assert {each.body for each in got} == {str(number).encode() for number in range(50)}
        assert all(each.redelivered and each.deliveries == 2 for each in got)
        survivor.stop()
        assert integrity(path) == "ok"

    def test_a_stopped_consumer_loses_its_lease_and_cannot_settle(
        self, publisher: Publisher, spawn: Any, url: str, spec: QueueSpec
    ) -> None:
        publisher.publish(message(spec, b"1"))
        frozen = spawn(CONSUME, "hold", 1.0)
        self.lines(frozen, 1)
        frozen.send_signal(signal.SIGSTOP)
        survivor = Reader(BrokerConnection(url), spec)
        (again,) = survivor.take()
        assert again.redelivered
        frozen.send_signal(signal.SIGCONT)
        assert frozen.wait(10) != 0, "it must notice that its lease is gone"
        survivor.settle(again)
        survivor.stop()

    def test_several_publishers_and_consumers_lose_and_repeat_nothing(
        self, spawn: Any, url: str, spec: QueueSpec, reader: Reader
    ) -> None:
        publishers = [spawn(PUBLISH, first, 150) for first in (0, 1000, 2000)]
        consumer = spawn(CONSUME, "settle")
        other: list[str] = []
        listener = threading.Thread(target=lambda: other.extend(iter_lines(consumer)), daemon=True)
        listener.start()
        for process in publishers:
            assert process.wait(30) == 0
        mine: list[str] = []
        deadline = time.monotonic() + 60
        while len(mine) + len(other) < 450 and time.monotonic() < deadline:
            if not reader.deliveries.qsize():
                threading.Event().wait(0.005)
                continue
            got = reader.take()
            reader.settle(*got)
            mine += [each.body.decode() for each in got]
        expected = {str(first + number) for first in (0, 1000, 2000) for number in range(150)}
        assert sorted(mine + other) == sorted(expected)

    def test_publishers_that_are_killed_leave_whole_messages_only(
        self, spawn: Any, url: str, spec: QueueSpec, path: Path
    ) -> None:
        confirmed: set[str] = set()
        for first in range(0, 5000, 1000):
            process = spawn(PUBLISH, first, 1000)
            confirmed.update(self.lines(process, 40))
            process.send_signal(signal.SIGKILL)
            confirmed.update(filter(None, (line.strip() for line in process.stdout)))
        assert integrity(path) == "ok"
        reader = Reader(BrokerConnection(url), spec, prefetch=10_000)
        got: set[str] = set()
        while not confirmed <= got:
            got.update(each.body.decode() for each in reader.take())
        reader.stop()
        assert all(number.isdigit() for number in got)

    def test_the_doorbell_is_quick(self, publisher: Publisher, spec: QueueSpec, reader: Reader) -> None:
        waits = []
        for _ in range(50):
            assert reader.nothing(0.005)  # the owner sleeps
            started = time.perf_counter()
            publisher.publish(message(spec))
            got = reader.take()
            waits.append(time.perf_counter() - started)
            reader.settle(*got)
        median_s = sorted(waits)[25]
        assert median_s < min(within(0.005), 0.2), f"median {median_s * 1000:.2f} ms; the poll takes 250"

    def test_a_fork_gets_a_connection_of_its_own(self, publisher: Publisher, spec: QueueSpec, url: str) -> None:
        publisher.publish(message(spec, b"parent"))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                publisher.publish(message(spec, b"child"))
                status = 0 if publisher.stats.connects == 1 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        publisher.publish(message(spec, b"parent again"))
        reader = Reader(BrokerConnection(url), spec)
        assert {each.body for each in reader.take(3)} == {b"parent", b"child", b"parent again"}
        reader.stop()


def iter_lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield what a process prints, without line ends."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        yield line.strip()


def integrity(path: Path) -> str:
    """Return SQLite's own verdict on a file."""
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()
