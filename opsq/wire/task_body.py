"""The body of a task message: arguments and what follows.

Source: Celery protocol, section "Protocol 2: body". A body of any other form than three elements
stops a Celery worker for good; here it is a ``MalformedMessage``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from opsq.errors import MalformedMessage
from opsq.wire.compression import compress, decompress
from opsq.wire.content import DEFAULT_REGISTRY, JSON, JSON_MIME, ContentRegistry, dumps, loads
from opsq.wire.limits import DEFAULT_LIMITS, Limits, check_size

Signatures = list[dict[str, Any]] | None


class Embed(Struct, frozen=True, kw_only=True):
    """What happens after the task.

    callbacks: published on success. errbacks: published on failure. chain: the rest of the chain in
    REVERSE order, next task last. chord: the body of the chord this task is a header member of.
    """

    callbacks: Signatures = None
    errbacks: Signatures = None
    chain: Signatures = None
    chord: dict[str, Any] | None = None


NO_EMBED = Embed()


class TaskBody(Struct, frozen=True):
    """Arguments of a task, and what happens after it."""

    args: list[Any] | tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    embed: Embed = NO_EMBED


_Triple = tuple[list[Any], dict[str, Any], Embed | None]
_fast_decode = msgspec.json.Decoder(_Triple).decode
_EMBED_LISTS = ("callbacks", "errbacks", "chain")


def encode_body(
    body: TaskBody, serializer: str, compression: str | None = None, registry: ContentRegistry = DEFAULT_REGISTRY
) -> tuple[bytes, str, str, str | None]:
    """Write a body; returns bytes, content type, content encoding, and the header ``compression`` or None.

    Raises: UsageError for values the serializer cannot write, ConfigError for unknown names.
    """
    embed = body.embed
    plain = (
        body.args,
        body.kwargs,
        {"callbacks": embed.callbacks, "errbacks": embed.errbacks, "chain": embed.chain, "chord": embed.chord},
    )
    data, content_type, content_encoding = dumps(plain, serializer, registry)
    if compression is None:
        return data, content_type, content_encoding, None
    data, mime = compress(data, compression, registry.compressions)
    return data, content_type, content_encoding, mime


def decode_body(
    data: bytes | str | memoryview,
    content_type: str | None,
    content_encoding: str | None,
    compression: str | None,
    *,
    accept: frozenset[str],
    limits: Limits = DEFAULT_LIMITS,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> TaskBody:
    """Read a body: three elements, or the hybrid form, an object with ``args``.

    Raises: MalformedMessage, UntrustedContent, and nothing else.
    """
    usual_json = registry is DEFAULT_REGISTRY or registry.by_mime.get(JSON_MIME) is JSON
    if compression is None and content_type == JSON_MIME and content_type in accept and usual_json:
        usual = decode_usual_body(data, limits)
        if usual is not None:
            return usual
    document = load_document(
        data, content_type, content_encoding, compression, accept=accept, limits=limits, registry=registry
    )
    return body_of_object(document) if isinstance(document, dict) else body_of_array(document)


def decode_usual_body(data: bytes | str | memoryview, limits: Limits) -> TaskBody | None:
    """Decode plain JSON bytes of three elements in one step; None when it is anything else, or not valid."""
    if type(data) is not bytes or len(data) > limits.max_bytes or b"__type__" in data:
        return None
    if data.count(b"[") + data.count(b"{") > limits.max_depth:
        return None
    try:
        args, kwargs, embed = _fast_decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return TaskBody(args, kwargs, embed or NO_EMBED)


def load_document(
    data: bytes | str | memoryview,
    content_type: str | None,
    content_encoding: str | None,
    compression: str | None,
    *,
    accept: frozenset[str],
    limits: Limits = DEFAULT_LIMITS,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> object:
    """Decompress when the header says so, then decode. Raises: MalformedMessage, UntrustedContent."""
    if compression:
        data = _inflate(data, compression, limits, registry)
        limits = msgspec.structs.replace(limits, max_bytes=limits.max_decompressed_bytes)
    return loads(data, content_type, content_encoding, accept=accept, limits=limits, registry=registry)


def _inflate(data: bytes | str | memoryview, compression: object, limits: Limits, registry: ContentRegistry) -> bytes:
    if not isinstance(compression, str):
        raise MalformedMessage("header 'compression' must be text", "$headers.compression")
    if isinstance(data, str):
        raise MalformedMessage("a compressed body must be bytes, got text")
    check_size(len(data), limits)
    return decompress(bytes(data), compression, limits, registry.compressions)


def body_of_array(document: object) -> TaskBody:
    """Read the body of protocol 2. Raises: MalformedMessage."""
    if not isinstance(document, (list, tuple)):
        raise MalformedMessage(f"body must be [args, kwargs, embed], got {type(document).__name__}")
    if len(document) != 3:
        raise MalformedMessage(f"body must have 3 elements [args, kwargs, embed], got {len(document)}")
    args, kwargs, embed = document
    return TaskBody(_args(args, "$[0]"), _kwargs(kwargs, "$[1]"), _embed(embed, "$[2]"))


def body_of_object(document: dict[Any, Any]) -> TaskBody:
    """Read the fields of a body that is an object: protocol 1, or the hybrid form. Raises: MalformedMessage."""
    if "args" not in document:
        raise MalformedMessage("body is an object without 'args'", "$.args")
    return TaskBody(
        _args(document["args"], "$.args"), _kwargs(document.get("kwargs") or {}, "$.kwargs"), _embed(document, "$")
    )


def _args(value: object, path: str) -> list[Any] | tuple[Any, ...]:
    if isinstance(value, (list, tuple)):
        return value
    raise MalformedMessage(f"args must be an array, got {type(value).__name__}", path)


def _kwargs(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedMessage(f"kwargs must be an object, got {type(value).__name__}", path)
    for key in value:
        if not isinstance(key, str):
            raise MalformedMessage(f"keys of kwargs must be text, got {type(key).__name__}", path)
    return value


def _embed(value: object, path: str) -> Embed:
    if value is None:
        return NO_EMBED
    if not isinstance(value, dict):
        raise MalformedMessage(f"embed must be an object or null, got {type(value).__name__}", path)
    chord = value.get("chord")
    if chord is not None and not isinstance(chord, dict):
        raise MalformedMessage(f"chord must be a signature or null, got {type(chord).__name__}", f"{path}.chord")
    lists = {name: _signatures(value.get(name), f"{path}.{name}") for name in _EMBED_LISTS}
    return Embed(chord=chord, **lists)


def _signatures(value: object, path: str) -> Signatures:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise MalformedMessage(f"expected an array of signatures or null, got {type(value).__name__}", path)
    for index, each in enumerate(value):
        if not isinstance(each, dict):
            raise MalformedMessage(f"a signature must be an object, got {type(each).__name__}", f"{path}[{index}]")
    return list(value)
