"""What is stored about a task: Celery's meta document and its compression prefix.

Source: Celery protocol, section "Task meta JSON". Exceptions are in
``wire.exceptions``, the trees of ``children`` in ``wire.result_tree``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from opsq.errors import MalformedMessage
from opsq.wire.compression import compress, decompress
from opsq.wire.content import DEFAULT_REGISTRY, ContentRegistry, dumps, loads
from opsq.wire.exceptions import exception_from_wire, exception_to_wire
from opsq.wire.limits import DEFAULT_LIMITS, Limits, check_size
from opsq.wire.result_tree import ResultRef, parse_ref, ref_to_wire

__all__ = [
    "ResultMeta",
    "ResultRef",
    "decode_result",
    "encode_result",
    "exception_from_wire",
    "exception_to_wire",
    "parse_ref",
    "ref_to_wire",
]

#: Starts a compressed document; begins with NUL, as no plain one does.
COMPRESSED_PREFIX = b"\0celery-compressed\0"
_MIME_MAX_BYTES = 64
_EXTENDED = ("name", "args", "kwargs", "worker", "retries", "queue")
_PLAIN = frozenset(
    {"status", "result", "traceback", "children", "date_done", "task_id", "group_id", "parent_id", *_EXTENDED}
)


class ResultMeta(Struct, frozen=True, kw_only=True):
    """The stored state of one task.

    result: the value; for exception states the wire form of the exception (``exception_from_wire``).
    children: result trees in wire form (``parse_ref``). date_done: ISO 8601 text; only when ready.
    extended: whether name … queue are written (``result_extended``); stamps are written with them.
    other: keys that are none of these, as found.
    """

    task_id: str
    status: str
    result: object = None
    traceback: str | None = None
    children: list[Any] | None = None
    date_done: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    extended: bool = False
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = {}
    other: dict[str, Any] = {}


def result_to_wire(meta: ResultMeta) -> dict[str, object]:
    """Build the document that is stored; keys that Celery leaves out are left out."""
    wire: dict[str, object] = {
        "status": meta.status,
        "result": meta.result,
        "traceback": meta.traceback,
        "children": meta.children,
        "date_done": meta.date_done,
    }
    if meta.group_id:
        wire["group_id"] = meta.group_id
    if meta.parent_id:
        wire["parent_id"] = meta.parent_id
    if meta.extended:
        for name in _EXTENDED:
            wire[name] = getattr(meta, name)
        if meta.stamped_headers is not None:
            wire["stamped_headers"] = meta.stamped_headers
            wire.update(meta.stamps)
    wire.update(meta.other)
    wire["task_id"] = meta.task_id
    return wire


def encode_result(
    meta: ResultMeta,
    serializer: str = "json",
    compression: str | None = None,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> bytes:
    """Write the stored document, compressed when a compression is named.

    Raises: UsageError for a result the serializer cannot write, ConfigError for unknown names.
    """
    data, _type, _encoding = dumps(result_to_wire(meta), serializer, registry)
    return pack(data, compression, registry)


def pack(data: bytes, compression: str | None, registry: ContentRegistry = DEFAULT_REGISTRY) -> bytes:
    """Compress a serialised document behind the prefix that says so; unchanged without compression."""
    if compression is None:
        return data
    small, mime = compress(data, compression, registry.compressions)
    return b"".join((COMPRESSED_PREFIX, mime.encode("ascii"), b"\0", small))


def unpack(data: bytes, limits: Limits = DEFAULT_LIMITS, registry: ContentRegistry = DEFAULT_REGISTRY) -> bytes:
    """Undo ``pack``, led by the prefix alone. Raises: MalformedMessage."""
    check_size(len(data), limits)
    if not data.startswith(COMPRESSED_PREFIX):
        return data
    start = len(COMPRESSED_PREFIX)
    end = data.find(b"\0", start, start + _MIME_MAX_BYTES)
    if end < 0:
        raise MalformedMessage("compressed result does not name its compression")
    mime = data[start:end].decode("ascii", "replace")
    return decompress(data[end + 1 :], mime, limits, registry.compressions)


def decode_document(
    data: bytes | str,
    serializer: str = "json",
    *,
    accept: frozenset[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> object:
    """Read any stored document (a task's, a group's); ``accept`` None takes only this serializer.

    Raises: MalformedMessage, UntrustedContent; ConfigError for a serializer name that is unknown.
    """
    engine = registry.find(serializer)
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    plain = unpack(raw, limits, registry)
    accepted = frozenset({engine.mime}) if accept is None else accept
    if plain is not raw:
        limits = Limits(
            max_bytes=limits.max_decompressed_bytes,
            max_decompressed_bytes=limits.max_decompressed_bytes,
            max_depth=limits.max_depth,
            max_nodes=limits.max_nodes,
        )
    return loads(plain, engine.mime, engine.encoding, accept=accepted, limits=limits, registry=registry)


def decode_result(
    data: bytes | str,
    serializer: str = "json",
    *,
    accept: frozenset[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> ResultMeta:
    """Read the stored document of a task, of any Celery version.

    Raises: MalformedMessage, UntrustedContent; ConfigError for a serializer name that is unknown.
    """
    document = decode_document(data, serializer, accept=accept, limits=limits, registry=registry)
    if not isinstance(document, dict):
        raise MalformedMessage(f"a stored result must be an object, got {type(document).__name__}")
    return result_from_wire(document)


def result_from_wire(document: Mapping[Any, Any]) -> ResultMeta:
    """Read the document of a task as a record. Raises: MalformedMessage."""
    stamped = document.get("stamped_headers")
    names = [name for name in stamped if isinstance(name, str)] if isinstance(stamped, (list, tuple)) else None
    stamps = {name: document[name] for name in names or () if name in document and name not in _PLAIN}
    children = document.get("children")
    retries = document.get("retries")
    known = _PLAIN | stamps.keys() | {"stamped_headers"}
    return ResultMeta(
        task_id=_text(document, "task_id", required=True) or "",
        status=_text(document, "status", required=True) or "",
        result=document.get("result"),
        traceback=_text(document, "traceback"),
        children=list(children) if isinstance(children, (list, tuple)) else None,
        date_done=_date(document),
        group_id=_text(document, "group_id"),
        parent_id=_text(document, "parent_id"),
        extended="name" in document,
        name=_text(document, "name"),
        args=document.get("args"),
        kwargs=document.get("kwargs"),
        worker=_text(document, "worker"),
        retries=retries if isinstance(retries, int) else None,
        queue=_text(document, "queue"),
        stamped_headers=names,
        stamps=stamps,
        other={key: value for key, value in document.items() if key not in known},
    )


def _text(document: Mapping[Any, Any], key: str, required: bool = False) -> str | None:
    value = document.get(key)
    if isinstance(value, str) and (value or not required):
        return value
    if value is None and not required:
        return None
    raise MalformedMessage(f"expected text, got {type(value).__name__}", f"$.{key}")


def _date(document: Mapping[Any, Any]) -> str | None:
    value = document.get("date_done")
    # Older writers and the pickle serializer store a datetime.
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if isoformat is not None else _text(document, "date_done")
