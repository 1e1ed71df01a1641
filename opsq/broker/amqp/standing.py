"""Standing orders on RabbitMQ: a durable queue of notes that everybody reads and puts back.

A note says that an order was given or lifted, and when; of one key the latest counts. Notes expire with their
order. A reader consumes the queue exclusively, which is also the lock: without it, two readers would each see
what the other has not in hand. A note of its own, published last, tells it that it has seen all. What it
acknowledges are notes that a later one has replaced; all others go back when it closes its channel.

Source: AMQP 0-9-1 (exclusive consumers, transactions); RabbitMQ manual on per-message TTL.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from amqp.exceptions import AccessRefused, ResourceLocked
from msgspec import Struct

from opsq.broker.faults import BrokerBusy
from opsq.broker.standing import ORDERS_MAX, StandingOrder

QUEUE: Final = "opsq.standing"
LOCK_S: Final = 5.0
_RETRY_S: Final = 0.03
_READ_S: Final = 5.0
_LIFTED_S: Final = 86_400.0
"""So long it is remembered that an order without an end was lifted, if no reader has cleared it away before."""


class Note(Struct, frozen=True, array_like=True):
    """One message of the queue. at: epoch seconds. lifted: the order holds no longer."""

    order: StandingOrder
    at: float
    lifted: bool = False


_NOTE: Final = msgspec.json.Decoder(Note)


class AmqpBook:
    """Source: ``opsq.broker.standing.Book``. connection: ``kombu.Connection``, connected."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def add(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders; the broker has them on disk when this returns."""
        self._write([Note(each, now) for each in orders])

    def lift(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders no longer."""
        until = now + _LIFTED_S
        self._write([Note(StandingOrder(*each.key, until), now, lifted=True) for each in orders])

    def read(self, now: float) -> list[StandingOrder]:
        """Every order that holds at ``now``. Raises: BrokerBusy when others read for too long."""
        channel = self._connection.channel()
        try:
            declared = _declare(channel)
            if not declared.message_count and not declared.consumer_count:
                return []
        finally:
            channel.close()
        with _Reading(self._connection) as reading:
            return reading.fold(now)

    def _write(self, notes: Sequence[Note]) -> None:
        channel = self._connection.channel()
        try:
            _declare(channel)
            channel.tx_select()
            for note in notes:
                _publish(channel, msgspec.json.encode(note), note.order.until)
            channel.tx_commit()
        finally:
            channel.close()


class _Reading:
    """The queue in the hands of one reader, for the length of a ``with`` block."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel: Any = None
        self._notes: list[tuple[Any, Note | None]] = []
        self._mark = uuid.uuid4().hex.encode()
        self._all_seen = False

    def __enter__(self) -> _Reading:
        deadline = time.monotonic() + LOCK_S
        while True:
            self._channel = self._connection.channel()
            try:
                self._channel.basic_consume(QUEUE, exclusive=True, no_ack=False, callback=self._on_note)
                break
            except (AccessRefused, ResourceLocked) as exc:
                if "exclusive" not in str(exc):
                    raise
                if time.monotonic() > deadline:
                    raise BrokerBusy(f"the standing orders are being read by others for {LOCK_S:g} s") from exc
            time.sleep(_RETRY_S)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._channel is not None:
            self._channel.close()

    def fold(self, now: float) -> list[StandingOrder]:
        """Read everything, acknowledge what counts no more, and return what holds."""
        _publish(self._channel, self._mark, time.time() + 60.0)
        deadline = time.monotonic() + _READ_S
        while not self._all_seen:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise BrokerBusy(f"the standing orders could not be read within {_READ_S:g} s")
            self._connection.drain_events(timeout=left_s)
        latest: dict[tuple[str, str, str], tuple[float, bool, StandingOrder]] = {}
        tags: dict[tuple[str, str, str], Any] = {}
        for tag, note in self._notes:
            if note is None or not note.order.holds(now):
                self._channel.basic_ack(tag)
                continue
            key, said = note.order.key, (note.at, note.lifted, note.order)
            if key in latest and latest[key][:2] > said[:2]:
                self._channel.basic_ack(tag)
                continue
            if key in tags:
                self._channel.basic_ack(tags[key])
            latest[key], tags[key] = said, tag
        return [order for _, lifted, order in latest.values() if not lifted][-ORDERS_MAX:]

    def _on_note(self, message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        if body == self._mark:
            self._all_seen = True
        try:
            note = _NOTE.decode(body)
        except msgspec.MsgspecError:
            note = None
        self._notes.append((message.delivery_tag, note))


def _declare(channel: Any) -> Any:
    return channel.queue_declare(QUEUE, durable=True, auto_delete=False, exclusive=False)


def _publish(channel: Any, body: bytes, until: float | None) -> None:
    properties: dict[str, Any] = {"delivery_mode": 2}
    if until is not None:
        properties["expiration"] = str(max(0, int((until - time.time()) * 1000)))
    message = channel.prepare_message(
        body, content_type="application/json", content_encoding="utf-8", properties=properties
    )
    channel.basic_publish(message, exchange="", routing_key=QUEUE)


__all__ = ["QUEUE", "AmqpBook", "Note"]
