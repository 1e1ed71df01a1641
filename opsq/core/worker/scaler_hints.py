"""What beats say of ticks to come, heard by a worker that scales itself: on a thread and a connection of its own.

Of all events only ``schedule-due`` are subscribed to, so a worker that hears them costs nothing else. A broker without
topics tells nothing, and slots then come when the tasks are there.
"""

from __future__ import annotations

import logging
import threading
import uuid
from functools import partial
from typing import Final

from opsq.broker.connection import open_connection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery
from opsq.broker.topology import event_exchange, event_queue
from opsq.chore import Chore
from opsq.settings import Settings
from opsq.wire.event import Event, parse_events, routing_key
from opsq.wire.schedule_hint import DUE, ScheduleHint, hint_of

log = logging.getLogger(__name__)

PREFETCH: Final = 100
RETRY_S: Final = 3.0
#: Names come from peers; of more entries than this, those are forgotten that were said longest ago.
MOST: Final = 1_000


class HintEars:
    """Keeps what was said last of each entry. Thread: its own hears; the methods from any.

    listening: set while it is subscribed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connect = partial(open_connection, settings, purpose="read")
        self._hints: dict[str, ScheduleHint] = {}
        self._consumer: Consumer | None = None
        self.listening = threading.Event()
        self._chore = Chore(
            "opsq-hints", self._listen, every_s=RETRY_S, failing="what schedules will send is not heard just now"
        )

    def start(self) -> None:
        """Listen in the background; a second call does nothing."""
        self._chore.start()

    def stop(self, timeout_s: float) -> bool:
        """Listen no longer; false when the thread still runs after ``timeout_s``."""
        consumer = self._consumer
        if consumer is not None:
            consumer.stop()
        return self._chore.stop(timeout_s)

    def heard(self) -> tuple[ScheduleHint, ...]:
        """The last hint of each entry, stale ones too."""
        return tuple(self._hints.copy().values())

    def receive(self, batch: list[Delivery]) -> None:
        """Take note of what was said; what cannot be read says nothing. Thread: the ears'."""
        for delivery in batch:
            for event in parse_events(delivery.body, delivery.content_type, delivery.content_encoding):
                # Where a broker cannot tell the kinds apart, all events come.
                hint = hint_of(event) if isinstance(event, Event) and event.kind == DUE else None
                if hint is not None:
                    self._hints.pop(hint.name, None)
                    self._hints[hint.name] = hint
        while len(self._hints) > MOST:
            del self._hints[next(iter(self._hints))]

    def _listen(self) -> None:
        """Receive until stopped. Raises: BrokerUnavailable."""
        connection = self._connect()
        try:
            connection.connect()
            if not connection.broker.features.topics:
                log.info("this broker has no events, so slots do not come ahead of schedules")
                while not self._chore.pause(RETRY_S):
                    pass
                return
            settings = self._settings
            queue = event_queue(
                str(uuid.uuid4()),
                exchange=event_exchange(settings.event_exchange, driver=connection.driver),
                prefix=settings.event_queue_prefix,
                routing_key=routing_key(DUE),
                message_ttl_s=settings.event_queue_ttl,
                expires_s=settings.event_queue_expires,
            )
            self._consumer = consumer = Consumer(
                connection, [queue], on_batch=self.receive, prefetch=PREFETCH, no_ack=True
            )
            consumer.call_soon(self.listening.set)
            if not self._chore.stopping:
                consumer.run()
        finally:
            self.listening.clear()
            self._consumer = None
            connection.close()
