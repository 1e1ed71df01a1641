"""The SQLite transport used through kombu alone, as other libraries would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from kombu.pidbox import Mailbox

from opsq.broker.connection import BrokerConnection
from opsq.broker.message import Delivery, Settlement
from opsq.broker.publisher import Publisher
from opsq.broker.sqlite.transport import Transport
from opsq.broker.topology import queue_named
from opsq.testing.broker_reader import Reader, message


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/broker.db"


@pytest.fixture
def connection(url: str) -> Iterator[Any]:
    with kombu.Connection(url, transport=Transport) as connection:
        yield connection


def test_simple_queue(connection: Any) -> None:
    with connection.SimpleQueue("simple") as queue:
        queue.put({"hello": "wörld"})
        queue.put([1], priority=9)
        assert queue.qsize() == 2
        first = queue.get(timeout=30)
        assert first.payload == [1]
        first.requeue()
        again = queue.get(timeout=30)
        assert again.delivery_info["redelivered"]
        again.ack()
        second = queue.get(timeout=30)
        assert second.payload == {"hello": "wörld"}
        second.reject()
        assert queue.qsize() == 0
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.05)


def test_topic_events_and_fanout(connection: Any) -> None:
    exchange = kombu.Exchange("celeryev", type="topic")
    queue = kombu.Queue("celeryev.1", exchange, routing_key="#", auto_delete=True, message_ttl=5.0, expires=60.0)
    got: list[Any] = []
    with connection.Consumer([queue], callbacks=[lambda body, message: got.append((body, message))], no_ack=True):
        connection.Producer(exchange=exchange).publish({"type": "x"}, routing_key="task.sent", compression="zlib")
        connection.drain_events(timeout=30)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.05)
    assert got[0][0] == {"type": "x"}
    with pytest.raises(connection.channel_errors, match="NOT_FOUND"):
        connection.channel().queue_declare("celeryev.1", passive=True)


def test_remote_control_mailbox(connection: Any) -> None:
    mailbox = Mailbox("celery", type="fanout")(connection)
    node = mailbox.Node("worker@here", channel=connection.channel())
    node.handlers["ping"] = lambda state, **_: {"ok": "pong"}
    with node.listen():
        replies: list[Any] = []
        with connection.channel() as channel:
            mailbox._broadcast("ping", reply=False, channel=channel)
        connection.drain_events(timeout=30)
        node.reply = lambda data, **_: replies.append(data)
        with connection.channel() as channel:
            queue = mailbox.get_reply_queue()
            queue(channel).declare()
            mailbox._publish("ping", {}, None, "ticket", channel, timeout=1)
        connection.drain_events(timeout=30)
    assert replies == [{"worker@here": {"ok": "pong"}}]


def test_kombu_and_opsq_read_each_other(url: str, connection: Any) -> None:
    spec = queue_named("shared")
    publisher = Publisher(lambda: BrokerConnection(url))
    publisher.publish(message(spec, b'{"from": "opsq"}', headers={"h": 1}))
    with connection.SimpleQueue("shared") as queue:
        got = queue.get(timeout=30)
        assert (got.payload, got.headers) == ({"from": "opsq"}, {"h": 1})
        got.ack()
    publisher.close()
    connection.Producer().publish({"from": "kombu"}, routing_key="shared", priority=4, headers={"h": 2})
    reader = Reader(BrokerConnection(url), spec)
    (delivery,) = reader.take()
    assert (json.loads(delivery.body), delivery.priority, delivery.headers) == ({"from": "kombu"}, 4, {"h": 2})
    reader.stop()


def test_what_kombu_did_not_settle_comes_back(url: str, connection: Any) -> None:
    channel = connection.channel()
    queue = kombu.Queue("q", channel=channel)
    queue.declare()
    connection.Producer().publish("1", routing_key="q")
    assert queue.get() is not None
    assert queue.get() is None
    channel.close()
    channel.close()
    got = kombu.Queue("q", channel=connection.channel()).get()
    assert got.delivery_info["redelivered"]


def test_topology_commands(connection: Any) -> None:
    channel = connection.channel()
    exchange = kombu.Exchange("e", channel=channel)
    queue = kombu.Queue("q", exchange, routing_key="k", channel=channel)
    queue.declare()
    assert channel.list_bindings() == [("q", "e", "k")]
    assert channel.get_exchanges() == ["e"]
    connection.Producer().publish("1", exchange="e", routing_key="k")
    assert queue.purge() == 1
    queue.unbind_from(exchange, "k")
    assert channel.list_bindings() == []
    connection.Producer().publish("1", routing_key="q")
    queue.delete(if_empty=True)
    assert channel.queue_declare("q", passive=True).message_count == 1
    queue.delete()
    exchange.delete()
    with pytest.raises(connection.channel_errors):
        channel.exchange_declare("e", passive=True)
    with pytest.raises(connection.channel_errors):
        channel.basic_get("q")
    assert connection.transport.driver_version().startswith("3.")
    assert connection.transport.driver_type == "sqlite"


def test_prefetch_of_a_kombu_consumer(connection: Any) -> None:
    queue = kombu.Queue("q")
    got: list[Any] = []
    with connection.Consumer([queue], callbacks=[lambda _, message: got.append(message)], prefetch_count=2):
        for number in range(3):
            connection.Producer().publish(number, routing_key="q")
        connection.drain_events(timeout=30)
        connection.drain_events(timeout=30)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.05)
        got[0].ack()
        connection.drain_events(timeout=30)
    assert len(got) == 3


def test_a_text_that_cannot_be_decoded_does_not_stop_the_queue(url: str) -> None:
    spec = queue_named("q")
    publisher = Publisher(lambda: BrokerConnection(url))
    publisher.publish_many([message(spec, b"1"), message(spec, b"2"), message(spec, b"3")])
    publisher.close()
    connection = BrokerConnection(url)
    connection.connect()
    database = connection.kombu.connection.broker.database
    database.execute("UPDATE message SET envelope = 'rubbish' WHERE id = 2")
    reader = Reader(connection, spec)
    got: list[Delivery] = reader.take(3)
    assert [each.body for each in got] == [b"1", b"rubbish", b"3"]
    assert got[1].headers == {}
    reader.consumer.settle([Settlement(each.tag) for each in got])
    reader.stop()
