"""RabbitMQ and the network misbehave; the transport comes back, and says what was wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu import Connection as KombuConnection
from kombu import Exchange, Queue

from opsq.broker.connection import BrokerConnection
from opsq.broker.faults import BrokerUnusable
from opsq.broker.prefetch import Adaptive
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY, RetryPolicy
from opsq.broker.topology import QueueSpec, from_kombu, queue_named
from opsq.errors import BrokerUnavailable
from opsq.testing.broker_reader import Reader, message, unique
from tests.promises import within
from tests.rabbitmq import RabbitServer
from tests.tcp_proxy import TcpProxy, tcp_proxy

# Short, so that a silent peer is noticed within a test; 10 s is the default.
HEARTBEAT_S = 2.0
PATIENT = RetryPolicy(max_retries=None, interval_start=0.05, interval_step=0.1, interval_max=0.5)


@pytest.fixture
def spec() -> QueueSpec:
    return queue_named(unique("chaos"))


@pytest.fixture
def proxy(rabbitmq: RabbitServer) -> Iterator[TcpProxy]:
    with tcp_proxy(rabbitmq.port) as made:
        yield made


@pytest.fixture
def publisher(rabbitmq: RabbitServer) -> Iterator[Publisher]:
    made = Publisher(lambda: BrokerConnection(rabbitmq.url), PATIENT)
    yield made
    made.close()


def through(proxy: TcpProxy) -> BrokerConnection:
    return BrokerConnection(f"amqp://guest:guest@127.0.0.1:{proxy.port}//", heartbeat_s=HEARTBEAT_S)


@contextmanager
def reading(connection: BrokerConnection, *queues: QueueSpec, **options: Any) -> Iterator[Reader]:
    """A reader for the block."""
    reader = Reader(connection, *queues, **options)
    reader.ask(lambda: None)
    try:
        yield reader
    finally:
        reader.stop()


def ended(reader: Reader, within_s: float) -> BaseException | None:
    """Wait for the end of a reader whose connection is lost; what ended it."""
    reader._thread.join(within(within_s))
    assert not reader._thread.is_alive(), f"the loss was not noticed within {within_s} s"
    return reader.error


# ---- the network


def test_a_half_open_connection_is_noticed_and_its_private_queue_does_not_block(
    proxy: TcpProxy, publisher: Publisher, spec: QueueSpec
) -> None:
    private = QueueSpec(name=unique("private"), exclusive=True, durable=False, auto_delete=True)
    with reading(through(proxy), spec, private, prefetch=1) as before:
        publisher.publish(message(spec, b"held"))
        before.take()
        proxy.hole()
        assert isinstance(ended(before, HEARTBEAT_S * 2.5), BrokerUnavailable)
        # The broker still believes in the old connection and holds both for it.
        with reading(through(proxy), spec, private) as after:
            publisher.publish(message(spec, b"new"))
            assert after.take()[0].body == b"new"
            (held,) = after.take()
            assert (held.body, held.redelivered) == (b"held", True)


def test_a_reset_is_noticed_at_once(proxy: TcpProxy, publisher: Publisher, spec: QueueSpec) -> None:
    with reading(through(proxy), spec) as before:
        publisher.publish(message(spec))
        before.take()
        proxy.reset()
        assert isinstance(ended(before, 1.0), BrokerUnavailable)
    with reading(through(proxy), spec) as after:
        assert after.take()[0].redelivered


def test_unconfirmed_messages_are_published_again(proxy: TcpProxy, rabbitmq: RabbitServer, spec: QueueSpec) -> None:
    publisher = Publisher(lambda: through(proxy), PATIENT, confirm="async")
    publisher.publish(message(spec, b"0"))
    publisher.flush(30.0)
    proxy.hole()
    for number in range(1, 4):
        publisher.publish(message(spec, str(number).encode()))  # returns at once, and goes nowhere
    proxy.reset()
    publisher.publish(message(spec, b"4"))
    publisher.flush(30.0)
    with reading(BrokerConnection(rabbitmq.url), spec) as reader:
        assert [each.body for each in reader.take(5)] == [b"0", b"1", b"2", b"3", b"4"]
    publisher.close()


def test_a_connection_lost_while_confirms_are_awaited(proxy: TcpProxy, rabbitmq: RabbitServer, spec: QueueSpec) -> None:
    publisher = Publisher(lambda: through(proxy), PATIENT, confirm="async")
    publisher.publish(message(spec, b"0"))
    publisher.flush(30.0)
    proxy.hole()
    publisher.publish(message(spec, b"1"))
    proxy.reset()
    publisher.flush(30.0)  # meets the reset by itself, no publish before it
    with reading(BrokerConnection(rabbitmq.url), spec) as reader:
        assert [each.body for each in reader.take(2)] == [b"0", b"1"]
    publisher.close()


def test_the_next_address_of_the_list_is_taken(proxy: TcpProxy, rabbitmq: RabbitServer, spec: QueueSpec) -> None:
    urls = [f"amqp://guest:guest@127.0.0.1:{proxy.port}//", rabbitmq.url]
    publisher = Publisher(lambda: BrokerConnection(urls), PATIENT)
    publisher.publish(message(spec, b"1"))
    proxy.refuse()
    proxy.reset()
    publisher.publish(message(spec, b"2"))
    with reading(BrokerConnection(urls), spec) as reader:
        assert [each.body for each in reader.take(2)] == [b"1", b"2"]
    publisher.close()


# ---- the broker


def test_a_restarted_broker_is_used_again_soon(rabbitmq: RabbitServer, publisher: Publisher, spec: QueueSpec) -> None:
    with reading(BrokerConnection(rabbitmq.url), spec) as before:
        publisher.publish(message(spec, b"kept"))
        before.take()
        rabbitmq.kill()
        assert isinstance(ended(before, 1.0), BrokerUnavailable)
        with pytest.raises(BrokerUnavailable, match=rf"127\.0\.0\.1:{rabbitmq.port}"):
            publisher.publish(message(spec, b"away"), deadline_s=0.3)
        rabbitmq.launch()
        connection = BrokerConnection(rabbitmq.url)
        connection.connect(60.0)
        back_at = time.monotonic()
    with reading(connection, spec) as after:
        publisher.publish(message(spec, b"new"))
        assert {each.body for each in after.take(2)} == {b"kept", b"new"}
        assert time.monotonic() - back_at < within(2.0)


def test_a_queue_deleted_under_its_reader_is_made_anew(
    rabbitmq: RabbitServer, publisher: Publisher, spec: QueueSpec
) -> None:
    with reading(BrokerConnection(rabbitmq.url), spec) as reader:
        delete(rabbitmq, spec)
        publisher.publish(message(spec, b"after"))
        assert reader.take()[0].body == b"after"


def test_a_queue_deleted_under_its_publisher_loses_nothing(
    rabbitmq: RabbitServer, publisher: Publisher, spec: QueueSpec
) -> None:
    publisher.publish(message(spec, b"goes with the queue"))
    delete(rabbitmq, spec)
    publisher.publish_many([message(spec, b"1"), message(spec, b"2")])
    with reading(BrokerConnection(rabbitmq.url), spec) as reader:
        assert sorted(each.body for each in reader.take(2)) == [b"1", b"2"]


def delete(rabbitmq: RabbitServer, spec: QueueSpec) -> None:
    with KombuConnection(rabbitmq.url) as connection:
        connection.channel().queue_delete(spec.name)


@pytest.mark.parametrize(
    ("command", "too_little", "enough"),
    [("set_vm_memory_high_watermark", "0.000001", "0.4"), ("set_disk_free_limit", "1000000GB", "1MB")],
    ids=["memory", "disk"],
)
def test_an_alarm_stops_publishers_clearly_and_readers_not_at_all(
    rabbitmq: RabbitServer, publisher: Publisher, spec: QueueSpec, command: str, too_little: str, enough: str
) -> None:
    publisher.publish_many([message(spec, b"1"), message(spec, b"2")])
    with reading(BrokerConnection(rabbitmq.url), spec, prefetch=1) as reader:
        rabbitmq.control(command, too_little)
        try:
            impatient = Publisher(lambda: BrokerConnection(rabbitmq.url), NO_RETRY)
            with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1.*memory or disk alarm"):
                impatient.publish(message(spec, b"refused"), deadline_s=1.0)
            reader.settle(*reader.take())
            reader.settle(*reader.take())
        finally:
            rabbitmq.control(command, enough)
        publisher.publish(message(spec, b"3"))
        (got,) = reader.take()
        if got.body != b"3":  # the refused one, read from the socket after the alarm
            reader.settle(got)
            (got,) = reader.take()
        assert got.body == b"3"


def test_refused_permissions_are_told_at_once(rabbitmq: RabbitServer, spec: QueueSpec) -> None:
    name = unique("user")
    rabbitmq.control("add_user", name, "secret")
    rabbitmq.control("set_permissions", "-p", "/", name, "", "", "")
    url = rabbitmq.url.replace("guest:guest", f"{name}:secret")
    publisher = Publisher(lambda: BrokerConnection(url), PATIENT)
    with pytest.raises(BrokerUnusable, match="set_permissions") as caught:
        publisher.publish(message(spec))
    assert "secret" not in str(caught.value)
    with pytest.raises(BrokerUnavailable, match="login") as caught:
        BrokerConnection(rabbitmq.url.replace("guest:guest", "guest:wrong")).connect()
    assert "wrong" not in str(caught.value)
    publisher.close()


def test_other_arguments_are_told_at_once(rabbitmq: RabbitServer, publisher: Publisher, spec: QueueSpec) -> None:
    publisher.publish(message(spec))
    other = Publisher(lambda: BrokerConnection(rabbitmq.url), PATIENT)
    with pytest.raises(BrokerUnusable, match=r"other arguments.*task_queues"):
        other.publish(message(queue_named(spec.name, max_priority=5)))
    other.close()


# ---- kinds of queues


@pytest.mark.parametrize(
    "arguments", [{}, {"x-queue-type": "quorum"}, {"x-max-priority": 10}, {"x-message-ttl": 60_000}]
)
def test_stock_kombu_shares_every_kind_of_queue(
    rabbitmq: RabbitServer, publisher: Publisher, arguments: dict[str, Any]
) -> None:
    name = unique("shared")
    theirs = Queue(name, Exchange(name, type="direct"), routing_key=name, queue_arguments=arguments)
    ours = from_kombu(theirs)
    with KombuConnection(rabbitmq.url, transport="pyamqp") as stock:
        producer = stock.Producer()
        producer.publish([1], exchange=theirs.exchange, routing_key=name, declare=[theirs], headers={"a": [None, 1.5]})
        with reading(BrokerConnection(rabbitmq.url), ours) as reader:
            (got,) = reader.take()
            assert (got.body, got.headers, got.content_type) == (b"[1]", {"a": [None, 1.5]}, "application/json")
            reader.settle(got)
        publisher.publish(message(ours, b"[2]", headers={"b": {"c": True}}, properties={"delivery_mode": 2}))
        found: list[Any] = []
        with stock.Consumer(theirs, callbacks=[lambda body, raw: found.append((body, raw.headers, raw.ack()))]):
            stock.drain_events(timeout=10)
    assert found == [([2], {"b": {"c": True}}, None)]


def test_quorum_queues_count_deliveries_and_take_a_new_prefetch(rabbitmq: RabbitServer, publisher: Publisher) -> None:
    spec = QueueSpec(name=unique("quorum"), arguments={"x-queue-type": "quorum"})
    publisher.publish_many([message(spec, str(number).encode()) for number in range(30)])
    with reading(BrokerConnection(rabbitmq.url), spec, prefetch=3) as first:
        held = first.take(3)
        assert [each.deliveries for each in held] == [1, 1, 1]
        assert first.nothing()
        first.consumer.set_prefetch(12)
        assert len(first.take(9)) == 9
        assert first.nothing()
    with reading(BrokerConnection(rabbitmq.url), spec, prefetch=Adaptive(4)) as second:
        got = second.take(4)
        assert {each.deliveries for each in got} == {2}
        assert all(each.redelivered for each in got)
