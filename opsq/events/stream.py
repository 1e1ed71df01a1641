"""Events from the broker: one thread that receives, a bounded queue, and counts of all that went wrong.

The thread does as little as it can, so that the broker never finds a slow subscriber: it takes message bodies off
the connection and queues them. Parsing happens on the side of whoever calls ``take``. When the queue is full the
oldest messages go; of their events those with a number are missed by the sequence ledger, the others are counted here.
"""

from __future__ import annotations

import logging
import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import BATCH, Consumer
from opsq.broker.message import Delivery
from opsq.broker.notices import NO_EVENTS
from opsq.broker.topology import event_exchange, event_queue
from opsq.clock import Clock, SystemClock
from opsq.errors import BrokerUnavailable
from opsq.wire.event import Event, Malformed, parse_events

log = logging.getLogger(__name__)

PREFETCH: Final = 1_000
#: So long no message is looked for after some have come. In a flood the next look finds many; without the pause each
#: message would wake the thread, and each waking takes the interpreter from the fold.
PAUSE_S: Final = 0.01
FIRST_RETRY_S: Final = 0.5
#: A broker that is back is heard again well within five seconds, however long it was away.
LONGEST_RETRY_S: Final = 3.0


class Receiver(Protocol):
    """What is needed of a consumer: ``opsq.broker.consumer.Consumer`` on a connection of its own."""

    def run(self) -> None:
        """Receive until stopped. Raises BrokerUnavailable."""
        ...

    def call_soon(self, call: Callable[[], None]) -> None:
        """Have ``run`` call this once it receives. Thread: any."""
        ...

    def stop(self) -> None:
        """Make ``run`` return. Thread: any."""
        ...


#: Connects, and makes a receiver that gives batches to the function; the second value closes the connection.
Connect = Callable[[Callable[[list[Delivery]], None]], tuple[Receiver, Callable[[], None]]]


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How receiving goes. stale_since_at: not connected since (epoch seconds). dropped: events without a number
    that were dropped because the queue was full; overflowed: messages dropped."""

    connected: bool
    stale_since_at: float | None
    reason: str
    reconnects: int
    received: int
    waiting: int
    overflowed: int
    dropped: int


class Stream:
    """Receives events until stopped, through every loss of the connection.

    max_events: how many may wait to be taken. Thread: ``take`` and ``status`` from any, receiving in its own.
    """

    def __init__(self, connect: Connect, *, max_events: int = 500_000, clock: Clock | None = None) -> None:
        self._connect = connect
        self._max_events = max_events
        self._clock = clock or SystemClock()
        self._waiting: deque[tuple[int, Delivery]] = deque()
        self._inserted: deque[Event | Malformed] = deque(maxlen=max_events)
        self._events_waiting = 0
        self._ready = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._receiver: Receiver | None = None
        self._stale_since_at: float | None = self._clock.now()
        self._reason = "not connected yet"
        self._reconnects = self._received = self._overflowed = self._dropped = 0
        self._dropped_untold = 0

    def start(self) -> None:
        """Start receiving; a second call does nothing."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._main, name="opsq-events", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop receiving; false when the thread still runs after ``timeout_s``. May be called twice, or unstarted."""
        self._stopping.set()
        receiver = self._receiver
        if receiver is not None:
            receiver.stop()
        with self._ready:
            self._ready.notify_all()
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def take(self, timeout_s: float, most: int = 10_000) -> list[Event | Malformed]:
        """Wait up to ``timeout_s`` for events, then parse and return about ``most`` of them at most."""
        with self._ready:
            if not self._waiting and not self._inserted and not self._stopping.is_set():
                self._ready.wait(timeout_s)
            taken: list[Delivery] = []
            room = most
            while self._waiting and room > 0:
                count, delivery = self._waiting.popleft()
                self._events_waiting -= count
                room -= count
                taken.append(delivery)
        events: list[Event | Malformed] = []
        for delivery in taken:
            events += parse_events(delivery.body, delivery.content_type, delivery.content_encoding)
        return events

    def insert(self, events: Sequence[Event | Malformed]) -> None:
        """Queue events that came another way: those of a replay, and what workers say when asked. Thread: any."""
        with self._ready:
            self._inserted.extend(events)
            self._ready.notify_all()

    def take_inserted(self) -> list[Event | Malformed]:
        """What was inserted since the last call."""
        with self._ready:
            events = list(self._inserted)
            self._inserted.clear()
        return events

    def take_dropped(self) -> int:
        """Events without a number that were dropped since the last call."""
        with self._ready:
            count, self._dropped_untold = self._dropped_untold, 0
        return count

    def status(self) -> StreamStatus:
        """How receiving goes."""
        with self._ready:
            return StreamStatus(
                connected=self._stale_since_at is None,
                stale_since_at=self._stale_since_at,
                reason=self._reason,
                reconnects=self._reconnects,
                received=self._received,
                waiting=self._events_waiting,
                overflowed=self._overflowed,
                dropped=self._dropped,
            )

    def wake(self) -> None:
        """Make a waiting ``take`` return. Thread: any."""
        with self._ready:
            self._ready.notify_all()

    def receive(self, batch: list[Delivery]) -> None:
        """Queue a batch. Thread: the receiving one."""
        # Counted before the lock is taken: the fold would wait for it.
        counted = [(max(1, delivery.body.count(b'"type"')), delivery) for delivery in batch]
        with self._ready:
            for count, delivery in counted:
                self._received += count
                self._events_waiting += count
                self._waiting.append((count, delivery))
                while self._events_waiting > self._max_events and len(self._waiting) > 1:
                    lost, oldest = self._waiting.popleft()
                    self._events_waiting -= lost
                    self._overflowed += 1
                    unnumbered = max(0, lost - oldest.body.count(b'"seq"'))
                    self._dropped += unnumbered
                    self._dropped_untold += unnumbered
            self._ready.notify_all()

    # -- the receiving thread ------------------------------------------------------------------------------------------

    def _main(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            began_at = self._clock.monotonic()
            try:
                self._run_once()
            except BrokerUnavailable as error:
                self._lost(str(error))
            except Exception as error:  # boundary: a bug below must not end monitoring silently
                log.exception("receiving events failed and is tried again")
                self._lost(f"{type(error).__name__}: {error}")
            else:
                self._lost("the connection was closed")
            if self._clock.monotonic() - began_at > LONGEST_RETRY_S:
                retry_s = FIRST_RETRY_S
            # Many monitors of one broker must not come back in step.
            self._stopping.wait(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    def _run_once(self) -> None:
        receiver, close = self._connect(self._hear)
        try:
            self._receiver = receiver
            if self._stopping.is_set():
                return
            # Not yet: an event that is published before the queue is bound reaches nobody.
            receiver.call_soon(self._found)
            receiver.run()
        finally:
            self._receiver = None
            close()

    def _hear(self, batch: list[Delivery]) -> None:
        self.receive(batch)
        if len(batch) < BATCH:  # else there is more
            self._stopping.wait(PAUSE_S)

    def _found(self) -> None:
        with self._ready:
            self._stale_since_at, self._reason = None, ""
        log.info("receiving events")

    def _lost(self, reason: str) -> None:
        if self._stopping.is_set():
            return
        with self._ready:
            if self._stale_since_at is None:
                self._stale_since_at = self._clock.now()
                self._reconnects += 1
            self._reason = reason
        log.warning("events are not received", extra={"reason": reason})


def connector(
    open_connection: Callable[[], BrokerConnection],
    *,
    exchange: str = "celeryev",
    prefix: str = "celeryev",
    message_ttl_s: float | None = 5.0,
    expires_s: float | None = 60.0,
) -> Connect:
    """How a stream reaches a broker: a private queue that ends with its connection, bound to every event."""

    def connect(on_batch: Callable[[list[Delivery]], None]) -> tuple[Receiver, Callable[[], None]]:
        connection = open_connection()
        try:
            connection.connect()
            if not connection.broker.features.topics:
                raise BrokerUnavailable(f"broker {connection.sanitised_url}: {NO_EVENTS}")
            queue = event_queue(
                str(uuid.uuid4()),
                exchange=event_exchange(exchange, driver=connection.driver),
                prefix=prefix,
                message_ttl_s=message_ttl_s,
                expires_s=expires_s,
            )
            return Consumer(connection, [queue], on_batch=on_batch, prefetch=PREFETCH, no_ack=True), connection.close
        except BaseException:
            connection.close()
            raise

    return connect
