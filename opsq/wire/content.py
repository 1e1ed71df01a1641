"""Bytes to plain values and back: serializers, accept lists and limits.

``dumps``/``loads`` are kombu's content types and texts, so either side may be stock Celery.
A ``ContentRegistry`` is a value: to add a serializer or a JSON type, make one and pass it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct, structs

from opsq import errors
from opsq.errors import ConfigError, MalformedMessage, UntrustedContent, UsageError
from opsq.wire import yamlsafe
from opsq.wire.compression import COMPRESSIONS, Compressor, by_name, compress, decompress
from opsq.wire.jsonext import EXTRA_TYPES, Reader, dumps_json, loads_json
from opsq.wire.limits import DEFAULT_LIMITS, Limits, check_shape, check_size

try:
    import msgpack
except ImportError:
    msgpack = None

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_REGISTRY",
    "JSON_ONLY",
    "ContentRegistry",
    "Limits",
    "Serializer",
    "accept_set",
    "compress",
    "decompress",
    "dumps",
    "loads",
]

JSON_MIME = "application/json"
JSON_ONLY = frozenset({JSON_MIME})
_PICKLE_PROTOCOL = 4
_CELERYS_ERRORS = frozenset({"celery.exceptions", "billiard.exceptions"})
_MSGPACK_MISSING = "serializer 'msgpack' needs a library to be installed: pip install \"opsq[msgpack]\""
# A short list: Python knows text encodings that take quadratic time, and peers choose the name.
_TEXT_ENCODINGS = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "iso-8859-1", "windows-1252"})
_UTF8_NAMES = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "binary", "", None})


class Serializer(Struct, frozen=True):
    """One way to write values as bytes.

    read: gets bytes (UTF-8 when ``encoding`` is text) and limits; MalformedMessage when it cannot.
    write: UsageError when it cannot. missing: what to install, when its library is not there.
    """

    name: str
    mime: str
    encoding: str
    write: Callable[[object], bytes]
    read: Callable[[bytes, Limits], object]
    missing: str = ""


def _write_pickle(value: object) -> bytes:
    try:
        return pickle.dumps(value, protocol=_PICKLE_PROTOCOL)
    except Exception as error:  # boundary: a value's own __reduce__ may raise anything
        raise UsageError(f"cannot be pickled: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Reads Celery's own errors as ours of the same name: who has opsq need not have Celery."""

    def find_class(self, module: str, name: str) -> Any:
        ours = vars(errors).get(name) if module in _CELERYS_ERRORS else None
        return ours if isinstance(ours, type) else super().find_class(module, name)


def _read_pickle(data: bytes, _limits: Limits) -> object:
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # noqa: BLE001  # boundary: unpickling runs code of the peer's choice
        raise MalformedMessage(f"expected a pickle: {type(error).__name__}: {str(error)[:200]}") from None


def _write_msgpack(value: object) -> bytes:
    # Not msgspec: it would quietly turn a UUID, a set or a dataclass into something else.
    if msgpack is None:
        raise ConfigError(_MSGPACK_MISSING)
    try:
        return bytes(msgpack.packb(value, use_bin_type=True))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"cannot be written as msgpack: {error}") from error


def _read_msgpack(data: bytes, limits: Limits) -> object:
    try:
        value = msgspec.msgpack.decode(data)
    except RecursionError:
        raise MalformedMessage("msgpack is nested too deeply") from None
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError) as error:
        raise MalformedMessage(f"expected msgpack: {error}") from None
    check_shape(value, limits)
    return value


JSON = Serializer("json", JSON_MIME, "utf-8", dumps_json, loads_json)
PICKLE = Serializer("pickle", "application/x-python-serialize", "binary", _write_pickle, _read_pickle)
YAML = Serializer(
    "yaml",
    "application/x-yaml",
    "utf-8",
    yamlsafe.dumps_yaml,
    yamlsafe.loads_yaml,
    "" if yamlsafe.AVAILABLE else yamlsafe.MISSING,
)
MSGPACK = Serializer(
    "msgpack",
    "application/x-msgpack",
    "binary",
    _write_msgpack,
    _read_msgpack,
    "" if msgpack is not None else _MSGPACK_MISSING,
)


def _cannot_sign(*_: object) -> bytes:
    raise ConfigError(AUTH.missing)


AUTH = Serializer(
    "auth",
    "application/data",
    "utf-8",
    _cannot_sign,
    _cannot_sign,
    "serializer 'auth' signs messages, which needs keys: call app.setup_security() before the app is used",
)
"""Holds the name until ``wire/auth.py`` makes the real one."""


class ContentRegistry(Struct, frozen=True):
    """Which serializers and compressions exist; a value, never changed in place. Thread: any."""

    by_name: Mapping[str, Serializer]
    by_mime: Mapping[str, Serializer]
    compressions: Mapping[str, Compressor] = COMPRESSIONS

    @classmethod
    def of(cls, serializers: Iterable[Serializer]) -> ContentRegistry:
        """Build a registry; a later serializer replaces an earlier one of the same name or MIME type."""
        listed = list(serializers)
        return cls(
            MappingProxyType({each.name: each for each in listed}),
            MappingProxyType({each.mime: each for each in listed}),
        )

    def plus(self, *serializers: Serializer) -> ContentRegistry:
        """Return a registry that knows these as well."""
        return structs.replace(
            ContentRegistry.of([*self.by_name.values(), *serializers]), compressions=self.compressions
        )

    def compressing(self, *compressors: Compressor) -> ContentRegistry:
        """Return a registry that knows these compressions as well."""
        return structs.replace(self, compressions=by_name([*self.compressions.values(), *compressors]))

    def find(self, name: str) -> Serializer:
        """Look up by name or MIME type. Raises: ConfigError when unknown or not installed."""
        found = self.by_name.get(name) or self.by_mime.get(name)
        if found is None:
            raise ConfigError(f"unknown serializer {name!r}, expected one of {', '.join(sorted(self.by_name))}")
        if found.missing:
            raise ConfigError(found.missing)
        return found


DEFAULT_REGISTRY = ContentRegistry.of([JSON, PICKLE, YAML, MSGPACK, AUTH])


def json_with(extra_types: Mapping[str, Reader]) -> Serializer:
    """Return the JSON serializer reading further ``__type__`` names; writing is by the values' ``__json__``."""
    table = MappingProxyType({**EXTRA_TYPES, **extra_types})

    def read(data: bytes, limits: Limits) -> object:
        return loads_json(data, limits, table)

    return Serializer("json", JSON_MIME, "utf-8", dumps_json, read)


def accept_set(names: Iterable[str], registry: ContentRegistry = DEFAULT_REGISTRY) -> frozenset[str]:
    """Turn serializer names or MIME types into the set of MIME types that ``loads`` takes.

    Raises: ConfigError for a name that is unknown or whose library is missing.
    """
    return frozenset(registry.find(name).mime for name in names)


def dumps(value: object, serializer: str, registry: ContentRegistry = DEFAULT_REGISTRY) -> tuple[bytes, str, str]:
    """Write ``value``; returns bytes, content type and content encoding.

    Raises: UsageError when the value cannot be written, ConfigError for an unknown serializer.
    """
    engine = registry.find(serializer)
    return engine.write(value), engine.mime, engine.encoding


def loads(
    data: bytes | bytearray | memoryview | str,
    content_type: str | None,
    content_encoding: str | None,
    *,
    accept: frozenset[str],
    limits: Limits = DEFAULT_LIMITS,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> object:
    """Read what ``dumps`` or kombu wrote.

    accept: MIME types from ``accept_set``; checked before a byte is looked at.
    Raises: MalformedMessage, UntrustedContent, and nothing else.
    """
    # Not text is possible: the value comes out of a peer's envelope.
    if not isinstance(content_type, str) or content_type not in accept:
        raise UntrustedContent(str(content_type), sorted(accept))
    engine = registry.by_mime.get(content_type)
    if engine is None:
        raise MalformedMessage(f"content type {content_type!r} is accepted but no serializer reads it")
    check_size(len(data), limits)
    return engine.read(_as_utf8(data, content_encoding), limits)


def _as_utf8(data: bytes | bytearray | memoryview | str, content_encoding: str | None) -> bytes:
    if isinstance(data, str):
        return data.encode("utf-8", "surrogatepass")
    raw = data if isinstance(data, bytes) else bytes(data)
    if content_encoding in _UTF8_NAMES:
        return raw
    name = str(content_encoding).lower()
    if name in _UTF8_NAMES:
        return raw
    if name not in _TEXT_ENCODINGS:
        raise MalformedMessage(f"unknown content encoding {name[:40]!r}")
    try:
        return raw.decode(name).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"body is not {name}: {error.reason} at byte {error.start}") from None
