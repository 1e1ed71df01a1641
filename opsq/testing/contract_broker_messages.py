"""The broker contract, first part: what arrives, where, and in which order."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest

from opsq.broker.depth import depth
from opsq.broker.publisher import Publisher
from opsq.broker.topology import ExchangeSpec, QueueSpec, event_exchange, event_queue, queue_named
from opsq.errors import UsageError
from opsq.testing.broker_reader import PATIENCE_S, BrokerFixtures, message, unique


class MessageContract(BrokerFixtures):
    """Publishing, routing, limits and depth."""

    # ---- bytes and order

    def test_a_message_arrives_as_it_was_sent(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        headers = {"id": "1", "nested": {"list": [1, None, "ü🙂"]}, "opsq_published_at": 1.5}
        properties = {"correlation_id": "c", "reply_to": "r", "delivery_mode": 2, "priority": 0}
        publisher.publish(message(spec, b"\x00\xff[1]\n", headers=headers, properties=properties))
        (got,) = read(spec).take()
        assert (got.body, got.headers, got.routing_key, got.exchange) == (b"\x00\xff[1]\n", headers, spec.name, "")
        assert {key: got.properties[key] for key in properties} == properties
        assert (got.content_type, got.content_encoding) == ("application/json", "utf-8")
        assert (got.queue, got.redelivered, got.priority) == (spec.name, False, 0)
        assert got.deliveries in (None, 1)

    def test_messages_arrive_in_order(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        for number in range(5):
            publisher.publish(message(spec, str(number).encode()))
        publisher.publish_many([message(spec, str(number).encode()) for number in range(5, self.many // 4)])
        reader = read(spec, prefetch=1000)
        got = [int(each.body) for each in reader.take(self.many // 4)]
        assert (got if self.features.ordered else sorted(got)) == list(range(self.many // 4))
        assert max(reader.batches) <= 256

    def test_a_big_body_arrives(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        most = min(1_000_000, (self.features.max_message_bytes or 2_000_000) // 2)
        bodies = [b"x" * most, b"small", bytes(range(256)) * 1000]
        publisher.publish_many([message(spec, body) for body in bodies])
        assert sorted(each.body for each in read(spec).take(3)) == sorted(bodies)

    def test_what_is_too_big_for_the_broker_is_refused(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        self.need("max_message_bytes")
        most = self.features.max_message_bytes or 0
        with pytest.raises(UsageError, match=rf"takes at most {most}"):
            publisher.publish(message(spec, b"x" * most))
        publisher.publish(message(spec, b"small"))
        assert read(spec).take()[0].body == b"small"

    def test_a_compressed_body_is_left_alone(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish(message(spec, b"not really zlib", headers={"compression": "application/x-gzip"}))
        (got,) = read(spec).take()
        assert (got.body, got.headers["compression"]) == (b"not really zlib", "application/x-gzip")

    def test_publishing_from_many_threads_loses_nothing(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        def work(name: int) -> None:
            for number in range(25):
                publisher.publish(message(spec, f"{name}-{number}".encode()))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        got = [each.body for each in read(spec, prefetch=500).take(200)]
        assert len(set(got)) == 200

    def test_a_higher_priority_is_served_first(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        self.need("priorities")
        for priority in (0, 9, 5, 9):
            publisher.publish(message(spec, str(priority).encode(), properties={"priority": priority}))
        got = read(spec).take(4)
        assert [each.body for each in got] == [b"9", b"9", b"5", b"0"]
        assert [each.priority for each in got] == [9, 9, 5, 0]

    def test_publisher_can_be_flushed_closed_and_used_again(
        self, publisher: Publisher, read: Any, spec: QueueSpec
    ) -> None:
        publisher.flush()
        publisher.publish(message(spec, b"1"))
        publisher.flush(1.0)
        publisher.close()
        publisher.close()
        publisher.publish_many([])
        publisher.publish(message(spec, b"2"))
        assert [each.body for each in read(spec).take(2)] == [b"1", b"2"]

    # ---- routing

    def test_direct_exchange_follows_the_key(self, publisher: Publisher, read: Any) -> None:
        exchange = ExchangeSpec(name=unique("direct"))
        queues = [QueueSpec(name=unique(key), exchange=exchange, routing_key=key) for key in ("a", "b")]
        first, second = (read(each) for each in queues)
        for spec in queues:
            publisher.publish(
                message(spec, spec.routing_key.encode(), exchange=exchange.name, routing_key=spec.routing_key)
            )
        assert (first.take()[0].body, second.take()[0].body) == (b"a", b"b")
        assert first.nothing()

    def test_topic_exchange_follows_patterns(self, publisher: Publisher, read: Any) -> None:
        self.need("topics")
        exchange = ExchangeSpec(name=unique("topic"), type="topic")
        patterns = ("task.*", "#", "*.multi")
        specs = [QueueSpec(name=unique("q"), exchange=exchange, routing_key=pattern) for pattern in patterns]
        readers = [read(spec) for spec in specs]
        for reader in readers:
            reader.ask(lambda: None)  # it runs, so its queue is bound
        for key in ("task.sent", "worker.multi", "a.b.c"):
            publisher.publish(message("", key.encode(), exchange=exchange.name, routing_key=key))
        assert [each.body for each in readers[1].take(3)] == [b"task.sent", b"worker.multi", b"a.b.c"]
        assert (readers[0].take()[0].body, readers[2].take()[0].body) == (b"task.sent", b"worker.multi")
        assert readers[0].nothing()

    def test_fanout_reaches_every_queue(self, publisher: Publisher, read: Any, connect: Any) -> None:
        self.need("fanout")
        exchange = ExchangeSpec(name=unique("fanout"), type="fanout", durable=False)
        specs = [QueueSpec(name=unique("f"), exchange=exchange) for _ in range(3)]
        readers = [read(spec) for spec in specs]
        for reader in readers:
            reader.ask(lambda: None)  # it runs, so its queue is bound
        publisher.publish(message("", b"all", exchange=exchange.name))
        assert [reader.take()[0].body for reader in readers] == [b"all"] * 3

    def test_events_reach_a_monitor(self, publisher: Publisher, read: Any) -> None:
        self.need("topics")
        exchange = event_exchange(unique("celeryev"))
        monitor = read(event_queue(uuid4().hex, exchange=exchange), no_ack=True)
        monitor.ask(lambda: None)
        for number in range(3):
            publisher.publish(
                message("", str(number).encode(), exchange=exchange.name, routing_key="task.multi", declare=exchange)
            )
        assert [each.body for each in monitor.take(3)] == [b"0", b"1", b"2"]

    def test_a_message_without_a_queue_is_no_error(self, publisher: Publisher) -> None:
        exchange = event_exchange(unique("nobody"))
        spec = event_queue(uuid4().hex, exchange=exchange)
        publisher.publish(message(spec, b"declares the exchange"))
        publisher.publish(message("", b"lost", exchange=exchange.name, routing_key="no.such.key"))

    # ---- looking

    def test_depth_counts_what_waits(self, publisher: Publisher, connect: Any, spec: QueueSpec) -> None:
        publisher.publish_many([message(spec)] * 7)
        connection = connect()
        connection.connect()
        missing = unique("missing")
        seen = depth(connection, [spec.name, missing])
        assert seen[spec.name].ready == 7
        assert missing not in seen
        if self.features.exact_depth:
            assert (seen[spec.name].unacked, seen[spec.name].consumers) == (0, 0)
            assert 0 <= (seen[spec.name].oldest_age_s or 0) < PATIENCE_S

    # ---- limits

    def test_messages_expire(self, publisher: Publisher, read: Any) -> None:
        self.need("message_ttl")
        spec = QueueSpec(name=unique("ttl"), message_ttl_s=0.05)
        lasting = queue_named(unique("lasting"))
        publisher.publish_many([message(spec, b"short"), message(lasting, b"long")])
        publisher.publish(message(lasting, b"short", properties={"expiration": "50"}))
        task = message(lasting, b"task", headers={"task": "add"}, properties={"expiration": "50"})
        publisher.publish(task)
        assert read(queue_named(unique("clock"))).nothing(0.15)
        reader = read(lasting, spec)
        # The worker reports a task that expired; if the broker dropped it, it would just be missing.
        assert [each.body for each in reader.take(2)] == [b"long", b"task"]
        assert reader.nothing()

    def test_private_queues_go_with_their_reader(self, publisher: Publisher, read: Any, connect: Any) -> None:
        self.need("queue_expiry")
        exchange = event_exchange(unique("celeryev"))
        spec = event_queue(uuid4().hex, exchange=exchange)
        monitor = read(spec, no_ack=True)
        monitor.ask(lambda: None)
        connection = connect()
        connection.connect()
        assert spec.name in depth(connection, [spec.name])
        monitor.stop()
        assert depth(connection, [spec.name]) == {}
