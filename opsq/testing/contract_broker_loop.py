"""The broker contract, second part: settling, loss, and the consumer's loop."""

from __future__ import annotations

import queue
import time
from typing import Any

import pytest

from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.prefetch import Adaptive
from opsq.broker.publisher import Publisher
from opsq.broker.topology import QueueSpec, queue_named
from opsq.errors import BrokerUnavailable
from opsq.testing.broker_reader import PATIENCE_S, BrokerFixtures, message, unique


class ConsumerContract(BrokerFixtures):
    """Settling, redelivery, prefetch, pausing, stopping."""

    # ---- settling

    def test_acknowledged_messages_are_gone(
        self, publisher: Publisher, read: Any, connect: Any, spec: QueueSpec
    ) -> None:
        publisher.publish_many([message(spec, b"1"), message(spec, b"2")])
        reader = read(spec)
        reader.settle(*reader.take(2))
        assert reader.consumer.outstanding == 0
        reader.stop()
        assert read(spec).nothing()

    def test_requeued_messages_come_again(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish_many([message(spec, b"1"), message(spec, b"2"), message(spec, b"3")])
        reader = read(spec, prefetch=2)
        first, second = reader.take(2)
        reader.settle(first, how=Settle.REQUEUE)
        third = reader.take()[0]
        if self.features.head_requeue:
            assert third.body == b"1"
        while third.body != b"1":
            reader.settle(third)
            third = reader.take()[0]
        assert third.redelivered
        assert third.deliveries == (2 if self.features.counts_deliveries else None)
        reader.settle(second)

    def test_rejected_messages_are_dropped(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish(message(spec))
        reader = read(spec)
        reader.settle(*reader.take(), how=Settle.REJECT)
        reader.stop()
        assert read(spec).nothing()

    def test_settling_twice_is_counted_and_harmless(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish_many([message(spec, b"1"), message(spec, b"2")])
        reader = read(spec, prefetch=1)
        (first,) = reader.take()
        reader.settle(first)
        (second,) = reader.take()
        reader.consumer.settle([Settlement(first.tag), Settlement("nonsense"), Settlement(None)])
        reader.settle(second)
        assert reader.consumer.stats.stale == 3
        assert reader.consumer.stats.settled == 2

    def test_notes_travel_with_settlements(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish(message(spec))
        reader = read(spec)
        note = object()
        reader.consumer.settle([Settlement(reader.take()[0].tag, Settle.ACK, note)])
        assert reader.settled.get(timeout=PATIENCE_S).note is note

    def test_settling_wakes_the_sleeping_owner(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish_many([message(spec)] * 20)
        reader = read(spec, prefetch=1)
        waits = []
        for _ in range(20):
            (got,) = reader.take()
            reader.nothing(0.01)  # long enough for the owner to go to sleep
            started = time.monotonic()
            reader.settle(got)
            waits.append(time.monotonic() - started)
        assert sorted(waits)[10] < self.quick_s

    # ---- loss

    def test_unsettled_messages_come_again_after_a_stop(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish_many([message(spec, b"1"), message(spec, b"2")])
        reader = read(spec)
        first, _ = reader.take(2)
        reader.settle(first)
        reader.stop()
        (again,) = read(spec).take()
        assert (again.body, again.redelivered) == (b"2", True)

    def test_unsettled_messages_come_again_after_a_loss(
        self, publisher: Publisher, connect: Any, spec: QueueSpec
    ) -> None:
        publisher.publish_many([message(spec, b"1"), message(spec, b"2")])
        seen: list[Delivery] = []

        def lose(batch: list[Delivery]) -> None:
            seen.extend(batch)
            if len(seen) <= 2:
                raise BrokerUnavailable("pulled the plug")
            consumer.settle([Settlement(each.tag) for each in seen])

        def settled(_: list[Settlement]) -> None:
            if consumer.stats.settled == 2:
                consumer.stop()

        consumer = Consumer(connect(), [spec], on_batch=lose, on_settled=settled, prefetch=2)
        with pytest.raises(BrokerUnavailable, match="pulled the plug"):
            consumer.run()
        while consumer.stats.settled < 2:
            consumer.run()
        assert {each.body for each in seen[2:]} == {b"1", b"2"}
        assert all(each.redelivered for each in seen[2:])
        assert consumer.stats.stale >= 2, "a tag of the lost connection must not settle anything"

    # ---- the loop

    def test_prefetch_is_a_bound(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        publisher.publish_many([message(spec, str(number).encode()) for number in range(10)])
        reader = read(spec, prefetch=3)
        held = reader.take(3)
        assert reader.nothing()
        reader.settle(held[0])
        reader.take()
        assert reader.nothing()
        reader.consumer.set_prefetch(5)
        reader.take(2)
        assert reader.nothing()
        reader.consumer.set_held(1)
        reader.take()
        assert reader.consumer.outstanding == 6

    def test_adaptive_prefetch_grows_with_quick_work(self, publisher: Publisher, connect: Any, spec: QueueSpec) -> None:
        publisher.publish_many([message(spec)] * self.many)
        seen = 0

        def work(batch: list[Delivery]) -> None:
            consumer.settle([Settlement(each.tag) for each in batch])

        def settled(done: list[Settlement]) -> None:
            nonlocal seen
            seen += len(done)
            if seen == self.many:
                consumer.stop()

        consumer = Consumer(connect(), [spec], on_batch=work, on_settled=settled, prefetch=Adaptive(2))
        consumer.run()
        assert seen == self.many
        assert consumer.prefetch > 2

    def test_pause_and_resume(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        reader = read(spec)
        reader.consumer.pause()
        reader.ask(lambda: None)
        publisher.publish(message(spec))
        assert reader.nothing()
        reader.consumer.resume()
        reader.settle(*reader.take())

    def test_queues_come_and_go(self, publisher: Publisher, read: Any) -> None:
        one, two = queue_named(unique("one")), queue_named(unique("two"))
        reader = read(one)
        publisher.publish(message(two))
        assert reader.nothing()
        reader.consumer.add_queue(two)
        (got,) = reader.take()
        assert (got.queue, reader.consumer.queues) == (two.name, (one.name, two.name))
        reader.consumer.cancel_queue(two.name)
        reader.ask(lambda: None)
        publisher.publish(message(two))
        assert reader.nothing()
        publisher.publish(message(one, b"still read"))
        assert reader.take()[0].body == b"still read"
        reader.settle(got)

    def test_no_queue_starves(self, publisher: Publisher, read: Any) -> None:
        full, quiet = queue_named(unique("full")), queue_named(unique("quiet"))
        publisher.publish_many([message(full)] * (self.many // 5))
        reader = read(full, quiet, prefetch=10)
        publisher.publish(message(quiet))
        for _ in range(self.many // 10):
            (got,) = reader.take()
            if got.queue == quiet.name:
                break
            reader.settle(got)
        assert got.queue == quiet.name

    def test_ticks_come_when_asked(self, read: Any, spec: QueueSpec) -> None:
        ticks: queue.Queue[float] = queue.Queue()

        def tick() -> float:
            ticks.put(time.monotonic())
            return 0.05

        read(spec, on_tick=tick)
        at = [ticks.get(timeout=PATIENCE_S) for _ in range(4)]
        assert at[3] - at[0] >= 0.1

    def test_stop_is_safe_at_any_time(self, connect: Any, spec: QueueSpec, read: Any) -> None:
        consumer = Consumer(connect(), [spec], on_batch=lambda _: None)
        consumer.stop()
        consumer.run()
        reader = read(spec)
        reader.stop()
        reader.stop()
        assert reader.error is None
        reader.consumer.settle([Settlement((1, 1))])
        assert reader.consumer.stats.stale == 1

    def test_no_ack_forgets_by_itself(self, publisher: Publisher, read: Any, spec: QueueSpec) -> None:
        count = min(300, self.many)
        publisher.publish_many([message(spec)] * count)
        reader = read(spec, no_ack=True, prefetch=1)
        reader.take(count)
        reader.stop()
        assert read(spec).nothing()
