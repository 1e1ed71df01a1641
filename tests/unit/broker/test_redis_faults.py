"""What Redis refuses, and connections that break: what is said, what goes on, how soon."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from opsq.broker.connection import BrokerConnection
from opsq.broker.depth import depth
from opsq.broker.faults import BrokerBusy, BrokerUnusable, LeaseLost
from opsq.broker.message import Settlement
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY
from opsq.broker.topology import ExchangeSpec, QueueSpec, queue_named
from opsq.errors import BrokerUnavailable, ConfigError
from opsq.testing.broker_reader import Reader, message, unique
from tests.promises import within
from tests.servers import RedisServer, free_port, redis_server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> Iterator[RedisServer]:
    """The shared server, as it was made."""
    yield shared
    with redis_py.Redis.from_url(shared.url) as client:
        client.config_set("maxmemory", 0)
        client.config_set("min-replicas-to-write", 0)
        client.config_set("maxmemory-policy", "noeviction")
        client.replicaof("NO", "ONE")
        client.flushall()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def spec() -> QueueSpec:
    return queue_named(unique("q"))


@pytest.fixture
def publish(server: RedisServer) -> Iterator[Callable[..., None]]:
    publisher = Publisher(lambda: BrokerConnection(server.url), NO_RETRY)

    def send(spec: QueueSpec, *bodies: bytes) -> None:
        publisher.publish_many([message(spec, body) for body in bodies])

    yield send
    publisher.close()


@pytest.fixture
def read(server: RedisServer) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def start(*specs: QueueSpec, url: str = server.url, **options: Any) -> Reader:
        readers.append(Reader(BrokerConnection(url, transport_options=options), *specs))
        return readers[-1]

    yield start
    for reader in readers:
        reader.stop()


BROADCAST = {
    "body": "all",
    "headers": {},
    "content-type": "text/plain",
    "content-encoding": "utf-8",
    "properties": {"delivery_tag": "t", "delivery_info": {"exchange": "all", "routing_key": ""}, "priority": 0},
}


def ended(reader: Reader, within_s: float = 10.0) -> BaseException:
    """Wait until a reader has ended; return what ended it."""
    reader._thread.join(within_s)
    assert not reader._thread.is_alive()
    assert reader.error is not None
    return reader.error


# ---- refusals


def test_full_memory_stops_publishing_but_not_consuming(
    publish: Any, read: Any, client: redis_py.Redis, spec: QueueSpec
) -> None:
    publish(spec, b"1", b"2")
    client.config_set("maxmemory", 1)
    with pytest.raises(BrokerBusy, match=r"all the memory that maxmemory allows.*raise maxmemory"):
        publish(spec, b"3")
    reader = read(spec)
    got = reader.take(2)
    reader.settle(*got)
    client.config_set("maxmemory", 0)
    assert not client.exists("unacked", spec.name)


def test_a_server_that_cannot_save_is_waited_for(
    publish: Any, read: Any, client: redis_py.Redis, spec: QueueSpec
) -> None:
    exchange = ExchangeSpec(name=unique("all"), type="fanout")
    publish(spec, b"1")
    reader = read(QueueSpec(name=unique("bcast"), exchange=exchange), spec)
    (held,) = reader.take()
    client.config_set("min-replicas-to-write", 1)  # refused like a full disk, and can be had in a test
    reader.consumer.settle([Settlement(held.tag)])
    until = time.monotonic() + 30
    while not reader.consumer.stats.busy and time.monotonic() < until:
        reader.ask(lambda: None)
    client.publish(f"/0.{exchange.name}", json.dumps(BROADCAST))
    before = reader.consumer.stats.busy
    while reader.consumer.stats.busy < before + 2 and time.monotonic() < until:
        reader.ask(lambda: None)
    client.config_set("min-replicas-to-write", 0)
    assert reader.take()[0].body == b"all"
    assert reader.settled.get(timeout=30).tag == held.tag
    assert reader.error is None


def test_a_replica_says_so(publish: Any, client: redis_py.Redis, spec: QueueSpec) -> None:
    publish(spec, b"1")
    client.replicaof("127.0.0.1", str(free_port()))
    with pytest.raises(BrokerUnavailable, match=r"read-only replica.*name the primary"):
        publish(spec, b"2")


def test_a_consumer_that_meets_a_replica_ends_and_loses_nothing(
    publish: Any, read: Any, client: redis_py.Redis, spec: QueueSpec
) -> None:
    publish(spec, b"1")
    reader = read(spec)
    (held,) = reader.take()
    client.replicaof("127.0.0.1", str(free_port()))
    reader.consumer.settle([])
    error = ended(reader)
    assert isinstance(error, BrokerUnavailable)
    assert "read-only replica" in str(error)
    client.replicaof("NO", "ONE")
    assert read(spec).take()[0].body == held.body


def test_an_evicting_server_is_refused_for_work_but_not_for_watching(
    publish: Any, read: Any, client: redis_py.Redis, spec: QueueSpec
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", "100mb")
    error = ended(read(spec))
    assert isinstance(error, BrokerUnusable)
    assert "maxmemory-policy is allkeys-lru" in str(error)
    assert "allow_eviction = true" in str(error)
    publish(spec, b"1")
    assert read(spec, allow_eviction=True).take()[0].body == b"1"


def test_a_key_of_somebody_else_is_named(publish: Any, client: redis_py.Redis, spec: QueueSpec) -> None:
    client.set(spec.name, "mine")
    with pytest.raises(BrokerUnusable, match="holds something that is not a queue"):
        publish(spec, b"1")


def test_a_flushed_server_ends_the_connection_with_a_reason(
    publish: Any, read: Any, client: redis_py.Redis, spec: QueueSpec
) -> None:
    reader = read(spec)
    reader.ask(lambda: None)
    client.flushall()
    publish(spec, b"1")
    assert isinstance(ended(reader), LeaseLost)
    assert read(spec).take()[0].body == b"1"


@pytest.mark.parametrize(
    ("login", "says"),
    [("", "it wants a password"), (":wrong@", "password are wrong"), ("joe:wrong@", "password are wrong")],
)
def test_a_login_that_fails_is_explained_without_the_password(tmp_path: Path, login: str, says: str) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as server:
        url = f"redis://{login}127.0.0.1:{server.port}/0"
        with pytest.raises(BrokerUnusable, match=says) as caught:
            BrokerConnection(url).connect()
        assert "wrong@" not in str(caught.value)
        connection = BrokerConnection(f"redis://:secret@127.0.0.1:{server.port}/0")
        connection.connect()
        assert depth(connection, ["nothing"]) == {}
        connection.close()


def test_a_server_that_is_not_there_is_named(spec: QueueSpec) -> None:
    port = free_port()
    with pytest.raises(BrokerUnavailable, match=rf"redis://127.0.0.1:{port}/0.*check that it runs"):
        BrokerConnection(f"redis://127.0.0.1:{port}/0").connect()


def test_a_user_that_may_not_track_is_served_by_asking(
    publish: Any, read: Any, client: redis_py.Redis, server: RedisServer, spec: QueueSpec
) -> None:
    client.acl_setuser(
        "worker", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"],
        categories=["+@all"], commands=["-client|tracking"],
    )  # fmt: skip
    reader = read(spec, url=f"redis://worker:pw@127.0.0.1:{server.port}/0")
    reader.ask(lambda: None)
    publish(spec, b"1")
    got = reader.take()
    assert got[0].body == b"1"
    reader.settle(*got)


def test_a_sentinel_must_be_told_which_primary(server: RedisServer) -> None:
    with pytest.raises(ConfigError, match="master_name"):
        BrokerConnection(f"sentinel://127.0.0.1:{server.port}/0").connect()


# ---- connections


class Mute:
    """A proxy whose connections can be made silent, in both directions, while new ones work."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._open: list[socket.socket] = []
        self._silent: set[int] = set()
        self._threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._forward, args=(source, sink), daemon=True))
                self._threads[-1].start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if id(source) not in self._silent and id(sink) not in self._silent:
                    sink.sendall(data)
            if id(source) not in self._silent:
                sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def silence(self) -> None:
        """Swallow everything that passes on the connections of now."""
        self._silent.update(id(each) for each in self._open)

    def reset(self) -> None:
        """Cut the connections of now."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.reset()
        for thread in self._threads:
            thread.join(30)
        for each in self._open:
            each.close()


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Mute]:
    proxy = Mute(server.port)
    yield proxy
    proxy.close()


def test_a_reset_is_noticed_at_once_and_the_work_comes_back(
    publish: Any, read: Any, proxy: Mute, spec: QueueSpec
) -> None:
    publish(spec, b"1")
    reader = read(spec, url=proxy.url)
    reader.take()
    started = time.monotonic()
    proxy.reset()
    error = ended(reader)
    assert isinstance(error, BrokerUnavailable)
    assert "connection is lost" in str(error)
    (again,) = read(spec, url=proxy.url).take()
    assert time.monotonic() - started < within(2.0)
    assert (again.body, again.redelivered) == (b"1", True)


def test_a_connection_that_has_gone_silent_is_noticed(publish: Any, read: Any, proxy: Mute, spec: QueueSpec) -> None:
    reader = read(spec, url=proxy.url, socket_timeout=0.5)
    reader.ask(lambda: None)
    started = time.monotonic()
    proxy.silence()
    error = ended(reader)
    taken = time.monotonic() - started
    assert isinstance(error, BrokerUnavailable)
    assert "did not answer in time" in str(error)
    assert taken < within(5.0), f"{taken:.1f} s; a second until the next chore, half a second of silence, closing"
    publish(spec, b"1")
    assert read(spec, url=proxy.url).take()[0].body == b"1"


def test_a_publisher_survives_a_restart(server: RedisServer, tmp_path: Path, spec: QueueSpec) -> None:
    with redis_server(tmp_path) as own:
        publisher = Publisher(lambda: BrokerConnection(own.url))
        publisher.publish(message(spec, b"1"))
        own.stop()
        own.start()
        publisher.publish(message(spec, b"2"))
        assert publisher.stats.connects == 2
        reader = Reader(BrokerConnection(own.url), spec)
        assert reader.take()[0].body == b"2"
        reader.stop()
        publisher.close()


def test_a_consumer_is_back_soon_after_a_restart(tmp_path: Path, spec: QueueSpec) -> None:
    with redis_server(tmp_path, "--appendonly", "yes") as own:
        publisher = Publisher(lambda: BrokerConnection(own.url))
        publisher.publish_many([message(spec, b"1"), message(spec, b"2")])
        connection = BrokerConnection(own.url)
        first = Reader(connection, spec, prefetch=1)
        first.take()
        own.stop()
        assert isinstance(ended(first), BrokerUnavailable)
        own.start()
        started = time.monotonic()
        connection.connect(30.0)
        second = Reader(connection, spec)
        got = second.take(2)
        assert time.monotonic() - started < within(2.0)
        assert [each.body for each in got] == [b"1", b"2"]
        second.stop()
        publisher.close()
