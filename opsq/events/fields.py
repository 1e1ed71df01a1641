"""The fields of task events that rows keep: their stored codes, their scope, their types, their size limits.

Three scopes. A field of the **task** describes it whatever happens. A field of the **attempt** describes one run and
is repeated by most of its events; it needs an event that names its attempt. A field of the **moment** belongs to the
one event that carries it.

A field of the wrong type is dropped and named under ``!bad``, so a broken emitter is seen and cannot break a page.
Fields nobody here knows are kept as data under their own name, up to ``MAX_UNKNOWN_BYTES`` an event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import hypot
from operator import ge, itemgetter
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
    "version": (_TEXT, ATTEMPT, 128),
    "payload": (_TEXT, TASK, 65536),
    "complete": (_FLAG, TASK, 0),
    "group_id": (_TEXT, TASK, 256),
}
FIELDS: Final[dict[str, int]] = {name: code for code, name in enumerate(_TABLE)}
FIELD_NAMES: Final = tuple(_TABLE)
_SPECS: Final = {name: (FIELDS[name], *spec) for name, spec in _TABLE.items()}
#: Kept elsewhere: in the mark itself, or by the ledger of sequence numbers.
_ELSEWHERE: Final = frozenset({"seq", "emitter", "attempt", "retries", "uuid", "type", "!bad"})
#: The default exchange has no name, which is not the same as not knowing it.
_MAY_BE_EMPTY: Final = frozenset({"exchange"})
_OWN_ID_IS_NONE: Final = frozenset({"root_id", "parent_id"})
_LARGEST_NUMBER: Final = 2**53
#: Later attempts may push earlier ones out, which needs a closer look.
MOST_PLANNED_ATTEMPTS: Final = 16
MAX_UNKNOWN_KINDS: Final = 8
MAX_UNKNOWN_BYTES: Final = 4096
#: Lines that a task logged come in events of this kind; they are kept apart, see ``task_log.py``.
LOG: Final = "task-log"
MAX_LOG_BYTES: Final = 8192
BAD: Final = FIELDS["!bad"]
#: (stored code, name of the field) of those that an event gives.
Shares = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How fields of one shape (names and types) are split, when nothing about the shape is odd.

    own, shared: (stored code, name) in canonical order. texts: gets those that must not be empty first; limits: their
    most characters, shortest: the least of these; filled: how many of them must not be empty. numbers: gets those.
    """

    own: Shares
    shared: Shares
    texts: Callable[[dict[str, Any]], tuple[str, ...]]
    limits: tuple[int, ...]
    shortest: int
    filled: int
    numbers: Callable[[dict[str, Any]], tuple[float, ...]]

    def holds(self, fields: dict[str, Any]) -> bool:
        """Whether no value is odd either; one that is long or large may be fine, and is looked at closely."""
        texts = self.texts(fields)
        return (
            # At least the largest of them, in one call (from the wire they have 64 bits); NaN is not less either.
            (self.numbers is _nothing or hypot(*self.numbers(fields)) < _LARGEST_NUMBER)
            # What is short all together is short each; that is asked first because it is one call.
            and (len("".join(texts)) <= self.shortest or all(map(ge, self.limits, map(len, texts))))
            and ("" not in texts or "" not in texts[: self.filled])
        )


def pick(shares: Shares, fields: dict[str, Any]) -> dict[int | str, Any]:
    """Those fields of an event, as stored."""
    # Faster than dict(zip()) of what an itemgetter gives.
    return {code: fields[name] for code, name in shares}


def clean_fields(event: Event, attempt: int) -> tuple[dict[int | str, Any], Plan | None, dict[int | str, Any]]:
    """Split an event's fields into those of the moment and those of the task and of its attempt, checked and bounded.

    Returns (of the moment, plan, shared): the shared ones are ``pick(plan.shared, event.fields)``, made only when they
    are wanted, or ``shared`` when there is no plan. attempt: from 1; 0 when the event does not say, and then what it
    tells of the attempt stays with the moment.
    """
    fields = event.fields
    uuid = event.uuid
    plan = _plan(
        attempt, fields.get("root_id") == uuid, fields.get("parent_id") == uuid,
        tuple(fields), tuple(map(type, fields.values())),
    )  # fmt: skip
    if plan is not None and plan.holds(fields):
        return pick(plan.own, fields) if plan.own else {}, plan, _NOTHING
    own, shared = _clean_closely(event, attempt)
    return own, None, shared


_NOTHING: Final[dict[int | str, Any]] = {}


def _nothing(_: dict[str, Any]) -> tuple[Any, ...]:
    return ()


def _getter(names: list[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    if not names:
        return _nothing
    # Of one name alone itemgetter gives no tuple; a value that is there twice changes no answer.
    return itemgetter(*names) if len(names) > 1 else itemgetter(names[0], names[0])


@lru_cache(maxsize=4096)
def left_over(plans: tuple[Plan, ...]) -> tuple[Shares, ...]:
    """What each of several events shares when those before it have taken theirs."""
    taken: set[int] = set()
    left = []
    for plan in plans:
        left.append(tuple(share for share in plan.shared if share[0] not in taken))
        taken.update(code for code, _ in plan.shared)
    return tuple(left)


@lru_cache(maxsize=4096)
def _plan(
    attempt: int, own_root: bool, own_parent: bool, names: tuple[str, ...], types: tuple[type, ...]
) -> Plan | None:
    """The plan for a shape; ``None`` when a field is unknown or of a wrong type, and for hostile attempts."""
    if attempt > MOST_PLANNED_ATTEMPTS:
        return None
    own: list[tuple[int, str]] = []
    shared: list[tuple[int, str]] = []
    texts: list[str] = []
    numbers: list[str] = []
    for name, kind in zip(names, types, strict=True):
        spec = _SPECS.get(name)
        if kind is type(None) or name in _ELSEWHERE:
            continue
        if spec is None or kind not in spec[1]:
            return None
        code, _, scope, _ = spec
        (texts if kind is str else numbers).append(name)
        if scope == TASK:
            if not (own_root and name == "root_id") and not (own_parent and name == "parent_id"):
                shared.append((code, name))
        elif scope == ATTEMPT and attempt:
            shared.append((code + attempt * ATTEMPT_STEP, name))
        else:
            own.append((code, name))
    own.sort()
    shared.sort()
    texts.sort(key=lambda name: name in _MAY_BE_EMPTY)
    limits = tuple(_SPECS[name][3] for name in texts)
    return Plan(
        tuple(own), tuple(shared), _getter(texts), limits, min(limits, default=0),
        sum(name not in _MAY_BE_EMPTY for name in texts), _getter(numbers),
    )  # fmt: skip


def _clean_closely(event: Event, attempt: int) -> tuple[dict[int | str, Any], dict[int | str, Any]]:
    """The same field by field, for whatever may come."""
    own: dict[int | str, Any] = {}
    shared: dict[int | str, Any] = {}
    unknown: dict[str, Any] | None = None
    bad: list[str] = []
    uuid = event.uuid
    for name, value in event.fields.items():
        if value is None or (value == "" and name not in _MAY_BE_EMPTY):
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
            if not (name in _OWN_ID_IS_NONE and value == uuid):
                shared[code] = value[:limit] if is_text else value
        elif scope == ATTEMPT and attempt:
            shared[code + attempt * ATTEMPT_STEP] = value[:limit] if is_text else value
        else:
            own[code] = value[:limit] if is_text else value
    if unknown is not None:
        _keep_unknown(event.kind, unknown, own, bad)
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


def _keep_unknown(kind: str, unknown: dict[str, Any], own: dict[int | str, Any], bad: list[str]) -> None:
    room = MAX_LOG_BYTES if kind == LOG else MAX_UNKNOWN_BYTES
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
