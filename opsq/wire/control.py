"""Remote-control envelopes: a request to workers, and one worker's reply.

Source: Celery protocol, sections "Request" and "Reply" of remote control (pidbox).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from opsq.errors import MalformedMessage
from opsq.wire.content import DEFAULT_REGISTRY, JSON_ONLY, ContentRegistry, dumps, loads
from opsq.wire.limits import DEFAULT_LIMITS, Limits

KEPT_HEADER = "opsq_kept"


class ReplyTo(Struct, frozen=True):
    """Where replies go."""

    exchange: str
    routing_key: str


class Request(Struct, frozen=True, kw_only=True):
    """A command to some or all workers.

    destination: node names; None or empty for everybody. pattern, matcher: used together, only
    without destination. ticket, reply_to: only when a reply is wanted. clock: Lamport clock of the
    sender. expires: epoch seconds after which nobody waits for the reply; 0 for never. kept: the sender has
    written what is to outlive the workers into the broker (a header of ours; Celery ignores it).
    """

    method: str
    arguments: dict[str, Any] = {}
    destination: tuple[str, ...] | None = None
    pattern: str | None = None
    matcher: str | None = None
    ticket: str | None = None
    reply_to: ReplyTo | None = None
    clock: int | None = None
    expires: float | None = None
    kept: bool = False


class Reply(Struct, frozen=True, kw_only=True):
    """What one worker answered; ``{"error": text}`` when the command failed."""

    hostname: str
    value: Any = None
    ticket: str | None = None
    clock: int | None = None

    @property
    def error(self) -> str | None:
        """The error text, when the worker said that the command failed."""
        if isinstance(self.value, dict) and self.value.keys() == {"error"}:
            return str(self.value["error"])
        return None


def encode_request(
    request: Request, serializer: str = "json", registry: ContentRegistry = DEFAULT_REGISTRY
) -> tuple[bytes, str, str, dict[str, Any]]:
    """Write a request; returns bytes, content type, content encoding and headers.

    Raises: UsageError for arguments the serializer cannot write.
    """
    body: dict[str, Any] = {
        "method": request.method,
        "arguments": request.arguments,
        "destination": None if request.destination is None else list(request.destination),
        "pattern": request.pattern,
        "matcher": request.matcher,
    }
    if request.ticket is not None:
        body["ticket"] = request.ticket
    if request.reply_to is not None:
        body["reply_to"] = {"exchange": request.reply_to.exchange, "routing_key": request.reply_to.routing_key}
    headers: dict[str, Any] = {
        "clock": request.clock,
        "expires": request.expires if request.expires is not None else 0,
    }
    if request.kept:
        headers[KEPT_HEADER] = True
    return (*dumps(body, serializer, registry), headers)


def parse_request(
    data: bytes | str | memoryview,
    content_type: str | None,
    content_encoding: str | None,
    headers: Mapping[str, object],
    *,
    accept: frozenset[str] = JSON_ONLY,
    limits: Limits = DEFAULT_LIMITS,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> Request:
    """Read a request. Raises: MalformedMessage, UntrustedContent, and nothing else."""
    body = loads(data, content_type, content_encoding, accept=accept, limits=limits, registry=registry)
    if not isinstance(body, dict):
        raise MalformedMessage(f"a request must be an object, got {type(body).__name__}")
    method = _text(body, "method")
    if not method:
        raise MalformedMessage("a request must name its method", "$.method")
    return Request(
        method=method,
        arguments=_arguments(body.get("arguments")),
        destination=_destination(body.get("destination")),
        pattern=_text(body, "pattern"),
        matcher=_text(body, "matcher"),
        ticket=_text(body, "ticket"),
        reply_to=_reply_to(body.get("reply_to")),
        clock=_clock(headers),
        expires=_expires(headers),
        kept=headers.get(KEPT_HEADER) is True,
    )


def encode_reply(
    reply: Reply, serializer: str = "json", registry: ContentRegistry = DEFAULT_REGISTRY
) -> tuple[bytes, str, str, dict[str, Any]]:
    """Write a reply; returns bytes, content type, content encoding and headers.

    Raises: UsageError for an answer the serializer cannot write.
    """
    headers = {"ticket": reply.ticket, "clock": reply.clock}
    return (*dumps({reply.hostname: reply.value}, serializer, registry), headers)


def parse_reply(
    data: bytes | str | memoryview,
    content_type: str | None,
    content_encoding: str | None,
    headers: Mapping[str, object],
    *,
    accept: frozenset[str] = JSON_ONLY,
    limits: Limits = DEFAULT_LIMITS,
    registry: ContentRegistry = DEFAULT_REGISTRY,
) -> Reply:
    """Read one worker's reply. Raises: MalformedMessage, UntrustedContent, and nothing else."""
    body = loads(data, content_type, content_encoding, accept=accept, limits=limits, registry=registry)
    if not isinstance(body, dict) or len(body) != 1:
        raise MalformedMessage("a reply must be an object with one key, the node name")
    ((hostname, value),) = body.items()
    if not isinstance(hostname, str):
        raise MalformedMessage(f"a node name must be text, got {type(hostname).__name__}")
    ticket = headers.get("ticket")
    return Reply(
        hostname=hostname,
        value=value,
        ticket=ticket if isinstance(ticket, str) else None,
        clock=_clock(headers),
    )


def _text(body: Mapping[Any, Any], key: str) -> str | None:
    value = body.get(key)
    if value is None or isinstance(value, str):
        return value
    raise MalformedMessage(f"{key} must be text or null, got {type(value).__name__}", f"$.{key}")


def _arguments(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise MalformedMessage(f"arguments must be an object, got {type(value).__name__}", "$.arguments")
    return value


def _destination(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise MalformedMessage("destination must be an array of node names or null", "$.destination")
    return tuple(value)


def _reply_to(value: object) -> ReplyTo | None:
    if value is None:
        return None
    if isinstance(value, dict):
        exchange, key = value.get("exchange"), value.get("routing_key")
        if isinstance(exchange, str) and isinstance(key, str):
            return ReplyTo(exchange, key)
    raise MalformedMessage("reply_to must be an object with exchange and routing_key", "$.reply_to")


def _clock(headers: Mapping[str, object]) -> int | None:
    value = headers.get("clock")
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _expires(headers: Mapping[str, object]) -> float | None:
    value = headers.get("expires")
    try:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    except OverflowError:
        return None
