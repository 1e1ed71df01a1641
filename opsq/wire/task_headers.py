"""The headers of a task message, protocol 2, as one frozen record.

Source: Celery protocol, sections "Protocol 2: headers" and "Poison messages". What a Celery worker
accepts is accepted with the obvious reading; what kills one is refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from opsq.errors import MalformedMessage

Seconds = float | int | None
_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
#: Name of the field ``user`` while converting, so that a header called "user" stays apart from it.
_USER_FIELD = "opsq: all other headers"


class TaskHeaders(Struct, frozen=True, kw_only=True):
    """Everything a task message says about itself outside its body.

    timelimit: (hard, soft) seconds, in this order on the wire. eta, expires: ISO 8601 text as sent;
    ``wire.times.parse_time`` reads it. user: all headers that are not Celery's own, including
    ``redelivered``, ``x-death``, ``celery_beat_task`` and ``opsq_*``.
    """

    id: _NonEmpty
    task: _NonEmpty
    lang: str = "py"
    shadow: str | None = None
    eta: str | None = None
    expires: str | None = None
    group: str | None = None
    group_index: int | None = None
    retries: int = 0
    timelimit: tuple[Seconds, Seconds] = (None, None)
    root_id: str | None = None
    parent_id: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = {}
    compression: str | None = None
    user: dict[str, Any] = msgspec.field(default_factory=dict, name=_USER_FIELD)


KNOWN_HEADERS = frozenset(TaskHeaders.__struct_encode_fields__) - {_USER_FIELD}
_TEXT_OR_NULL = (
    "shadow",
    "eta",
    "expires",
    "group",
    "root_id",
    "parent_id",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "compression",
)


def is_protocol2(raw_headers: Mapping[str, object]) -> bool:
    """Whether the headers name the task; otherwise the body may (protocol 1)."""
    return "task" in raw_headers


def headers_to_wire(headers: TaskHeaders) -> dict[str, object]:
    """Write the headers with Celery's names, user headers merged at the top level, where they win."""
    wire: dict[str, object] = {
        "lang": headers.lang,
        "task": headers.task,
        "id": headers.id,
        "shadow": headers.shadow,
        "eta": headers.eta,
        "expires": headers.expires,
        "group": headers.group,
        "group_index": headers.group_index,
        "retries": headers.retries,
        "timelimit": list(headers.timelimit),
        "root_id": headers.root_id,
        "parent_id": headers.parent_id,
        "argsrepr": headers.argsrepr,
        "kwargsrepr": headers.kwargsrepr,
        "origin": headers.origin,
        "ignore_result": headers.ignore_result,
        "replaced_task_nesting": headers.replaced_task_nesting,
        "stamped_headers": headers.stamped_headers,
        "stamps": headers.stamps,
    }
    if headers.compression is not None:
        wire["compression"] = headers.compression
    if headers.user:
        wire.update(headers.user)
    return wire


def parse_headers(raw: Mapping[str, object]) -> TaskHeaders:
    """Read the headers of a protocol 2 message.

    Raises: MalformedMessage naming the header, and nothing else.
    """
    try:
        headers = msgspec.convert(raw, TaskHeaders)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError):
        headers = _parse_leniently(raw)
    unknown = raw.keys() - KNOWN_HEADERS
    if unknown:
        # A frozen record, still being made: nobody else has seen it.
        msgspec.structs.force_setattr(headers, "user", {key: raw[key] for key in raw if key in unknown})
    return headers


def _parse_leniently(raw: Mapping[str, object]) -> TaskHeaders:
    """Read headers that are not of the documented types, or say which one cannot be read."""
    if not isinstance(raw, Mapping):
        raise MalformedMessage(f"headers must be an object, got {type(raw).__name__}", "$headers")
    plain: dict[str, object] = {key: raw[key] for key in KNOWN_HEADERS if raw.get(key) is not None}
    for name in ("id", "task"):
        plain[name] = _required_text(raw, name)
    for name in _TEXT_OR_NULL:
        if name in plain:
            plain[name] = _text(plain[name], name)
    plain["lang"] = str(plain.get("lang", "py"))
    for name in ("retries", "replaced_task_nesting", "group_index"):
        if name in plain:
            plain[name] = _whole(plain[name], name)
    plain["timelimit"] = parse_timelimit(raw.get("timelimit"))
    if "ignore_result" in plain:
        plain["ignore_result"] = bool(plain["ignore_result"])
    plain.update(_stamps(raw))
    try:
        return msgspec.convert(plain, TaskHeaders)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"bad header: {error}", "$headers") from None


def _required_text(raw: Mapping[str, object], name: str) -> str:
    if name not in raw:
        raise MalformedMessage(f"header {name!r} is missing", f"$headers.{name}")
    value = raw[name]
    if not isinstance(value, str) or not value:
        raise MalformedMessage(f"header {name!r} must be text and not empty, got {_shown(value)}", f"$headers.{name}")
    return value


def _text(value: object, name: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        # AMQP has a timestamp type, and other languages' clients use it.
        return value.isoformat()
    raise MalformedMessage(f"header {name!r} must be text or null, got {_shown(value)}", f"$headers.{name}")


def _whole(value: object, name: str) -> int:
    try:
        if isinstance(value, (int, str, float)) and float(value) == int(value):
            return int(value)
    except (ValueError, OverflowError):
        pass
    raise MalformedMessage(f"header {name!r} must be a whole number, got {_shown(value)}", f"$headers.{name}")


def parse_timelimit(value: object, path: str = "$headers.timelimit") -> tuple[Seconds, Seconds]:
    """Read ``[hard, soft]`` seconds; null stands for no limits. Raises: MalformedMessage."""
    if value is None:
        return (None, None)
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise MalformedMessage(f"timelimit must be [hard, soft], got {_shown(value)}", path)
    hard, soft = (_limit(each, path) for each in value)
    return (hard, soft)


def _limit(value: object, path: str) -> Seconds:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    try:
        if isinstance(value, str):
            return float(value)
    except ValueError:
        pass
    raise MalformedMessage(f"a time limit must be seconds or null, got {_shown(value)}", path)


def _stamps(raw: Mapping[str, object]) -> dict[str, object]:
    """Read stamps as far as they can be read: Celery runs a task whatever they are."""
    names = raw.get("stamped_headers")
    if isinstance(names, str):
        names = [names]
    stamps = raw.get("stamps")
    return {
        "stamped_headers": [str(name) for name in names] if isinstance(names, (list, tuple, set)) else None,
        "stamps": {str(key): value for key, value in stamps.items()} if isinstance(stamps, dict) else {},
    }


def _shown(value: object) -> str:
    if isinstance(value, (str, int, float, bool, type(None))):
        return repr(value)[:60]
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
