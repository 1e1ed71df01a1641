"""The owner loop when things go wrong."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

import pytest
from kombu.transport import memory

from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import Consumer
from opsq.broker.faults import BrokerStalled, LeaseLost
from opsq.broker.message import Delivery, Settlement
from opsq.broker.publisher import Publisher
from opsq.broker.registry import BROKERS, BrokerInfo
from opsq.broker.topology import queue_named
from opsq.errors import BrokerUnavailable
from opsq.testing.broker_reader import Reader, message
from opsq.testing.contract_backend import eventually

Q = queue_named("q")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


def publish(path: Path, *bodies: bytes) -> None:
    publisher = Publisher(lambda: BrokerConnection(f"sqlite:///{path}"))
    publisher.publish_many([message(Q, body) for body in bodies])
    publisher.close()


class DeafChannel(memory.Channel):
    """Has messages and never hands one out."""

    def _get(self, queue: str, timeout: Any = None) -> Any:
        raise Empty


class DeafTransport(memory.Transport):
    Channel = DeafChannel


def test_the_watchdog_gives_up_a_deaf_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BROKERS, "deaf", BrokerInfo(name="deaf", transport=DeafTransport))  # type: ignore[misc]
    spec = queue_named(f"deaf-{uuid4().hex}")
    publisher = Publisher(lambda: BrokerConnection("memory://"))
    publisher.publish(message(spec))
    connection = BrokerConnection("deaf://")
    consumer = Consumer(connection, [spec], on_batch=lambda _: None, stall_s=0.2)
    with pytest.raises(BrokerStalled, match="messages wait and none arrived"):
        consumer.run()
    assert consumer.stats.rebuilds == 1
    connection.close()
    publisher.close()


def test_the_watchdog_leaves_an_empty_queue_alone() -> None:
    spec = queue_named(f"quiet-{uuid4().hex}")
    reader = Reader(BrokerConnection("memory://"), spec, stall_s=0.05)
    assert reader.nothing(1.2)
    reader.stop()
    assert reader.error is None


def test_a_busy_file_delays_settling_and_loses_nothing(path: Path) -> None:
    publish(path, b"1", b"2")
    connection = BrokerConnection(f"sqlite:///{path}", transport_options={"busy_timeout_s": 0.05})
    reader = Reader(connection, Q)
    got = reader.take(2)
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    reader.consumer.settle([Settlement(each.tag) for each in got])
    assert eventually(lambda: reader.consumer.stats.busy >= 1, 30)
    holder.execute("COMMIT")
    for _ in got:
        reader.settled.get(timeout=30)
    holder.close()
    reader.stop()
    assert reader.error is None
    assert (reader.consumer.stats.settled, reader.consumer.stats.stale) == (2, 0)


def test_a_lost_lease_ends_the_run_and_voids_the_tags(path: Path) -> None:
    publish(path, b"1")
    late: list[Settlement] = []
    connection = BrokerConnection(f"sqlite:///{path}")
    reader = Reader(connection, Q, on_stale=late.extend)
    (got,) = reader.take()

    def steal() -> None:
        database = connection.kombu.connection.broker.database
        database.execute("DELETE FROM consumer")
        reader.consumer.settle([Settlement(got.tag), Settlement("nonsense")])

    reader.consumer.call_soon(steal)
    reader._thread.join(30)
    assert isinstance(reader.error, LeaseLost)
    assert {each.tag for each in late} >= {"nonsense"}
    reader.stop()


def test_a_queue_that_is_deleted_is_declared_again(path: Path) -> None:
    reader = Reader(BrokerConnection(f"sqlite:///{path}"), Q)
    reader.ask(lambda: None)
    other = BrokerConnection(f"sqlite:///{path}")
    other.connect()
    other.kombu.channel().queue_delete("q")
    publish(path, b"after")
    (got,) = reader.take()
    assert got.body == b"after"
    reader.stop()
    other.close()


def test_what_a_callback_raises_ends_the_run_and_gives_back(path: Path) -> None:
    publish(path, b"1")

    def broken(_: list[Delivery]) -> None:
        raise ZeroDivisionError

    connection = BrokerConnection(f"sqlite:///{path}")
    with pytest.raises(ZeroDivisionError):
        Consumer(connection, [Q], on_batch=broken).run()
    connection.close()
    reader = Reader(BrokerConnection(f"sqlite:///{path}"), Q)
    assert reader.take()[0].redelivered
    reader.stop()


def test_a_flood_of_settlements_is_bounded(path: Path) -> None:
    publish(path, b"1")
    reader = Reader(BrokerConnection(f"sqlite:///{path}"), Q)
    reader.take()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        leave.wait(30)

    reader.consumer.call_soon(hold)
    assert entered.wait(30)
    for _ in range(100):
        reader.consumer.settle([Settlement("nonsense")] * 100)
    leave.set()
    assert reader.consumer.stats.refused >= 8_000
    reader.stop()


def test_an_unreachable_broker_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerUnavailable, match="directory cannot be made"):
        Consumer(BrokerConnection(f"sqlite:///{tmp_path}/file/x/b.db"), [Q], on_batch=lambda _: None).run()


def test_a_shrunk_prefetch_asks_for_nothing_until_there_is_room(path: Path) -> None:
    publish(path, *(b"%d" % n for n in range(12)))
    reader = Reader(BrokerConnection(f"sqlite:///{path}"), Q, prefetch=8)
    got = reader.take(8)
    reader.consumer.set_prefetch(2)
    assert reader.consumer._room_to_fetch() == 0, "a source would count a negative room from the end of what it has"
    reader.settle(*got)
    assert len(reader.take(2)) == 2
    reader.stop()
