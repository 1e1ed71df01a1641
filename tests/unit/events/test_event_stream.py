"""Receiving: bounded, counted, reconnecting, stoppable."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import BATCH
from opsq.broker.message import Delivery, OutMessage
from opsq.broker.publisher import Publisher
from opsq.errors import BrokerUnavailable
from opsq.events.stream import PAUSE_S, Receiver, Stream, connector
from opsq.wire.event import Event, encode_events


def delivery(*kinds: str, seq: int | None = None) -> Delivery:
    """A message of events."""
    number = {} if seq is None else {"seq": seq, "emitter": "e"}
    body = encode_events([{"type": kind, "hostname": "h", "timestamp": 1.0, "uuid": "t", **number} for kind in kinds])
    return Delivery(body, "application/json", "utf-8", {}, {}, "celeryev", "task.multi", 0)


class Script:
    """A connection that does what each step says, then stays."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.steps = list(steps)
        self.closed = 0
        self.staying = threading.Event()
        self.stopped = threading.Event()
        self.give: Callable[[list[Delivery]], None] = lambda batch: None
        self.soon: list[Callable[[], None]] = []

    def connect(self, on_batch: Callable[[list[Delivery]], None]) -> tuple[Receiver, Callable[[], None]]:
        self.give = on_batch
        return self, self.close

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def run(self) -> None:
        while self.soon:
            self.soon.pop(0)()
        if self.steps:
            self.steps.pop(0)()
            return
        self.staying.set()
        self.stopped.wait(30)

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed += 1


def _refuse() -> None:
    raise BrokerUnavailable("no route to broker")


def _bug() -> None:
    raise RuntimeError("bug")


def test_it_comes_back_after_every_kind_of_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, ended and broken connections are tried again, and the reason is kept meanwhile."""
    monkeypatch.setattr("opsq.events.stream.FIRST_RETRY_S", 0.001)
    script = Script(_refuse, lambda: None, _bug)
    stream = Stream(script.connect)
    assert stream.status().stale_since_at is not None
    stream.start()
    stream.start()
    assert script.staying.wait(30)
    status = stream.status()
    assert (status.connected, status.stale_since_at, status.reconnects) == (True, None, 3)
    script.give([delivery("task-started", "task-failed")])
    assert [one.kind for one in stream.take(5) if isinstance(one, Event)] == ["task-started", "task-failed"]
    assert stream.stop(10)
    assert stream.stop(10)
    assert script.closed == 4


def test_it_stops_before_it_started() -> None:
    """Half-started things stop too."""
    stream = Stream(Script().connect)
    assert stream.stop()
    stream.start()
    assert stream.take(5) == []


def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    """Events with a number are left to the sequence ledger."""
    stream = Stream(Script().connect, max_events=4)
    stream.receive([delivery("task-started", "task-failed")])
    stream.receive([delivery("task-started", "task-failed", seq=1)])
    stream.receive([delivery("task-revoked", "task-failed"), delivery("task-retried")])
    status = stream.status()
    assert (status.overflowed, status.dropped, status.waiting, status.received) == (2, 2, 3, 7)
    assert (stream.take_dropped(), stream.take_dropped()) == (2, 0)
    assert [one.kind for one in stream.take(0) if isinstance(one, Event)] == [
        "task-revoked",
        "task-failed",
        "task-retried",
    ]


def test_take_gives_about_what_it_is_asked_for() -> None:
    """A backlog is worked off in pieces."""
    stream = Stream(Script().connect)
    stream.receive([delivery("task-started", "task-failed") for _ in range(10)])
    assert len(stream.take(0, most=5)) == 6
    assert stream.status().waiting == 14


class Pauses(threading.Event):
    """Notes pauses instead of making them."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Note it."""
        self.made.append(timeout)
        return self.is_set()


def test_a_full_batch_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After any other a moment passes, so that a flood is read many messages at a time."""
    script = Script()
    stream = Stream(script.connect)
    pauses = Pauses()
    monkeypatch.setattr(stream, "_stopping", pauses)
    script.stop()
    stream._run_once()
    one = delivery("task-started")
    script.give([one] * BATCH)
    assert pauses.made == []
    script.give([one])
    assert pauses.made == [PAUSE_S]
    assert stream.status().received == BATCH + 1


def test_events_of_a_real_broker_arrive() -> None:
    """kombu's memory transport: published to the exchange, received from a private queue."""

    def connection() -> BrokerConnection:
        return BrokerConnection("memory://")

    stream = Stream(connector(connection, exchange="celeryev"))
    publisher = Publisher(connection)
    message = delivery("task-started")
    stream.start()
    received: list[object] = []
    try:
        for _ in range(200):
            publisher.publish(
                OutMessage(
                    body=message.body,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers={"hostname": "h"},
                    exchange="celeryev",
                    routing_key="task.multi",
                )
            )
            received += stream.take(0.05)
            if received:
                break
        assert isinstance(received[0], Event)
        assert received[0].kind == "task-started"
    finally:
        publisher.close()
        assert stream.stop(10)
