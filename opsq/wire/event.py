"""Events as they travel: parse a message into records, write a batch of events.

Source: Celery protocol, section "Event messages". One message holds one event or an array of them,
whatever its routing key. The timestamp is kept as sent: absolute epoch seconds; Celery's receiver
shifts it by ``utcoffset``, which is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from opsq.errors import MalformedMessage, UntrustedContent
from opsq.wire.content import JSON_MIME, JSON_ONLY, loads
from opsq.wire.event_kinds import COMMON_FIELDS, EVENT_KINDS, Field, Kind, field_types
from opsq.wire.jsonext import dumps_json
from opsq.wire.limits import DEFAULT_LIMITS, Limits
from opsq.wire.saferepr import saferepr

__all__ = [
    "COMMON_FIELDS",
    "EVENT_KINDS",
    "Event",
    "Field",
    "Kind",
    "Malformed",
    "encode_event",
    "encode_events",
    "event_to_wire",
    "parse_events",
    "routing_key",
]

SAMPLE_MAX_CHARS = 1000
_EPOCH_MAX_S = 1e11
_INT64_MIN = -(2**63)
_INT64_MAX = 2**63 - 1
# Larger numbers would be refused by every store, inside the loop that writes them.
_Value = (
    Annotated[int, msgspec.Meta(ge=_INT64_MIN, le=_INT64_MAX)] | float | str | bool | list[Any] | dict[str, Any] | None
)
_fast_decode = msgspec.json.Decoder(list[dict[str, _Value]] | dict[str, _Value]).decode


class Event(Struct, frozen=True, kw_only=True):
    """One thing that was announced.

    kind: such as ``task-received``. timestamp: epoch seconds of the sender's clock. seq, emitter:
    only from opsq. uuid: the task's id. fields: everything else, see ``EVENT_KINDS``.
    """

    kind: str
    hostname: str
    timestamp: float
    pid: int | None = None
    clock: int | None = None
    utcoffset: float | None = None
    seq: int | None = None
    emitter: str | None = None
    uuid: str | None = None
    fields: dict[str, Any] = {}

    @property
    def group(self) -> str:
        """The part of the kind before the first dash: ``task``, ``worker``."""
        return self.kind.partition("-")[0]


class Malformed(Struct, frozen=True):
    """An event that cannot be read: a value to be counted, not an error to be raised."""

    reason: str
    sample: str


_COMMON_TYPES = field_types(COMMON_FIELDS)
_UUID_IF_ANY = frozenset({str, type(None)})
_UNKNOWN_KIND_TYPES = {**_COMMON_TYPES, "uuid": _UUID_IF_ANY}
_TYPES: Mapping[str, dict[str, frozenset[type]]] = MappingProxyType(
    {name: {**_COMMON_TYPES, **field_types(kind.fields)} for name, kind in EVENT_KINDS.items()}
)
#: Pairs of field name and type that are right, for one look at a whole event.
_RIGHT: Mapping[str, frozenset[tuple[str, type]]] = MappingProxyType(
    {
        kind: frozenset((name, each) for name, accepted in types.items() for each in accepted)
        for kind, types in _TYPES.items()
    }
)
_NEEDS_UUID = frozenset(
    name for name, kind in EVENT_KINDS.items() if any(each.required and each.name == "uuid" for each in kind.fields)
)


def routing_key(kind: str) -> str:
    """The routing key of a single event of this kind: dashes become dots."""
    return kind.replace("-", ".")


def parse_events(
    data: bytes | str | memoryview,
    content_type: str | None = JSON_MIME,
    content_encoding: str | None = "utf-8",
    *,
    accept: frozenset[str] = JSON_ONLY,
    limits: Limits = DEFAULT_LIMITS,
) -> list[Event | Malformed]:
    """Read one message of events; what cannot be read is in the list as ``Malformed``. Never raises."""
    document: Any = None
    if content_type == JSON_MIME and content_type in accept and type(data) is bytes:
        document = _decode_usual(data, limits)
    ranges_checked = document is not None
    if document is None:
        try:
            document = loads(data, content_type, content_encoding, accept=accept, limits=limits)
        except (MalformedMessage, UntrustedContent) as error:
            return [Malformed(str(error), _sample(data))]
    if type(document) is list:
        return [_parse(each, ranges_checked) for each in document]
    return [_parse(document, ranges_checked)]


def _decode_usual(data: bytes, limits: Limits) -> object:
    """Decode the common case, whole numbers checked for range on the way; None when it is not the common case."""
    if len(data) > limits.max_bytes or b"__type__" in data:
        return None
    try:
        document = _fast_decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    # Flat events side by side have one bracket each; only what is left over can make depth.
    if data.count(b"[") + data.count(b"{") - len(document) > limits.max_depth:
        return None
    return document


def _parse(raw: Any, ranges_checked: bool) -> Event | Malformed:
    if type(raw) is not dict:
        return Malformed(f"an event must be an object, got {type(raw).__name__}", _sample(raw))
    kind = raw.get("type")
    if type(kind) is not str or not kind:
        return Malformed("an event must have the text field 'type'", _sample(raw))
    # One look at the whole shape is the reason this is fast: a fleet sends few shapes, a million times each.
    if not ranges_checked or not _is_right(kind, tuple(raw), tuple(map(type, raw.values()))):
        problem = _type_problem(kind, raw)
        if problem:
            return Malformed(f"{kind}: {problem}", _sample(raw))
    return _build(kind, raw)


@lru_cache(maxsize=2048)
def _is_right(kind: str, names: tuple[str, ...], types: tuple[type, ...]) -> bool:
    """Whether an event of these fields and types is one that the table knows, field by field."""
    right = _RIGHT.get(kind)
    return right is not None and right.issuperset(zip(names, types, strict=True))


def _type_problem(kind: str, raw: dict[Any, Any]) -> str:
    """Say which field is of a wrong type; empty when none is."""
    types = _TYPES.get(kind, _UNKNOWN_KIND_TYPES)
    for name, value in raw.items():
        if type(name) is not str:
            return f"field names must be text, got {type(name).__name__}"
        if name in types and type(value) not in types[name]:
            return f"field {name!r} must not be {type(value).__name__}"
        if type(value) is int and not _INT64_MIN <= value <= _INT64_MAX:
            return f"field {name!r} is out of range"
    return ""


def _build(kind: str, raw: dict[str, Any]) -> Event | Malformed:
    """Make the event of a document whose types are right; takes the common fields out of it."""
    hostname, timestamp, uuid = raw.get("hostname"), raw.get("timestamp"), raw.get("uuid")
    if not hostname or timestamp is None or (not uuid and kind in _NEEDS_UUID):
        missing = "hostname" if not hostname else "timestamp" if timestamp is None else "uuid"
        return Malformed(f"{kind}: field {missing!r} is missing", _sample(raw))
    # The comparison is false for NaN too, which would poison every order it gets into.
    if not 0 <= timestamp < _EPOCH_MAX_S:
        return Malformed(f"{kind}: timestamp {timestamp!r} is not epoch seconds", _sample(raw))
    take = raw.pop
    del raw["type"], raw["hostname"], raw["timestamp"]
    take("uuid", None)
    return Event(
        kind=kind,
        hostname=hostname,
        timestamp=float(timestamp),
        pid=take("pid", None),
        clock=take("clock", None),
        utcoffset=take("utcoffset", None),
        seq=take("seq", None),
        emitter=take("emitter", None),
        uuid=uuid,
        fields=raw,
    )


def _sample(data: object) -> str:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data[:SAMPLE_MAX_CHARS]).decode("utf-8", "replace")[:SAMPLE_MAX_CHARS]
    if isinstance(data, str):
        return data[:SAMPLE_MAX_CHARS]
    return saferepr(data, SAMPLE_MAX_CHARS)


def event_to_wire(event: Event) -> dict[str, Any]:
    """Write a record as the flat object that travels; absent opsq fields stay absent."""
    wire: dict[str, Any] = {
        "hostname": event.hostname,
        "utcoffset": event.utcoffset,
        "pid": event.pid,
        "clock": event.clock,
        "timestamp": event.timestamp,
        "type": event.kind,
    }
    for name in ("uuid", "seq", "emitter"):
        value = getattr(event, name)
        if value is not None:
            wire[name] = value
    wire.update(event.fields)
    return wire


def event_from_wire(raw: Mapping[str, Any]) -> Event | Malformed:
    """Read the flat object that ``event_to_wire`` writes."""
    return _parse(dict(raw), ranges_checked=False)


_encode = msgspec.json.Encoder().encode


def encode_events(events: Sequence[Mapping[str, object]]) -> bytes:
    """Write events as one JSON array, also when there is but one.

    Raises: UsageError when a field of a custom event cannot be written.
    """
    if all(event.get("type") in EVENT_KINDS for event in events):
        try:
            return _encode(events)
        except (TypeError, ValueError, RecursionError, OverflowError):
            # A value of an unusual type: the slow writer knows more of them, and says which.
            pass
    return dumps_json([dict(event) for event in events])


def encode_event(event: Mapping[str, object]) -> bytes:
    """Write one event as a single JSON object, the form of ``worker-*`` and ``task-sent``."""
    whole = encode_events((event,))
    return whole[1:-1].strip()
