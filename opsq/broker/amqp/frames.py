"""AMQP methods as bytes: what a delivery says, and what is sent back.

Only the few methods of the hot path; everything else goes through py-amqp.
Source: AMQP 0-9-1; RabbitMQ's confirms and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct, error
from typing import Any

from opsq.broker.amqp.table import decode_table, encode_table
from opsq.broker.message import Delivery, OutMessage
from opsq.errors import MalformedMessage, UsageError

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
DELIVER = b"\0\x3c\0\x3c"
RETURN = b"\0\x3c\0\x32"
CANCEL = b"\0\x3c\0\x1e"
ACK = b"\0\x3c\0\x50"
NACK = b"\0\x3c\0\x78"
FRAME_OVERHEAD = 8
END = b"\xce"

_FRAME = Struct(">BHI").pack
_TAG = Struct(">Q")
_LONG = Struct(">I").unpack_from
_FLAGS = Struct(">H").unpack_from
_ACK = Struct(">BHIHHQBB").pack
_QOS = Struct(">BHIHHIHBB").pack
_CONTENT = Struct(">HHQ").pack
_SIZE_AT = 4
_PUBLISH = b"\0\x3c\0\x28\0\0"

# In the order of their flags, highest bit first; s: short text, o: octet, L: 64 bits, F: table.
_PROPERTIES = (
    ("content_type", 0x8000, "s"),
    ("content_encoding", 0x4000, "s"),
    ("headers", 0x2000, "F"),
    ("delivery_mode", 0x1000, "o"),
    ("priority", 0x0800, "o"),
    ("correlation_id", 0x0400, "s"),
    ("reply_to", 0x0200, "s"),
    ("expiration", 0x0100, "s"),
    ("message_id", 0x0080, "s"),
    ("timestamp", 0x0040, "L"),
    ("type", 0x0020, "s"),
    ("user_id", 0x0010, "s"),
    ("app_id", 0x0008, "s"),
    ("cluster_id", 0x0004, "s"),
)


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    """Acknowledge one delivery, or all up to it."""
    return _ACK(METHOD, channel, 13, 60, 80, tag, multiple, 0xCE)


def reject(channel: int, tag: int, *, requeue: bool) -> bytes:
    """Refuse one delivery."""
    return _ACK(METHOD, channel, 13, 60, 90, tag, requeue, 0xCE)


def qos(channel: int, prefetch: int, *, shared: bool) -> bytes:
    """Limit unsettled deliveries. shared: of the whole channel, else of each consumer made later."""
    return _QOS(METHOD, channel, 11, 60, 10, 0, min(prefetch, 0xFFFF), shared, 0xCE)


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Return tag and ``multiple`` of an acknowledgement of the broker's, positive or negative."""
    return _TAG.unpack_from(payload, 4)[0], bool(payload[12] & 1)


def body_size(header: bytes) -> int:
    """Return how many bytes of body follow a content header."""
    size: int = _TAG.unpack_from(header, _SIZE_AT)[0]
    return size


def short_text(payload: bytes, at: int) -> tuple[str, int]:
    """Read a short text; return it and the offset behind it."""
    end = at + 1 + payload[at]
    return payload[at + 1 : end].decode("utf-8", "replace"), end


def read_return(payload: bytes) -> tuple[str, str]:
    """Return exchange and routing key of a message that reached no queue."""
    _, at = short_text(payload, 6)
    exchange, at = short_text(payload, at)
    return exchange, short_text(payload, at)[0]


def read_delivery(method: bytes, header: bytes, body: bytes, queues: Mapping[str, str]) -> Delivery:
    """Build a delivery of its three parts. queues: queue by consumer tag.

    A header that cannot be read gives a delivery without headers, which intake then refuses: raising
    here would bring the same message back for ever.
    """
    consumer, at = short_text(method, 4)
    tag: int = _TAG.unpack_from(method, at)[0]
    exchange, key_at = short_text(method, at + 9)
    routing_key = short_text(method, key_at)[0]
    try:
        properties = read_properties(header)
    except MalformedMessage as exc:
        properties = {"headers": {"opsq_unreadable": str(exc)}}
    headers = properties.pop("headers", None) or {}
    return Delivery(
        body,
        properties.pop("content_type", None),
        properties.pop("content_encoding", None),
        headers,
        properties,
        exchange,
        routing_key,
        properties.get("priority") or 0,
        method[at + 8] != 0,
        queues.get(consumer),
        tag,
        None,
    )


def read_properties(header: bytes) -> dict[str, Any]:
    """Read the properties of a content header; the table of headers is called ``headers``.

    Raises: MalformedMessage.
    """
    try:
        flags: int = _FLAGS(header, 12)[0]
        at = 14
        found: dict[str, Any] = {}
        for name, bit, kind in _PROPERTIES:
            if not flags & bit:
                continue
            if kind == "s":
                end = at + 1 + header[at]
                found[name] = header[at + 1 : end].decode("utf-8", "replace")
                at = end
            elif kind == "o":
                found[name] = header[at]
                at += 1
            elif kind == "F":
                end = at + 4 + _LONG(header, at)[0]
                found[name] = decode_table(header, at + 4, end)
                at = end
            else:
                found[name] = _TAG.unpack_from(header, at)[0]
                at += 8
    except (error, IndexError) as exc:
        raise MalformedMessage(f"AMQP properties: {exc}") from exc
    return found


def publish(channel: int, message: OutMessage, frame_max: int, *, mandatory: bool) -> bytes:
    """Return the frames that publish a message.

    Raises: UsageError when AMQP cannot carry it.
    """
    try:
        method = _PUBLISH + _short(message.exchange) + _short(message.routing_key) + bytes((mandatory,))
        header = _CONTENT(60, 0, len(message.body)) + _properties(message)
    except (error, ValueError, TypeError, AttributeError) as exc:
        raise UsageError(f"message for {message.routing_key!r:.80}: AMQP cannot carry it: {exc}") from exc
    parts = [_FRAME(METHOD, channel, len(method)), method, END, _FRAME(HEADER, channel, len(header)), header, END]
    body, most = message.body, frame_max - FRAME_OVERHEAD
    for start in range(0, len(body), most):
        chunk = body if len(body) <= most else body[start : start + most]
        parts += (_FRAME(BODY, channel, len(chunk)), chunk, END)
    return b"".join(parts)


def _properties(message: OutMessage) -> bytes:
    given = message.properties
    flags = 0xE000
    parts = [b"", _short(message.content_type), _short(message.content_encoding), encode_table(message.headers)]
    # The worker reports a task that expired; dropped by the broker it would just be missing.
    is_task = "task" in message.headers
    for name, bit, kind in _PROPERTIES[3:]:
        value = given.get(name)
        if value is not None and not (is_task and name == "expiration"):
            flags |= bit
            parts.append(_WRITERS[kind](value))
    parts[0] = flags.to_bytes(2, "big")
    return b"".join(parts)


def _short(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > 255:
        raise ValueError(f"{text[:40]!r}… is longer than 255 bytes")
    return bytes((len(raw),)) + raw


def _octet(value: int) -> bytes:
    return bytes((value,))


_WRITERS: Mapping[str, Callable[[Any], bytes]] = {"s": _short, "o": _octet, "L": _TAG.pack}
