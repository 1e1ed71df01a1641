"""The fields of task events that rows keep: their stored codes, their scope, their types, their size limits.

Three scopes. A field of the **task** describes it whatever happens. A field of the **attempt** describes one run and
is repeated by most of its events; it needs an event that names its attempt. A field of the **moment** belongs to the
one event that carries it.

A field of the wrong type is dropped and named under ``!bad``, so a broken emitter is seen and cannot break a page.
Fields nobody here knows are kept as data under their own name, up to ``MAX_UNKNOWN_BYTES`` an event.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from opsq.wire.event import Event

_TEXT: Final = (str,)
_TIME: Final = (float, int)
_COUNT: Final = (int,)
_FLAG: Final = (bool,)
_ANY: Final = (str, int, float, bool)

TASK, ATTEMPT, MOMENT = range(3)
#: Registers of attempt n are stored under the field's code plus n times this.
ATTEMPT_STEP: Final = 64
#: name -> (accepted types, scope, most characters of text).
#: The position is the stored code, so the order is for ever: append only, fewer than ``ATTEMPT_STEP``.
_TABLE: Final[dict[str, tuple[tuple[type, ...], int, int]]] = {
    "name": (_TEXT, TASK, 256),
    "args": (_TEXT, TASK, 4096),
    "kwargs": (_TEXT, TASK, 4096),
    "root_id": (_TEXT, TASK, 256),
    "parent_id": (_TEXT, TASK, 256),
    "expires": (_TEXT, TASK, 64),
    "exchange": (_TEXT, TASK, 256),
    "routing_key": (_TEXT, TASK, 256),
    "queue": (_TEXT, TASK, 256),
    "pool": (_TEXT, ATTEMPT, 32),
    "eta": (_TEXT, ATTEMPT, 64),
    "result": (_TEXT, MOMENT, 4096),
    "runtime": (_TIME, MOMENT, 0),
    "exception": (_TEXT, MOMENT, 4096),
    "traceback": (_TEXT, MOMENT, 32768),
    "terminated": (_FLAG, MOMENT, 0),
    "signum": (_ANY, MOMENT, 128),
    "expired": (_FLAG, MOMENT, 0),
    "requeue": (_FLAG, MOMENT, 0),
    "published_at": (_TIME, ATTEMPT, 0),
    "delivered_at": (_TIME, ATTEMPT, 0),
    "slot_at": (_TIME, ATTEMPT, 0),
    "started_at": (_TIME, ATTEMPT, 0),
    "finished_at": (_TIME, ATTEMPT, 0),
    "acked_at": (_TIME, ATTEMPT, 0),
    "cpu_s": (_TIME, ATTEMPT, 0),
    "rss_bytes": (_COUNT, ATTEMPT, 0),
    "child_pid": (_COUNT, ATTEMPT, 0),
    "fingerprint": (_TEXT, MOMENT, 128),
    "!bad": (_TEXT, MOMENT, 512),
}
FIELDS: Final[dict[str, int]] = {name: code for code, name in enumerate(_TABLE)}
FIELD_NAMES: Final = tuple(_TABLE)
_SPECS: Final = {name: (FIELDS[name], *spec) for name, spec in _TABLE.items()}
#: Kept elsewhere: in the mark itself, or by the ledger of sequence numbers.
_ELSEWHERE: Final = frozenset({"seq", "emitter", "attempt", "retries", "uuid", "type", "!bad"})
_LARGEST_NUMBER: Final = 2**53
MAX_UNKNOWN_KINDS: Final = 8
MAX_UNKNOWN_BYTES: Final = 4096
BAD: Final = FIELDS["!bad"]


def clean_fields(event: Event, attempt: int) -> tuple[dict[int | str, Any], dict[int | str, Any]]:
    """Split an event's fields into (those of the moment, those of the task and of its attempt), checked and bounded.

    attempt: from 1; 0 when the event does not say, and then what it tells of the attempt stays with the moment.
    """
    own: dict[int | str, Any] = {}
    shared: dict[int | str, Any] = {}
    unknown: dict[str, Any] | None = None
    bad: list[str] = []
    uuid = event.uuid
    for name, value in event.fields.items():
        if value is None or value == "":
            continue
        spec = _SPECS.get(name)
        if spec is None or name in _ELSEWHERE:
            if name not in _ELSEWHERE:
                unknown = unknown or {}
                unknown[name] = value
            continue
        code, types, scope, limit = spec
        is_text = type(value) is str
        if type(value) not in types or not (is_text or -_LARGEST_NUMBER < value < _LARGEST_NUMBER):
            bad.append(name)
        elif scope == TASK:
            # A task that is its own root is the common case: absent says the same in fewer bytes.
            if value != uuid:
                shared[code] = value[:limit]
        elif scope == ATTEMPT and attempt:
            shared[code + attempt * ATTEMPT_STEP] = value[:limit] if is_text else value
        else:
            own[code] = value[:limit] if is_text else value
    if unknown is not None:
        _keep_unknown(unknown, own, bad)
    if bad:
        own[BAD] = ",".join(sorted(bad))[:512]
    return canonical(own), canonical(shared)


def canonical(fields: dict[int | str, Any]) -> dict[int | str, Any]:
    """The same fields in the one order rows have, codes before names: equal fields, equal bytes."""
    if len(fields) < 2:
        return fields
    try:
        return dict(sorted(fields.items()))
    except TypeError:
        return dict(sorted(fields.items(), key=lambda entry: (isinstance(entry[0], str), entry[0])))


def _keep_unknown(unknown: dict[str, Any], own: dict[int | str, Any], bad: list[str]) -> None:
    room = MAX_UNKNOWN_BYTES
    for name in sorted(unknown):
        try:
            size = len(msgspec.msgpack.encode(unknown[name])) + len(name)
        except (OverflowError, ValueError, TypeError, RecursionError):
            size = room + 1
        if size > room or len(name) > 128:
            bad.append(name[:64])
        else:
            room -= size
            own[name] = unknown[name]
