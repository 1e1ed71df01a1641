"""Deliveries whose time is far away go back to the broker, which delivers them when it has come.

A stock client on RabbitMQ puts a task for tomorrow straight into the queue. Held here until then it would
run into RabbitMQ's consumer_timeout, which takes the whole channel with it. So it is published again, by
way of the delays that the broker waits for, and acknowledged when the broker has confirmed that: a crash
between the two makes two of it, never none. Until then, and if it cannot be done, it is held like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from opsq.broker.message import OutMessage
from opsq.broker.registry import find_broker
from opsq.broker.topology import QueueSpec
from opsq.core.worker.ledger import Entry, Ledger
from opsq.core.worker.quarantine import message_again
from opsq.errors import OpsqError
from opsq.settings import Settings

log = logging.getLogger(__name__)

_CAN_WAIT: Final = frozenset({"amqp", "amqps"})
Work = Callable[[], None]


class Way(Protocol):
    """What putting off needs of a publisher."""

    def publish_many(self, messages: Sequence[OutMessage], *, deadline_s: float | None = None) -> None:
        """Send them all."""
        ...

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the broker has confirmed everything."""
        ...


class PutOff:
    """Publishes entries again as delayed messages.

    after_s: a delay longer than this is the broker's. later: runs work on a thread that may wait for the
    broker. queues: as this worker declares them.
    """

    def __init__(
        self,
        after_s: float,
        ledger: Ledger,
        later: Callable[[Work], None],
        publisher: Callable[[], Way],
        queues: Callable[[], Sequence[QueueSpec]],
    ) -> None:
        self.after_s = after_s
        self._ledger = ledger
        self._later = later
        self._publisher = publisher
        self._queues = queues

    def __call__(self, entries: Sequence[Entry], confirmed: Callable[[list[Entry]], None]) -> None:
        """Do so soon; ``confirmed`` gets, on another thread, those that the broker has now. Thread: the owner's."""
        self._later(lambda: self._work(entries, confirmed))

    def _work(self, entries: Sequence[Entry], confirmed: Callable[[list[Entry]], None]) -> None:
        ledger, going, messages = self._ledger, [], []
        queues = {spec.name: spec for spec in self._queues()}
        for entry in entries:
            spec = queues.get(entry.queue or "")
            # Gone meanwhile: revoked, given back, or its connection is lost and the broker delivers it again.
            if spec is not None and ledger.get(entry.key) is entry and entry.generation == ledger.generation:
                going.append(entry)
                messages.append(delayed_again(entry, spec))
        if not going:
            return
        try:
            publisher = self._publisher()
            publisher.publish_many(messages)
            publisher.flush()
        except OpsqError as exc:
            ledger.count("not_put_off", len(going))
            log.warning(
                "tasks for later could not be left to the broker and are held here",
                extra={"count": len(going), "error": str(exc)},
            )
            return
        confirmed(going)


class Gone:
    """The note on an acknowledgement: the broker has this entry as a delayed message."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


def delayed_again(entry: Entry, spec: QueueSpec) -> OutMessage:
    """The entry's message, for its queue alone: what was routed to several queues was delivered from each."""
    return msgspec.structs.replace(message_again(entry.job, {}), exchange="", routing_key=spec.name, declare=spec)


def put_off(
    settings: Settings,
    ledger: Ledger,
    later: Callable[[Work], None],
    publisher: Callable[[], Way],
    queues: Callable[[], Sequence[QueueSpec]],
) -> PutOff | None:
    """Make one where this worker reads and writes one broker, and that can wait for a message's time."""
    read, write = settings.resolved_broker_url("read"), settings.resolved_broker_url("write")
    url = read if isinstance(read, str) else read[0]
    if read != write or find_broker(url).name not in _CAN_WAIT:
        return None
    return PutOff(settings.broker_native_delayed_delivery_after, ledger, later, publisher, queues)
