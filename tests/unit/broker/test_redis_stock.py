"""Sharing queues with kombu's stock Redis transport: what one writes, the other reads and restores."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import kombu
import pytest
import redis as redis_py

from opsq.broker.connection import BrokerConnection
from opsq.broker.message import Settle
from opsq.broker.publisher import Publisher
from opsq.broker.topology import ExchangeSpec, QueueSpec, event_exchange, event_queue, queue_named
from opsq.testing.broker_reader import Reader, message, unique
from tests.servers import RedisServer, redis_server

Options = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def options() -> Options:
    return {}


@pytest.fixture
def publisher(server: RedisServer, options: Options, client: redis_py.Redis) -> Iterator[Publisher]:
    publisher = Publisher(lambda: BrokerConnection(server.url, transport_options=options))
    yield publisher
    publisher.close()


@pytest.fixture
def read(server: RedisServer, options: Options, client: redis_py.Redis) -> Iterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def start(*queues: QueueSpec, **more: Any) -> Reader:
        readers.append(Reader(BrokerConnection(server.url, transport_options=options), *queues, **more))
        readers[-1].ask(lambda: None)  # it runs, so its queues are bound
        return readers[-1]

    yield start
    for reader in readers:
        reader.stop()


@pytest.fixture
def stock(server: RedisServer, options: Options) -> Iterator[Any]:
    with kombu.Connection(server.url, transport_options=options) as connection:
        assert type(connection.transport).__module__ == "kombu.transport.redis"
        yield connection


def stock_take(connection: Any, name: str) -> Any:
    """Take one message as a stock consumer does, unsettled; ``None`` when none is there."""
    return connection.channel().basic_get(name)


def test_ours_to_stock(publisher: Publisher, stock: Any, client: redis_py.Redis) -> None:
    spec = queue_named(unique("q"))
    publisher.publish_many([message(spec, b"[1]", headers={"id": "1"}), message(spec, b"[2]")])
    first, second = stock_take(stock, spec.name), stock_take(stock, spec.name)
    assert (first.payload, second.payload, first.headers) == ([1], [2], {"id": "1"})
    first.ack()
    second.reject(requeue=True)
    assert stock_take(stock, spec.name).delivery_info["redelivered"] is True


def test_stock_to_ours(stock: Any, read: Any) -> None:
    spec = queue_named(unique("q"))
    reader = read(spec)
    producer = stock.Producer()
    producer.publish([1], exchange=spec.name, routing_key=spec.name, headers={"id": "1"}, declare=[])
    producer.publish({"a": "ü"}, routing_key=spec.name, correlation_id="c", compression="gzip")
    one, two = reader.take(2)
    assert (one.body, one.headers, one.exchange, one.routing_key) == (b"[1]", {"id": "1"}, spec.name, spec.name)
    assert two.properties["correlation_id"] == "c"
    assert two.headers["compression"] == "application/x-gzip"
    reader.settle(one, two)


def test_priorities_are_served_as_stock_serves_them(publisher: Publisher, stock: Any, read: Any) -> None:
    spec = queue_named(unique("q"))
    publisher.publish_many(
        [message(spec, str(each).encode(), properties={"priority": each}) for each in (9, 5, 0, 7, 1)]
    )
    stock.Producer().publish(3, routing_key=spec.name, priority=3)
    got = read(spec).take(6)
    assert [each.body for each in got] == [b"0", b"1", b"5", b"3", b"7", b"9"]


def test_what_is_held_looks_as_if_stock_held_it(publisher: Publisher, read: Any, client: redis_py.Redis) -> None:
    spec = queue_named(unique("q"))
    publisher.publish(message(spec, b"[1]"))
    reader = read(spec)
    (held,) = reader.take()
    assert client.llen(spec.name) == 0
    ((tag, entry),) = client.hgetall("unacked").items()
    ((index_tag, since),) = client.zrange("unacked_index", 0, -1, withscores=True)
    seconds, microseconds = client.time()
    assert tag == index_tag
    assert 0 <= seconds + microseconds / 1e6 - since < 5
    text, exchange, routing_key = json.loads(entry)
    assert (text["properties"]["delivery_tag"], exchange, routing_key) == (tag.decode(), "", spec.name)
    reader.settle(held)
    assert not client.exists("unacked", "unacked_index")


def test_stock_restores_what_a_dead_consumer_of_ours_held(
    publisher: Publisher, read: Any, stock: Any, client: redis_py.Redis
) -> None:
    spec = queue_named(unique("q"))
    publisher.publish_many([message(spec, b"[1]"), message(spec, b"[2]", properties={"priority": 6})])
    reader = read(spec)
    reader.take(2)
    reader.consumer.pause()
    reader.ask(lambda: None)
    for tag in client.hkeys("unacked"):
        client.zadd("unacked_index", {tag: time.time() - 3601})  # nobody has renewed for an hour
    stock.channel().qos.restore_visible()
    got = [stock_take(stock, spec.name) for _ in range(2)]
    assert [each.payload for each in got] == [[1], [2]]
    assert all(each.delivery_info["redelivered"] for each in got)


@pytest.mark.parametrize("options", [{"visibility_timeout": 0.5}])
def test_stock_does_not_take_what_is_being_worked_on(
    publisher: Publisher, read: Any, stock: Any, client: redis_py.Redis
) -> None:
    spec = queue_named(unique("q"))
    publisher.publish(message(spec))
    reader = read(spec)
    (held,) = reader.take()
    seen = client.zscore("unacked_index", held.tag[1])
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        stock.channel().qos.restore_visible(num=10, interval=1)
        assert reader.nothing(0.05)
    assert client.llen(spec.name) == 0
    assert (client.zscore("unacked_index", held.tag[1]) or 0) > (seen or 0) + 0.5
    reader.settle(held)


@pytest.mark.parametrize("options", [{"visibility_timeout": 0.3}])
def test_what_stock_holds_comes_back_after_the_visibility_timeout_only(
    publisher: Publisher, read: Any, stock: Any
) -> None:
    spec = queue_named(unique("q"))
    publisher.publish(message(spec, b"[1]"))
    taken_at = time.monotonic()
    assert stock_take(stock, spec.name) is not None
    (again,) = read(spec).take()
    assert time.monotonic() - taken_at >= 0.3
    assert (again.body, again.redelivered) == (b"[1]", True)


def drain(connection: Any, met: Callable[[], bool]) -> None:
    """Let a stock consumer work until something is so."""
    until = time.monotonic() + 10
    while not met():
        assert time.monotonic() < until
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.05)


def test_broadcasts_and_events_reach_both(publisher: Publisher, read: Any, stock: Any, client: redis_py.Redis) -> None:
    exchange = event_exchange(unique("celeryev"), driver="redis")
    ours = read(event_queue("ours", exchange=exchange), no_ack=True)
    theirs: queue.Queue[Any] = queue.Queue()
    their_exchange = kombu.Exchange(exchange.name, type="fanout")
    with stock.Consumer(
        [kombu.Queue(unique("ev"), their_exchange, routing_key="#", no_ack=True)],
        callbacks=[lambda body, _: theirs.put(body)],
        no_ack=True,
    ):
        drain(stock, lambda: [each["psub"] for each in client.client_list()].count("1") == 2)  # both listen now
        publisher.publish(message("", b"[1]", exchange=exchange.name, routing_key="task.multi", declare=exchange))
        drain(stock, lambda: theirs.qsize() >= 1)
        with kombu.Connection(stock.as_uri(include_password=True)) as sender:
            sender.Producer().publish([2], exchange=their_exchange, routing_key="task.multi", declare=[their_exchange])
        drain(stock, lambda: theirs.qsize() >= 2)
    assert [theirs.get_nowait(), theirs.get_nowait()] == [[1], [2]]
    got = ours.take(2)
    assert [each.body for each in got] == [b"[1]", b"[2]"]
    assert all(each.routing_key == "task.multi" for each in got)


def test_a_broadcast_that_is_given_back_comes_again(publisher: Publisher, read: Any) -> None:
    exchange = ExchangeSpec(name=unique("all"), type="fanout")
    reader = read(QueueSpec(name=unique("bcast"), exchange=exchange, auto_delete=True))
    publisher.publish(message("", b"1", exchange=exchange.name))
    (first,) = reader.take()
    reader.settle(first, how=Settle.REQUEUE)
    (again,) = reader.take()
    assert (again.body, again.redelivered) == (b"1", True)
    reader.settle(again)


def test_bindings_are_stock_bindings(read: Any, publisher: Publisher, stock: Any, client: redis_py.Redis) -> None:
    exchange = ExchangeSpec(name=unique("topic"), type="topic")
    spec = QueueSpec(name=unique("q"), exchange=exchange, routing_key="a.*")
    reader = read(spec)
    member = f"a.*\x06\x16^a\\.[^\\.]+$\x06\x16{spec.name}".encode()
    assert client.smembers(f"_kombu.binding.{exchange.name}") == {member}
    stock.Producer().publish(
        [1], exchange=kombu.Exchange(exchange.name, type="topic"), routing_key="a.b",
        declare=[kombu.Exchange(exchange.name, type="topic")],
    )  # fmt: skip
    publisher.publish(message("", b"[2]", exchange=exchange.name, routing_key="a.c"))
    assert [each.body for each in reader.take(2)] == [b"[1]", b"[2]"]


def test_a_queue_bound_elsewhere_is_found_at_once(publisher: Publisher, read: Any) -> None:
    exchange = ExchangeSpec(name=unique("direct"))
    publisher.publish(message("", b"nobody", exchange=exchange.name, routing_key="k"))
    assert publisher.stats.unrouted == 1
    reader = read(QueueSpec(name=unique("q"), exchange=exchange, routing_key="k"))
    publisher.publish(message("", b"somebody", exchange=exchange.name, routing_key="k"))
    assert reader.take()[0].body == b"somebody"


@pytest.mark.parametrize(
    "options",
    [
        {"global_keyprefix": "app:", "sep": ":", "unacked_key": "held", "unacked_index_key": "held_index"},
        {"priority_steps": [0, 5], "fanout_prefix": "/mine.", "fanout_patterns": False},
    ],
)
def test_options_rename_the_keys_as_stock_does(
    publisher: Publisher, read: Any, stock: Any, client: redis_py.Redis, options: Options
) -> None:
    spec = queue_named(unique("q"))
    publisher.publish_many([message(spec, b"[1]"), message(spec, b"[2]", properties={"priority": 5})])
    assert [stock_take(stock, spec.name).payload for _ in range(2)] == [[1], [2]]
    stock.Producer().publish([3], routing_key=spec.name, priority=9)
    reader = read(spec)
    (third,) = reader.take()
    assert third.body == b"[3]"
    held = options.get("global_keyprefix", "") + options.get("unacked_key", "unacked")
    assert client.hexists(held, third.tag[1])
    reader.settle(third)
    prefix = options.get("global_keyprefix", "").encode()
    assert all(key.startswith(prefix) for key in client.keys("*"))


def test_an_expiring_queue_keeps_its_keys_while_it_is_read(
    publisher: Publisher, read: Any, client: redis_py.Redis
) -> None:
    spec = QueueSpec(name=unique("q"), exchange=ExchangeSpec(name=unique("e")), routing_key="k", expires_s=0.9)
    publisher.publish(message(spec))
    assert 0 < client.pttl(spec.name) <= 900
    reader = read(spec, prefetch=1)
    publisher.publish(message(spec))
    reader.nothing(1.5)
    assert client.llen(spec.name) == 1
    assert client.zscore("_kombu.binding_deadlines", spec.exchange.name) is not None
