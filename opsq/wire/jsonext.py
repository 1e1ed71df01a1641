"""JSON text as kombu writes it, both ways, including its tagged extra types.

An extra type is an object of exactly two keys, ``__type__`` and ``__value__``. Source: Celery
protocol, section "Serializers, compression, accept list".

Decoding tries msgspec first (several times faster) and falls back to the standard library for what
Python writes and JSON does not know: NaN, infinities, lone surrogates.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from opsq.errors import MalformedMessage, UsageError
from opsq.wire.limits import Limits, check_shape

#: Reads the ``__value__`` of one extra type; ValueError or TypeError when it cannot.
Reader = Callable[[Any], object]

_TAG_KEYS = frozenset({"__type__", "__value__"})
_TAG_MARK = b"__type__"
_MAX_SHOWN = 80


def extra_type(value: object) -> object:
    """Say how ``value``, which JSON does not know, is written.

    Raises: TypeError when there is no form for it.
    """
    own_form = getattr(value, "__json__", None)
    if own_form is not None:
        return own_form()
    if _is_lazy_text(value):
        return str(value)
    tag, plain = _tagged(value)
    return {"__type__": tag, "__value__": plain}


def _is_lazy_text(value: object) -> bool:
    # Django's translated texts; one can only be here if Django's module is loaded.
    module = sys.modules.get("django.utils.functional")
    promise = getattr(module, "Promise", None)
    return isinstance(promise, type) and isinstance(value, promise)


def _tagged(value: object) -> tuple[str, object]:
    # datetime before date, because every datetime is a date.
    if isinstance(value, datetime):
        return "datetime", value.isoformat()
    if isinstance(value, date):
        return "date", value.isoformat()
    if isinstance(value, time):
        return "time", value.isoformat()
    if isinstance(value, Decimal):
        return "decimal", str(value)
    if isinstance(value, UUID):
        return "uuid", {"hex": value.hex}
    if isinstance(value, bytes):
        return _tagged_bytes(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _tagged_bytes(value: bytes) -> tuple[str, str]:
    try:
        return "bytes", value.decode("utf-8")
    except UnicodeDecodeError:
        return "base64", base64.b64encode(value).decode("ascii")


_ENCODE = json.JSONEncoder(default=extra_type).encode


def dumps_json(value: object) -> bytes:
    """Write ``value`` as ASCII JSON text, the text kombu would write.

    Raises: UsageError naming the place of the first value that has no JSON form.
    """
    try:
        return _ENCODE(value).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        where = _first_unwritable(value)
        raise UsageError(
            f"cannot be written as JSON: {where or error}; pass plain values, or give the type a __json__ method"
        ) from error


def _first_unwritable(value: object, path: str = "$", depth: int = 0) -> str:
    """Find the first part of ``value`` that JSON cannot hold, for the error text; empty when unknown."""
    if depth > 50:
        return f"nested too deeply or contains itself at {path}"
    if isinstance(value, dict):
        for key, child in value.items():
            if key is not None and not isinstance(key, (str, int, float)):
                return f"key of type {type(key).__name__} at {path}"
            if found := _first_unwritable(child, f"{path}.{key}", depth + 1):
                return found
        return ""
    if isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            if found := _first_unwritable(child, f"{path}[{index}]", depth + 1):
                return found
        return ""
    if value is None or isinstance(value, (str, int, float)):
        return ""
    try:
        extra_type(value)
    except (TypeError, ValueError):
        return f"{type(value).__module__}.{type(value).__qualname__} at {path}"
    return ""


def _read_uuid(value: Any) -> UUID:
    if not isinstance(value, dict):
        raise TypeError("expected an object with the key hex")
    return UUID(hex=str(value["hex"]))


def _read_bytes(value: Any) -> bytes:
    return bytes(value.encode("utf-8"))


def _read_base64(value: Any) -> bytes:
    return base64.b64decode(value.encode("ascii"))


def _of_text(read: Callable[[str], object]) -> Reader:
    def reader(value: Any) -> object:
        if not isinstance(value, str):
            raise TypeError(f"expected text, got {type(value).__name__}")
        return read(value)

    return reader


EXTRA_TYPES: Mapping[str, Reader] = MappingProxyType(
    {
        "datetime": _of_text(datetime.fromisoformat),
        "date": _of_text(date.fromisoformat),
        "time": _of_text(time.fromisoformat),
        "decimal": _of_text(Decimal),
        "uuid": _read_uuid,
        "bytes": _of_text(_read_bytes),
        "base64": _of_text(_read_base64),
    }
)

_fast_decode = msgspec.json.Decoder().decode


def loads_json(
    data: bytes | bytearray | memoryview | str, limits: Limits, extra_types: Mapping[str, Reader] = EXTRA_TYPES
) -> object:
    """Read JSON text, extra types included.

    Raises: MalformedMessage, and nothing else.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if isinstance(raw, memoryview):
        raw = raw.tobytes()
    value = _decode(raw)
    # A document cannot be deeper than it has opening brackets, so most need no walk.
    if raw.count(b"[") + raw.count(b"{") > limits.max_depth:
        check_shape(value, limits)
    if _TAG_MARK not in raw:
        return value
    try:
        return _untag(value, extra_types, "$")
    except RecursionError:
        raise MalformedMessage("JSON is nested too deeply") from None


def _decode(raw: bytes | bytearray) -> object:
    try:
        return _fast_decode(raw)
    except RecursionError:
        raise MalformedMessage("JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        # Not necessarily wrong: NaN and its kin are read by the standard library only.
        return _decode_as_python_does(raw)


def _decode_as_python_does(raw: bytes | bytearray) -> object:
    try:
        return json.loads(bytes(raw).decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"expected JSON text in UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise MalformedMessage("JSON is nested too deeply") from None
    except ValueError as error:
        raise MalformedMessage(f"expected JSON: {error}") from None


def _untag(value: Any, extra_types: Mapping[str, Reader], path: str) -> Any:
    """Replace tagged objects by what they stand for, innermost first; depth is checked by then."""
    if type(value) is list:
        return [_untag(child, extra_types, f"{path}[{index}]") for index, child in enumerate(value)]
    if type(value) is not dict:
        return value
    plain = {key: _untag(child, extra_types, f"{path}.{key}") for key, child in value.items()}
    if plain.keys() != _TAG_KEYS:
        return plain
    tag = plain["__type__"]
    reader = extra_types.get(tag) if isinstance(tag, str) else None
    if reader is None:
        raise MalformedMessage(f"unknown __type__ {str(tag)[:_MAX_SHOWN]!r}", path)
    try:
        return reader(plain["__value__"])
    except Exception as error:  # noqa: BLE001  # boundary: a registered reader may raise anything on bad input
        raise MalformedMessage(f"bad {tag}: {str(error)[:_MAX_SHOWN]}", path) from None
