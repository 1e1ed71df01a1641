"""Which messages wait in the broker, and that they come out in time and at the right queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opsq.broker.amqp.delayed import DELAYS, Delays, delayed
from opsq.broker.connection import BrokerConnection, open_connection
from opsq.broker.message import OutMessage
from opsq.broker.publisher import Publisher
from opsq.broker.topology import queue_named
from opsq.settings import Settings
from opsq.testing.broker_reader import Reader, message, unique
from tests.rabbitmq import RabbitServer

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SPEC = queue_named("work")
Send = Callable[..., None]


def due(seconds: float, **options: Any) -> OutMessage:
    """A task that is to run so many seconds after noon."""
    return message(SPEC, headers={"id": "1", "eta": (NOW + timedelta(seconds=seconds)).isoformat()}, **options)


def test_a_far_eta_becomes_bits_in_front_of_the_queue() -> None:
    later = delayed(due(1234.9), Delays(600.0), NOW.timestamp())
    assert later is not None
    *bits, key = later.routing_key.split(".")
    assert (later.exchange, key, int("".join(bits), 2), len(bits)) == (DELAYS, "work", 1234, 28)
    assert later.headers == due(1234.9).headers, "the worker still sees when it was due"


@pytest.mark.parametrize(
    "near",
    [due(600.0), due(-5), message(SPEC), message("no queue named", headers=due(9e9).headers),
     message(SPEC, headers={"eta": "soon"}), message(SPEC, headers={"eta": 5})],
)  # fmt: skip
def test_everything_else_goes_straight(near: OutMessage) -> None:
    assert delayed(near, Delays(600.0), NOW.timestamp()) is None


def test_a_delay_beyond_the_ladder_waits_as_long_as_it_can() -> None:
    later = delayed(due(3e8), Delays(600.0), NOW.timestamp())
    assert later is not None
    assert later.routing_key == ".".join("1" * 28) + ".work"


def test_the_settings_reach_the_connection(rabbitmq: RabbitServer) -> None:
    settings = Settings(broker_url=rabbitmq.url, broker_native_delayed_delivery_queue_type="classic")
    connection = open_connection(settings, purpose="write")
    connection.connect()
    assert connection.kombu.connection.delays == Delays(600.0, "classic")
    connection.close()


@pytest.fixture
def send(rabbitmq: RabbitServer) -> Iterator[Send]:
    options = {"delay_after_s": 0.9, "delay_queue_type": "classic"}
    publisher = Publisher(lambda: BrokerConnection(rabbitmq.url, transport_options=options))

    def later(queue: str, body: bytes, seconds: float) -> None:
        eta = datetime.now(UTC) + timedelta(seconds=seconds)
        publisher.publish(message(queue_named(queue), body, headers={"eta": eta.isoformat()}))

    yield later
    publisher.close()


def test_messages_come_out_in_time_and_where_they_belong(rabbitmq: RabbitServer, send: Send) -> None:
    one, two = unique("one"), unique("two.with.dots")
    send(unique("first"), b"", 1.1)  # connects and makes the ladder of queues, which takes its time
    started = time.time()
    send(one, b"later", 3.1)
    send(one, b"sooner", 1.1)
    send(one, b"at once", 0.5)
    send(two, b"other", 2.1)
    reader = Reader(BrokerConnection(rabbitmq.url), queue_named(one), queue_named(two))
    got, at = [], []
    for _ in range(4):
        got += reader.take()
        at.append(time.time() - started)
    assert [each.body for each in got] == [b"at once", b"sooner", b"other", b"later"]
    assert [(each.exchange, each.routing_key) for each in got] == [("", one), ("", one), ("", two), ("", one)]
    assert [seconds <= waited < seconds + 5 for seconds, waited in zip((0, 1, 2, 3), at, strict=True)] == [True] * 4
    reader.settle(*got)
    reader.stop()
