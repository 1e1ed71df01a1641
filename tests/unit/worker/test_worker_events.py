"""What a worker announces: in the buffer, on the wire, and to a monitor that listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from opsq import Opsq
from opsq.broker.connection import open_connection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, OutMessage
from opsq.broker.topology import event_queue
from opsq.clock import LamportClock, SystemClock
from opsq.core.worker.emit import Emitter
from opsq.core.worker.event_buffer import EventBuffer, ReplayRing, Sent
from opsq.errors import BrokerUnavailable
from opsq.settings import Settings
from opsq.testing.harness import running_worker, send_raw
from opsq.wire.event import EVENT_KINDS, Event, parse_events

PATIENCE_S = 60.0


class Listener:
    """A monitor's ear."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.keys: set[str] = set()
        self.changed = threading.Condition()

    def on_batch(self, deliveries: list[Delivery]) -> None:
        with self.changed:
            for delivery in deliveries:
                self.keys.add(delivery.routing_key)
                for event in parse_events(delivery.body, delivery.content_type):
                    assert isinstance(event, Event), event
                    self.events.append(event)
            self.changed.notify_all()

    def wait(self, kind: str, times: int = 1) -> Event:
        def found() -> list[Event]:
            return [event for event in self.events if event.kind == kind]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= times, PATIENCE_S), [e.kind for e in self.events]
            return found()[times - 1]

    def of(self, task_id: str) -> list[Event]:
        return [event for event in self.events if event.uuid == task_id]


@contextmanager
def listening(app: Opsq) -> Iterator[Listener]:
    listener, ready = Listener(), threading.Event()
    connection = open_connection(app.settings, purpose="read")
    consumer = Consumer(connection, [event_queue("test")], on_batch=listener.on_batch, prefetch=1000, no_ack=True)
    consumer.call_soon(ready.set)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    try:
        assert ready.wait(PATIENCE_S)
        yield listener
    finally:
        consumer.stop()
        thread.join(PATIENCE_S)
        connection.close()


def test_the_course_of_a_task(app: Opsq) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    with listening(app) as ear:
        with running_worker(app, pool="threads", concurrency=1) as worker:
            result = add.delay(2, 3)
            ear.wait("task-succeeded")
            online = ear.wait("worker-online")
        ear.wait("worker-offline")
    assert [event.kind for event in ear.of(result.id)] == [
        "task-sent", "task-received", "task-started", "task-succeeded",
    ]  # fmt: skip
    sent, received, started, succeeded = ear.of(result.id)
    assert received.fields["args"] == "(2, 3)"
    assert (succeeded.fields["result"], succeeded.fields["name"], succeeded.fields["attempt"]) == ("5", add.name, 1)
    times = [
        sent.fields["published_at"], received.fields["delivered_at"], started.fields["slot_at"],
        succeeded.fields["started_at"], succeeded.fields["finished_at"], succeeded.fields["acked_at"],
    ]  # fmt: skip
    assert times == sorted(times)
    assert {event.emitter for event in (received, started, succeeded, online)} == {online.emitter}
    ours = [event for event in ear.events if event.emitter == online.emitter]
    assert [event.seq for event in ours] == list(range(1, len(ours) + 1))
    assert online.fields["slots"] == 1
    assert online.hostname == worker.worker.hostname
    assert {"task.multi", "worker.online", "worker.offline"} <= ear.keys


def test_every_field_is_in_the_table(app: Opsq) -> None:
    @app.task
    def work(fail: bool) -> None:
        if fail:
            raise ValueError("boom")

    with listening(app) as ear, running_worker(app, pool="threads", concurrency=1):
        work.delay(False)
        work.delay(True)
        app.send_task("gone")
        ear.wait("task-succeeded")
        ear.wait("task-failed", 2)
    extra = {"freq", "failures"}
    for event in ear.events:
        known = {field.name for field in EVENT_KINDS[event.kind].fields}
        assert set(event.fields) <= known | extra, event.kind
    failed = next(event for event in ear.events if event.kind == "task-failed" and "traceback" in event.fields)
    assert "boom" in failed.fields["exception"]
    assert len(failed.fields["fingerprint"]) == 16


def test_a_task_may_be_silent(app: Opsq) -> None:
    @app.task(send_events=False)
    def quiet() -> None:
        """Nothing to see."""

    with listening(app) as ear:
        with running_worker(app, pool="threads", concurrency=1) as worker:
            worker.wait("settled", quiet.delay().id)
        ear.wait("worker-offline")
    assert not [event for event in ear.events if event.kind.startswith("task-")]


def test_a_full_buffer_drops_the_oldest_and_shows_the_gap() -> None:
    buffer = EventBuffer(3)
    for n in range(5):
        buffer.put({"type": "task-x", "n": n})
    assert (len(buffer), buffer.dropped) == (3, 2)
    taken = buffer.take(10, {"hostname": "h"}, 70)
    assert (taken.first, taken.of_tasks) == (3, True)
    assert taken.events == [
        {"hostname": "h", "type": "task-x", "seq": seq, "n": seq - 1, "clock": seq + 67} for seq in (3, 4, 5)
    ]
    buffer.put({"type": "task-x", "n": 5})
    assert buffer.take(10, {}, 73).events[0]["seq"] == 6


def test_the_ring_keeps_the_last_ones() -> None:
    ring = ReplayRing(max_events=10)
    for n in range(0, 30, 5):
        ring.add(Sent(n + 1, n + 5, b"x"))
    assert [sent.first for sent in ring.replay(1, 100)] == [21, 26]
    assert [sent.first for sent in ring.replay(1, 24)] == [21]
    small = ReplayRing(max_events=1000, max_bytes=10)
    small.add(Sent(1, 1, b"x" * 8))
    small.add(Sent(2, 2, b"x" * 8))
    assert [sent.first for sent in small.replay(0, 9)] == [2]


class Unreachable:
    """A publisher whose broker is away until it is told otherwise."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.tried = threading.Event()
        self.sent: list[OutMessage] = []
        self.closed = False

    def publish_many(self, messages: list[OutMessage]) -> None:
        self.tried.set()
        if not self.there.is_set():
            raise BrokerUnavailable("away")
        self.sent += messages

    def close(self) -> None:
        self.closed = True


def emitter_on(publisher: Unreachable, **settings: float) -> Emitter:
    made = Settings().replace(event_flush_interval=0.001, worker_heartbeat_interval=0.0, **settings)
    return Emitter("w@h", publisher, made, dict, SystemClock(), LamportClock())


def test_events_wait_for_the_broker() -> None:
    publisher = Unreachable()
    emitter = emitter_on(publisher)
    emitter.start()
    assert publisher.tried.wait(PATIENCE_S)
    emitter.emit("task-received", {"uuid": "a", "timestamp": 1.0})
    publisher.there.set()
    emitter.stop(SystemClock().monotonic() + PATIENCE_S)
    events = [event for message in publisher.sent for event in parse_events(message.body)]
    assert [event.kind for event in events if isinstance(event, Event)] == [
        "worker-online",
        "task-received",
        "worker-offline",
    ]
    assert (publisher.closed, emitter.failures >= 1) == (True, True)


@pytest.mark.parametrize("started", [True, False])
def test_stopping_an_emitter(started: bool) -> None:
    publisher = Unreachable()
    emitter = emitter_on(publisher)
    if started:
        emitter.start()
    for _ in range(2):
        emitter.stop(SystemClock().monotonic() + 0.2)


def test_switched_off() -> None:
    emitter = emitter_on(Unreachable())
    emitter.task_events = False
    emitter.emit("task-received", {"uuid": "a", "timestamp": 1.0})
    assert len(emitter.buffer) == 0


def test_what_is_set_aside_is_announced(app: Opsq) -> None:
    with listening(app) as ear, running_worker(app, pool="threads", concurrency=1):
        send_raw(app, b"{}", {})
        rejected = ear.wait("task-rejected")
    assert rejected.fields["quarantined"] == "malformed"
    assert rejected.fields["requeue"] is False
    assert rejected.uuid, "what `opsq quarantine show` takes"
