"""What goes to the broker and what comes from it, as records.

``OutMessage`` is a message to be published, ``Delivery`` a message that was handed to this process
and ``Settlement`` what became of it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import Struct

from opsq.broker.topology import ExchangeSpec, QueueSpec


class OutMessage(Struct, frozen=True, kw_only=True):
    """A message ready to be published.

    properties: AMQP names: ``correlation_id, reply_to, delivery_mode, priority, expiration`` (the
    last one a string of milliseconds). exchange: ``""`` sends straight to the queue that
    ``routing_key`` names. declare: the queue, or for broadcasts and events only the exchange, that
    must exist before the message is sent; declared once per connection.
    """

    body: bytes
    content_type: str
    content_encoding: str
    headers: dict[str, Any]
    properties: dict[str, Any] = {}
    exchange: str = ""
    routing_key: str
    declare: QueueSpec | ExchangeSpec | None = None


class Delivery(Struct, array_like=True):
    """A message handed to this process by the broker.

    body: bytes as published, still compressed when the header ``compression`` says so. tag: opaque;
    goes back in the ``Settlement``. deliveries: how often the broker has handed this message out,
    this time included (``None`` where the broker does not count). A message that was fetched ahead
    by a process that died is counted too, so the number alone does not convict a message.

    Stored by the SQLite transport as a JSON array in this order of fields: append only.
    """

    body: bytes
    content_type: str | None
    content_encoding: str | None
    headers: dict[str, Any]
    properties: dict[str, Any]
    exchange: str
    routing_key: str
    priority: int
    redelivered: bool = False
    queue: str | None = None
    tag: Any = None
    deliveries: int | None = None


class Settle(Enum):
    """How a delivery ends."""

    ACK = "ack"
    """Done: the broker forgets the message."""
    REQUEUE = "requeue"
    """Not done: the message goes back to the head of its queue, where the broker can do that."""
    REJECT = "reject"
    """Refused: the broker drops the message, or dead-letters it where the queue says so."""


class Settlement(Struct):
    """What is to happen to one delivery.

    tag: of the ``Delivery``. note: anything; travels to ``on_settled`` with the settlement.
    """

    tag: Any
    how: Settle = Settle.ACK
    note: object = None
