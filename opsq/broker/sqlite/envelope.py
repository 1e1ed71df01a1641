"""The text a message is stored as.

A message is kept as the first fields of a ``Delivery`` in JSON, without the brackets of the array:
SQLite then joins a whole batch, with what it knows itself (queue, tag, deliveries), into one text
that is decoded straight into ``Delivery`` records. One row per batch matters because Python gives
the interpreter lock away at each row, and with busy task threads gets it back only milliseconds
later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from opsq.broker.message import Delivery, OutMessage
from opsq.errors import UsageError

HIGHEST_PRIORITY = 9

_encode = msgspec.json.Encoder().encode
_decode_batch = msgspec.json.Decoder(list[Delivery]).decode
_decode_one = msgspec.json.Decoder(Delivery).decode


def priority_of(properties: Mapping[str, Any]) -> int:
    """Return the priority 0 (default) to 9 (served first); anything else is moved into that range."""
    value = properties.get("priority")
    if not value or not isinstance(value, int):
        return 0
    return min(max(value, 0), HIGHEST_PRIORITY)


def pack(message: OutMessage, priority: int) -> str:
    """Return the text to store.

    Raises: UsageError when a header or property cannot be written as JSON.
    """
    fields = (
        message.body,
        message.content_type,
        message.content_encoding,
        message.headers,
        message.properties,
        message.exchange,
        message.routing_key,
        priority,
    )
    try:
        return _encode(fields)[1:-1].decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise UsageError(f"message for {message.routing_key!r}: headers and properties must be JSON, {exc}") from exc


def unpack_batch(text: bytes) -> list[Delivery]:
    """Decode a batch as the fetch statement builds it."""
    return _decode_batch(text)


def unpack(text: str, *, queue: str, tag: int, deliveries: int) -> Delivery:
    """Decode one stored text that was fetched by itself.

    A text that cannot be decoded becomes the body of a delivery without headers: intake refuses it
    with everything there is to see.
    """
    try:
        delivery = _decode_one(f"[{text}]")
    except msgspec.DecodeError:
        delivery = Delivery(text.encode(), "application/octet-stream", "binary", {}, {}, "", queue, 0)
    delivery.queue = queue
    delivery.tag = tag
    delivery.deliveries = deliveries
    delivery.redelivered = deliveries > 1
    return delivery


def label(name: str) -> str:
    """Return a queue's name as it appears inside a batch."""
    return msgspec.json.encode(name).decode()


def expires_at(message: OutMessage, now: float) -> float | None:
    """Return when the broker may drop a waiting message, epoch seconds; ``None`` for never.

    The expiry of a task is left to the worker: it answers with a state that people can see, while
    a message dropped here would just be missing.
    """
    expiration = message.properties.get("expiration")
    if expiration is None or "task" in message.headers:
        return None
    try:
        return now + max(int(expiration), 0) / 1000.0
    except (TypeError, ValueError) as exc:
        raise UsageError(f"property expiration must be whole milliseconds, got {expiration!r}") from exc
