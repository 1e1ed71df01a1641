"""AMQP field tables: the headers of a message as bytes, both ways.

A message carries some twenty-five headers, so this is where most of the time of a delivery goes.
The letters of the types are RabbitMQ's, which differ from the specification's.
Source: AMQP 0-9-1 section 4.2.5.5 and RabbitMQ's errata.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct, error
from typing import Any

from opsq.errors import MalformedMessage, UsageError

_LONG = Struct(">I")
_INT = Struct(">i")
_DOUBLE = Struct(">d")
_INT_ITEM = Struct(">cI").pack
_MAX_DEPTH = 100
_MAX_INT32 = 2_147_483_647

# Fixed-size numbers by the byte of their type.
_NUMBERS: Mapping[int, Struct] = {
    ord("b"): Struct(">b"),
    ord("B"): Struct(">B"),
    ord("s"): Struct(">h"),
    ord("U"): Struct(">h"),
    ord("u"): Struct(">H"),
    ord("i"): _LONG,
    ord("l"): Struct(">q"),
    ord("L"): Struct(">q"),
    ord("f"): Struct(">f"),
}
# Names seen in every message; looking one up costs half of decoding it, and saves the copies.
_NAMES = (
    "lang",
    "task",
    "id",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "timelimit",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamped_headers",
    "stamps",
    "compression",
    "opsq_published_at",
    "hostname",
)
_KNOWN: Mapping[bytes, str] = {name.encode(): name for name in _NAMES}
_ENCODED: Mapping[str, bytes] = {name: bytes((len(name),)) + name.encode() for name in _NAMES}


def decode_table(buffer: bytes, start: int, end: int) -> dict[str, Any]:
    """Read the table between two offsets.

    Raises: MalformedMessage when it does not end at ``end``, nests too deep or has an unknown type.
    """
    try:
        return _table(buffer, start, end, 0)
    except (error, IndexError, OverflowError, ValueError, OSError) as exc:
        raise MalformedMessage(f"AMQP headers: {exc}") from exc


def _table(buffer: bytes, at: int, end: int, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    known, long_at = _KNOWN.get, _LONG.unpack_from
    while at < end:
        size = buffer[at] + at + 1
        raw = buffer[at + 1 : size]
        key = known(raw) or raw.decode("utf-8", "replace")
        kind = buffer[size]
        at = size + 1
        if kind == 0x53:  # S: text, most of all headers
            stop = at + 4 + long_at(buffer, at)[0]
            found[key] = _text(buffer[at + 4 : stop])
            at = stop
        elif kind == 0x56:  # V
            found[key] = None
        else:
            found[key], at = _item(kind, buffer, at, depth)
    if at != end:
        raise ValueError(f"a table of {end} bytes goes on to {at}")
    return found


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _item(kind: int, buffer: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Read one value of the type ``kind`` at ``at``; return it and the offset behind it."""
    if kind == 0x49:  # I
        return _INT.unpack_from(buffer, at)[0], at + 4
    if kind == 0x64:  # d
        return _DOUBLE.unpack_from(buffer, at)[0], at + 8
    if kind == 0x74:  # t
        return buffer[at] != 0, at + 1
    number = _NUMBERS.get(kind)
    if number is not None:
        return number.unpack_from(buffer, at)[0], at + number.size
    if kind == 0x56:
        return None, at
    if kind == 0x44:  # D: scale and digits
        return Decimal(_INT.unpack_from(buffer, at + 1)[0]).scaleb(-buffer[at]), at + 5
    if kind == 0x54:  # T: seconds, read as py-amqp does
        seconds = int.from_bytes(buffer[at : at + 8], "big")
        return datetime.fromtimestamp(seconds, tz=UTC).replace(tzinfo=None), at + 8
    return _sized(kind, buffer, at, depth)


def _sized(kind: int, buffer: bytes, at: int, depth: int) -> tuple[Any, int]:
    start = at + 4
    end = start + _LONG.unpack_from(buffer, at)[0]
    if end > len(buffer):
        raise ValueError("a value is longer than its message")
    if kind == 0x53:
        return _text(buffer[start:end]), end
    if kind == 0x78:  # x
        return buffer[start:end], end
    if depth >= _MAX_DEPTH:
        raise ValueError(f"nested deeper than {_MAX_DEPTH}")
    if kind == 0x46:  # F
        return _table(buffer, start, end, depth + 1), end
    if kind == 0x41:  # A
        return _array(buffer, start, end, depth + 1), end
    raise ValueError(f"unknown type {chr(kind)!r}")


def _array(buffer: bytes, at: int, end: int, depth: int) -> list[Any]:
    found = []
    while at < end:
        value, at = _item(buffer[at], buffer, at + 1, depth)
        found.append(value)
    if at != end:
        raise ValueError(f"a list of {end} bytes goes on to {at}")
    return found


def encode_table(values: Mapping[str, Any]) -> bytes:
    """Write a table with its length in front; the same bytes as py-amqp's.

    Raises: UsageError naming the header that AMQP cannot carry.
    """
    parts: list[bytes] = []
    for key, value in values.items():
        parts.append(_ENCODED.get(key) or _key(key))
        if type(value) is str:
            raw = value.encode("utf-8", "surrogatepass")
            parts.append(_INT_ITEM(b"S", len(raw)))
            parts.append(raw)
        elif value is None:
            parts.append(b"V")
        else:
            try:
                parts.append(_encode(value))
            except (error, TypeError, RecursionError) as exc:
                raise UsageError(f"header {key!r}: AMQP cannot carry {value!r:.100} ({exc})") from exc
    data = b"".join(parts)
    return _LONG.pack(len(data)) + data


def _key(key: str) -> bytes:
    raw = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else bytes(key)
    if len(raw) > 255:
        raise UsageError(f"header {key!r:.60}: the name is longer than AMQP's 255 bytes")
    return bytes((len(raw),)) + raw


def _encode(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"t\1" if value else b"t\0"
    if isinstance(value, float):
        return b"d" + _DOUBLE.pack(value)
    if isinstance(value, int):
        return b"I" + _INT.pack(value) if -_MAX_INT32 <= value <= _MAX_INT32 else b"L" + _NUMBERS[0x4C].pack(value)
    if isinstance(value, (str, bytes)):
        raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return _INT_ITEM(b"S", len(raw)) + raw
    if value is None:
        return b"V"
    if isinstance(value, Mapping):
        return b"F" + encode_table(value)
    if isinstance(value, Sequence):
        data = b"".join([_encode(each) for each in value])
        return _INT_ITEM(b"A", len(data)) + data
    if isinstance(value, datetime):
        return b"T" + calendar.timegm(value.utctimetuple()).to_bytes(8, "big")
    if isinstance(value, Decimal):
        return _decimal(value)
    raise TypeError(f"no AMQP type for {type(value).__name__}")


def _decimal(value: Decimal) -> bytes:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent > 0:
        raise TypeError("not a plain decimal")
    return b"D" + bytes((-exponent,)) + _INT.pack(int(value.scaleb(-exponent)))
