"""kombu's envelope: the JSON text a message is in Redis.

Source: celery-protocol.md A-Redis, "Envelope JSON".
"""

from __future__ import annotations

import binascii
import json as _json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from kombu.utils import json as _kombu_json
from msgspec import Struct

from opsq.broker.message import Delivery, OutMessage
from opsq.errors import UsageError

COUNT = "opsq_deliveries"
"""Key in ``delivery_info``: how often the message was handed out before. kombu leaves it alone."""

_TRANSPORT_PROPERTIES = ("delivery_info", "delivery_tag", "body_encoding", "opsq_wrapped")
_OCTETS = "application/octet-stream"
_TAG = re.compile(rb'"delivery_tag"\s*:\s*"([^"\\]+)"')

_dumps: Callable[[Any], str] = _kombu_json.dumps
_loads: Callable[[Any], Any] = _kombu_json.loads


class _Envelope(Struct):
    # As it stands in the text: made bytes in one step once it is known how, instead of text first and bytes then.
    body: msgspec.Raw = msgspec.Raw(b'""')
    content_type: Any = msgspec.field(name="content-type", default=None)
    content_encoding: Any = msgspec.field(name="content-encoding", default=None)
    headers: Any = None
    properties: Any = None


_encode = msgspec.json.Encoder().encode
_decode_batch = msgspec.json.Decoder(list[_Envelope]).decode
_decode_one = msgspec.json.Decoder(_Envelope).decode
_decode_base64 = msgspec.json.Decoder(bytes).decode
_decode_text = msgspec.json.Decoder(str).decode


def new_tag() -> str:
    """Return a delivery tag in the form of a random UUID."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def pack_message(message: OutMessage) -> bytes:
    """Return the text to push or publish.

    Raises: UsageError when a header or property cannot be written as JSON.
    """
    properties = message.properties
    envelope = {
        "body": message.body,  # msgspec writes bytes as base64
        "content-encoding": message.content_encoding,
        "content-type": message.content_type,
        "headers": message.headers,
        "properties": {
            **properties,
            "delivery_info": {"exchange": message.exchange, "routing_key": message.routing_key},
            "priority": properties.get("priority") or 0,
            "body_encoding": "base64",
            "delivery_tag": new_tag(),
        },
    }
    try:
        return _encode(envelope)
    except (TypeError, ValueError, OverflowError, RecursionError):
        envelope["body"] = binascii.b2a_base64(message.body, newline=False).decode()
    try:  # kombu knows more types (times, decimals, sets), and escapes what is no UTF-8
        return _dumps(envelope).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"message for {message.routing_key!r}: headers and properties must be JSON, {exc}") from exc


def unpack_batch(data: bytes, sizes: list[int]) -> list[Delivery]:
    """Decode a JSON list of messages; ``sizes`` are their lengths in bytes.

    A text that is no message becomes the body of a delivery without headers: intake refuses it with
    everything there is to see.
    """
    if b'"__type__"' not in data:
        try:
            found = [_delivery(each) for each in _decode_batch(data)]
        except (msgspec.DecodeError, _Odd, UnicodeDecodeError):
            found = []
        if len(found) == len(sizes):
            return found
    found = []
    start = 1
    for size in sizes:
        found.append(unpack(data[start : start + size]))
        start += size + 1
    return found


def unpack(text: bytes) -> Delivery:
    """Decode one message; see ``unpack_batch``."""
    try:
        if b'"__type__"' in text:
            return _delivery(*_of_mapping(_loads(text.decode())))
        return _delivery(_decode_one(text))
    except (msgspec.DecodeError, _Odd, UnicodeDecodeError):
        pass
    try:  # NaN and other things that are no JSON but kombu's
        return _delivery(*_of_mapping(_loads(text.decode())))
    except (ValueError, TypeError, LookupError, RecursionError, _Odd):
        return Delivery(text, _OCTETS, "binary", {}, {}, "", "", 0, tag=_tag_in(text))


def _tag_in(text: bytes) -> str | None:
    """Find the tag that the script registered a strange message under, the way the script does."""
    found = _TAG.findall(text)
    if len(found) == 1 == text.count(b'"delivery_tag"'):
        return str(found[0].decode(errors="replace"))
    try:
        tag = _json.loads(text)["properties"]["delivery_tag"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return tag if isinstance(tag, str) else None


class _Odd(Exception):
    """Not an envelope."""


def _of_mapping(value: Any) -> tuple[_Envelope, str]:
    """An envelope that was read as plain JSON, and the text of its body."""
    if not isinstance(value, dict):
        raise _Odd
    body = value.get("body")
    envelope = _Envelope(
        content_type=value.get("content-type"),
        content_encoding=value.get("content-encoding"),
        headers=value.get("headers"),
        properties=value.get("properties"),
    )
    return envelope, body if isinstance(body, str) else ""


def _delivery(envelope: _Envelope, body: str | None = None) -> Delivery:
    properties = envelope.properties
    headers = envelope.headers if envelope.headers is not None else {}
    info = properties.get("delivery_info") if type(properties) is dict else None
    if type(info) is not dict or type(headers) is not dict:
        raise _Odd
    priority = properties.get("priority")
    count = info.get(COUNT, 0)
    tag = properties.get("delivery_tag")
    return Delivery(
        body=_body(envelope.body if body is None else body, properties),
        content_type=_text(envelope.content_type),
        content_encoding=_text(envelope.content_encoding),
        headers=headers,
        properties={key: value for key, value in properties.items() if key not in _TRANSPORT_PROPERTIES},
        exchange=info.get("exchange") or "",
        routing_key=info.get("routing_key") or "",
        priority=priority if type(priority) is int else 0,
        redelivered=bool(info.get("redelivered") or headers.get("redelivered")),
        tag=tag,
        deliveries=count + 1 if type(count) is int else 1,
    )


def _body(body: msgspec.Raw | str, properties: dict[str, Any]) -> bytes:
    encoded = properties.get("body_encoding") == "base64"
    if not isinstance(body, str):
        if encoded:
            with suppress(msgspec.DecodeError):  # base64 that is not strict is read below
                return _decode_base64(body)
        body = _decode_text(body)
    if encoded:
        try:
            return binascii.a2b_base64(body)
        except (binascii.Error, ValueError):
            return body.encode(errors="surrogatepass")  # not what it says; intake refuses it as it is
    if properties.get("opsq_wrapped"):
        return body.encode("latin-1", errors="replace")
    return body.encode(errors="surrogatepass")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def redelivered(entry: bytes) -> tuple[dict[str, Any], str, str] | None:
    """Read an entry of ``unacked``; return its message marked as handed out before, exchange and key.

    kombu's two marks, and our count beside them. ``None`` when it is no such entry. Plain JSON is
    kept to the letter: no extra types are made of it on the way through.
    """
    try:
        message, exchange, routing_key = _json.loads(entry)
        properties = message["properties"]
        info = properties.setdefault("delivery_info", {})
        headers = message.setdefault("headers", {})
        headers["redelivered"] = True
        info["redelivered"] = True
        count = info.get(COUNT, 0)
        info[COUNT] = (count if isinstance(count, int) else 0) + 1
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return message, str(exchange or ""), str(routing_key or "")


def again(message: dict[str, Any]) -> bytes:
    """Return the text of a message that is put back."""
    return _json.dumps(message).encode()
