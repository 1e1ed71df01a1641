"""``app.events``: receive and send events with Celery's names, ``Receiver``, ``Dispatcher`` and ``State``.

For programs of one's own, a camera or a bridge to another system; the monitor has its own way of receiving, which keeps
up with floods and counts what is lost.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opsq import plugins
from opsq.broker.message import Delivery
from opsq.broker.topology import event_exchange, event_queue
from opsq.errors import BrokerUnavailable
from opsq.wire.event import Event, event_to_wire, parse_events

if TYPE_CHECKING:
    from opsq.core.app import Opsq

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], Any]
EVERYTHING: Final = "*"
PREFETCH: Final = 1_000
RETRY_S: Final = 1.0


class Events:
    """The events of one app. Thread: any."""

    def __init__(self, app: Opsq) -> None:
        self._app = app

    def Receiver(
        self, connection: Any = None, handlers: Mapping[str, Handler] | None = None, **_: Any
    ) -> EventReceiver:
        """A receiver that calls ``handlers`` by the event's type; ``*`` gets those of no other handler.

        connection: accepted for Celery's sake; the receiver opens its own, and again when that is lost.
        """
        return EventReceiver(self._app, handlers or {})

    def Dispatcher(self, connection: Any = None, hostname: str | None = None, **_: Any) -> EventDispatcher:
        """A dispatcher that sends events as ``hostname``, by default as this process."""
        return EventDispatcher(self._app, hostname)

    @contextmanager
    def default_dispatcher(self, hostname: str | None = None, **_: Any) -> Iterator[EventDispatcher]:
        """A dispatcher for the block."""
        yield EventDispatcher(self._app, hostname)

    def State(self, callback: Callable[[Any, dict[str, Any]], Any] | None = None, **limits: Any) -> Any:
        """What events have told, in memory: an ``opsq.events.state.State``."""
        make: Any = plugins.resolve("opsq.events.state:State")
        return make(callback, **limits)


class EventReceiver:
    """Receives events until told to stop. Thread: ``capture`` runs in the caller's; ``should_stop`` from any."""

    def __init__(self, app: Opsq, handlers: Mapping[str, Handler]) -> None:
        self._app = app
        self.handlers = dict(handlers)
        self.should_stop = False
        self.malformed = 0
        self._consumer: Any = None
        self._left: int | None = None
        self._until: float | None = None
        self._timed_out = False

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Receive ``limit`` events, or for ever; ``timeout``: longest silence, in seconds.

        wakeup: ask workers for a heartbeat first, so that they are known at once.
        Raises: TimeoutError after such a silence, BrokerUnavailable when the broker is not there at the start.
        """
        self._left, self.should_stop, self._timed_out = limit, False, False
        first = True
        while not self.should_stop:
            try:
                self._receive(timeout, wakeup and first)
            except BrokerUnavailable as error:
                if first:
                    raise
                log.warning("no events are received just now, trying again", extra={"error": str(error)})
                time.sleep(RETRY_S)
            first = False
        if self._timed_out:
            raise TimeoutError(f"no event came for {timeout} s")

    def stop(self) -> None:
        """Make ``capture`` return. Thread: any."""
        self.should_stop = True
        if self._consumer is not None:
            self._consumer.stop()

    def process(self, type: str, event: dict[str, Any]) -> None:
        """Hand an event to its handler."""
        handler = self.handlers.get(type) or self.handlers.get(EVERYTHING)
        if handler is not None:
            handler(event)

    def wakeup_workers(self) -> None:
        """Ask workers for a heartbeat."""
        self._app.control.heartbeat()

    def _receive(self, timeout: float | None, wakeup: bool) -> None:
        make: Any = plugins.resolve("opsq.broker.consumer:Consumer")
        settings, connection = self._app.settings, self._app.connection("read")
        connection.connect()
        try:
            queue = event_queue(
                str(uuid.uuid4()),
                exchange=event_exchange(settings.event_exchange, driver=connection.driver),
                prefix=settings.event_queue_prefix,
                message_ttl_s=settings.event_queue_ttl,
                expires_s=settings.event_queue_expires,
            )
            self._until = None if timeout is None else time.monotonic() + timeout
            consumer = self._consumer = make(
                connection, [queue], on_batch=lambda batch: self._on_batch(batch, timeout), on_tick=self._on_tick,
                prefetch=PREFETCH, no_ack=True,
            )  # fmt: skip
            if wakeup:
                consumer.call_soon(self.wakeup_workers)
            if not self.should_stop:
                consumer.run()
        finally:
            self._consumer = None
            connection.close()

    def _on_batch(self, batch: list[Delivery], timeout: float | None) -> None:
        for delivery in batch:
            for event in parse_events(delivery.body, delivery.content_type, delivery.content_encoding):
                if not isinstance(event, Event):
                    self.malformed += 1
                    continue
                if self.should_stop:
                    return
                told = {**event_to_wire(event), "local_received": time.time()}
                self.process(event.kind, told)
                if self._left is not None:
                    self._left -= 1
                    if self._left <= 0:
                        self.stop()
        self._until = None if timeout is None else time.monotonic() + timeout

    def _on_tick(self) -> float | None:
        if self._until is None:
            return None
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            self._timed_out = True
            self.stop()
        return max(left_s, 0.0)


class EventDispatcher:
    """Sends events. Thread: any. hostname: whose they are."""

    def __init__(self, app: Opsq, hostname: str | None = None) -> None:
        self._app = app
        self.hostname = hostname or app.origin.name
        self.enabled = True

    def send(self, type: str, **fields: Any) -> None:
        """Send one event, unless disabled. Raises: BrokerUnavailable, UsageError for a field that JSON cannot hold."""
        if not self.enabled:
            return
        message = self._app.caller.own_event_message(type, {"hostname": self.hostname, **fields})
        self._app.publisher.publish(message)

    def enable(self) -> None:
        """Send from now on."""
        self.enabled = True

    def disable(self) -> None:
        """Send nothing from now on."""
        self.enabled = False

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> EventDispatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
