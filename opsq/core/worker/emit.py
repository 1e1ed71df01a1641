"""Announce what happens: a bounded buffer, and one thread with its own connection that empties it.

The event path may be slow, full or broken; the work must not notice. So nobody who emits ever waits
or sees an error: what cannot be kept is dropped and counted, and the numbering shows the gap.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Protocol

import msgspec

from opsq.broker.message import OutMessage
from opsq.broker.topology import event_exchange_of
from opsq.clock import Clock, LamportClock
from opsq.core.origin import Origin
from opsq.core.worker.event_buffer import EventBuffer, Fields, ReplayRing, Sent, Waiting, is_of_task
from opsq.core.worker.event_records import Sender
from opsq.errors import OpsqError
from opsq.settings import Settings
from opsq.wire.event import routing_key

log = logging.getLogger(__name__)

MESSAGES_PER_FLUSH = 16
RETRY_S = 1.0
EVENTS_DEADLINE_S = 5.0
NEVER = sys.maxsize
"""No number of waiting events wakes the thread: it is awake."""


class EventPublisher(Protocol):
    """What the emitter needs of a publisher."""

    def publish_many(self, messages: list[OutMessage]) -> Any:
        """Publish, or raise."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Emitter:
    """Sends events. Thread: ``emit`` from any; one thread of its own sends.

    about: current facts for ``worker-*`` events; ``None`` sends none of them, for an emitter inside a child process.
    on_flush: called before what waits is sent. task_events: switched by remote control; heartbeats do not
    depend on it.
    """

    def __init__(
        self,
        hostname: str,
        publisher: EventPublisher,
        settings: Settings,
        about: Callable[[], Fields] | None,
        clock: Clock,
        lamport: LamportClock,
    ) -> None:
        self.hostname = hostname
        self.id = str(uuid.uuid4())
        self.task_events = settings.worker_send_task_events
        self.sent = 0
        self.failures = 0
        self.buffer = EventBuffer(settings.event_buffer_size)
        self.ring = ReplayRing(settings.event_replay_size)
        self._publisher = publisher
        self._about = about
        self._clock = clock
        self._lamport = lamport
        self._exchange = event_exchange_of(settings)
        self._batch = settings.event_batch_size
        self._interval_s = settings.event_flush_interval
        self._beat_every_s = settings.worker_heartbeat_interval if about is not None else 0.0
        self.sender = Sender(hostname, os.getpid(), Origin().utcoffset_h, self.id, settings.task_version)
        self._common: Fields = {
            name: value for name, value in msgspec.structs.asdict(self.sender).items() if name != "version"
        }
        self.on_flush: Callable[[], None] | None = None
        self._headers = {"hostname": hostname}
        self._unsent: list[OutMessage] = []
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._wake_at = NEVER
        self._beat_asked = False
        self._called = False
        self._thread: threading.Thread | None = None

    def emit(self, kind: str, fields: Fields) -> None:
        """Queue a task event; ``fields`` holds ``uuid`` and ``timestamp`` and is given away."""
        self.emit_record({"type": kind, **fields})

    def emit_record(self, event: Waiting) -> None:
        """Queue a task event, as one of the records of an ordinary run or as fields with its type."""
        if self.task_events and self.buffer.put(event) >= self._wake_at:
            self._wake.set()

    def start(self) -> None:
        """Start the thread; its first event is ``worker-online``."""
        self._thread = threading.Thread(target=self._main, name="opsq-emitter", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Send what is left and ``worker-offline``, as far as ``deadline`` (monotonic seconds) allows."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - self._clock.monotonic()))
            if self._thread.is_alive():
                log.warning("events are left unsent at the deadline", extra={"waiting": len(self.buffer)})

    def announce(self, kind: str) -> None:
        """Queue a ``worker-*`` event with the current facts."""
        if self._about is None:
            return
        fields = self._about()
        if self.sender.version is not None:
            fields["version"] = self.sender.version
        fields.update(
            timestamp=self._clock.now(),
            freq=self._beat_every_s,
            dropped=self.buffer.dropped,
            failures=self.failures,
        )
        self.buffer.put({"type": kind, **fields})

    def wake(self) -> None:
        """Have ``on_flush`` called soon. Thread: any."""
        self._called = True
        if self._wake_at == 1:
            self._wake.set()

    def beat_now(self) -> None:
        """Send a heartbeat soon, whatever the interval. Thread: any."""
        self._beat_asked = True
        self._wake.set()

    def _main(self) -> None:
        self.announce("worker-online")
        self._flush()
        beat_at = self._clock.monotonic() + self._beat_every_s
        while not self._stopping.is_set():
            self._sleep(beat_at)
            if (len(self.buffer) or self._called) and not self._stopping.is_set():
                self._gather()
            if self._beat_asked or (self._beat_every_s and self._clock.monotonic() >= beat_at):
                self._beat_asked = False
                self.announce("worker-heartbeat")
                beat_at = self._clock.monotonic() + self._beat_every_s
            if not self._flush():
                self._stopping.wait(RETRY_S)
        self.announce("worker-offline")
        self._flush()
        self._publisher.close()

    def _sleep(self, beat_at: float) -> None:
        if self._unsent:
            return
        self._wake_at = 1
        # Looked at after the flag is up: an event put before that would wake nobody.
        if not len(self.buffer) and not self._called and not self._stopping.is_set():
            self._wake.wait(max(0.0, beat_at - self._clock.monotonic()) if self._beat_every_s else None)
        self._wake_at = NEVER
        self._wake.clear()

    def _gather(self) -> None:
        """Wait for company, but not beyond a full batch: events that have just been made are still in the cache."""
        self._wake_at = self._batch
        if len(self.buffer) < self._batch:
            self._wake.wait(self._interval_s)
        self._wake_at = NEVER
        self._wake.clear()

    def _flush(self) -> bool:
        """Send everything that waits; false when the broker did not take it."""
        self._called = False
        if self.on_flush is not None:
            self.on_flush()
        waiting = len(self.buffer) > 0
        while self._unsent or waiting:
            while len(self._unsent) < MESSAGES_PER_FLUSH and len(self.buffer):
                self._unsent.extend(self._messages())
            try:
                self._publisher.publish_many(self._unsent)
            except (OpsqError, OSError) as exc:
                self.failures += 1
                log.warning("events could not be sent and wait", extra={"error": str(exc), "waiting": len(self.buffer)})
                return False
            except Exception:  # boundary: a bug here may cost events, never the worker
                self.failures += 1
                log.exception("events could not be sent and are dropped")
            self._unsent = []
            # Fewer than a batch came meanwhile: they wait for company again, but for the last ones.
            waiting = len(self.buffer) >= (1 if self._stopping.is_set() else self._batch)
        return True

    def _messages(self) -> list[OutMessage]:
        """Encode one batch: task events as one array, each worker event by itself."""
        size = min(self._batch, len(self.buffer))
        taken = self.buffer.take(size, self._common, self._lamport.tick(size))
        events = taken.events
        if not events:
            return []
        whole = _encoded(events)
        if taken.of_tasks:
            messages = [self._message(whole, "task.multi")]
        else:
            messages = [message for run in groupby(events, is_of_task) for message in self._apart(*run)]
        self.sent += len(events)
        self.ring.add(Sent(taken.first, taken.first + len(events) - 1, whole))
        return messages

    def _apart(self, of_tasks: bool, events: Iterable[Waiting]) -> list[OutMessage]:
        if of_tasks:
            return [self._message(_encoded(list(events)), "task.multi")]
        return [
            self._message(_encoded(event), routing_key(event["type"])) for event in events if isinstance(event, dict)
        ]

    def _message(self, body: bytes, routing_key: str) -> OutMessage:
        return OutMessage(
            body=body,
            content_type="application/json",
            content_encoding="utf-8",
            headers=self._headers,
            properties={"delivery_mode": 1, "priority": 0},
            exchange=self._exchange.name,
            routing_key=routing_key,
            # Celery's monitors do not say what kind of exchange it is, and RabbitMQ refuses one that nobody declared.
            declare=self._exchange,
        )


def _encoded(events: list[Waiting] | Fields) -> bytes:
    """Write events as one JSON array, or one as an object; a field that JSON cannot hold is written as text."""
    return _ENCODER.encode(events)


_ENCODER = msgspec.json.Encoder(enc_hook=str)
