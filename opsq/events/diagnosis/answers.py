"""What workers answered when they were asked about a task, read into records. Pure; a strange answer is no answer.

Source: Celery protocol C.4 to C.7. A Celery worker lists a task that waits for its rate nowhere, opsq's among those
that wait, without a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from opsq.broker.source import QueueDepth
from opsq.broker.standing import StandingOrder
from opsq.errors import MalformedMessage
from opsq.events.diagnosis.case import Request
from opsq.wire.times import parse_epoch

_DESCRIBED: Final = re.compile(r"(\S+)(?: \[(.*)\])?")
_RATE: Final = re.compile(r"(?:^| )rate_limit=(\S+)")
#: An older Celery gives the start of a task by a clock that means nothing here.
_EARLIEST: Final = 1_000_000_000.0


class Answer(Struct, frozen=True, kw_only=True):
    """What one worker answered; each part None when it was not asked for it, or did not answer."""

    running: tuple[Request, ...] | None = None
    reserved: tuple[Request, ...] | None = None
    waiting: tuple[Request, ...] | None = None
    registered: Mapping[str, str | None] | None = None
    queues: tuple[str, ...] | None = None
    slots: int | None = None
    pool: str | None = None
    ours: bool | None = None
    revoked: bool | None = None


class Looked(Struct, frozen=True, kw_only=True):
    """One look at the fleet. asked: names of workers, empty for everybody. answers: by name of those who answered.

    orders: standing orders that hold, None where the broker keeps none or did not answer. depth: of the queue.
    driver: kind of broker. lacks: what could not be found out, and why.
    """

    at: float
    asked: tuple[str, ...] = ()
    answers: Mapping[str, Answer] = {}
    orders: tuple[StandingOrder, ...] | None = None
    depth: QueueDepth | None = None
    driver: str = ""
    lacks: tuple[str, ...] = ()


NOT_LOOKED: Final = Looked(at=0.0, lacks=("the workers were not asked",))


def answer_of(parts: Mapping[str, Any], id: str) -> Answer:
    """Read what one worker answered. parts: name of the command -> its answer."""
    stats = parts.get("stats")
    pool = stats.get("pool") if isinstance(stats, Mapping) else None
    slots = pool.get("max-concurrency") if isinstance(pool, Mapping) else None
    revoked = parts.get("revoked")
    return Answer(
        running=requests(parts.get("active")),
        reserved=requests(parts.get("reserved")),
        waiting=waiting(parts.get("scheduled")),
        registered=registered(parts.get("registered")),
        queues=_names(parts.get("active_queues")),
        slots=slots if type(slots) is int and slots >= 0 else None,
        pool=_pool(pool),
        ours="opsq" in stats if isinstance(stats, Mapping) else None,
        revoked=id in revoked if isinstance(revoked, list | Mapping) else None,
    )


def requests(listed: Any) -> tuple[Request, ...] | None:
    """The tasks of ``active`` or ``reserved``, in their order."""
    return tuple(_requests(listed)) if isinstance(listed, list) else None


def waiting(listed: Any) -> tuple[Request, ...] | None:
    """The tasks of ``scheduled``, in their order, with the moment each is held for."""
    if not isinstance(listed, list):
        return None
    found: list[Request] = []
    for each in listed:
        if isinstance(each, Mapping):
            eta_at = moment(each.get("eta"))
            found += [Request(one.id, one.type, eta_at=eta_at) for one in _requests([each.get("request")])]
    return tuple(found)


def _requests(listed: Iterable[Any]) -> Iterable[Request]:
    for each in listed:
        if isinstance(each, Mapping) and isinstance(each.get("id"), str):
            name, began = each.get("type") or each.get("name"), each.get("time_start")
            known = isinstance(began, int | float) and began > _EARLIEST
            yield Request(each["id"], name if isinstance(name, str) else None, began if known else None)


def registered(listed: Any) -> dict[str, str | None] | None:
    """Task name -> its rate limit as written, of what ``registered`` lists."""
    if not isinstance(listed, list):
        return None
    found: dict[str, str | None] = {}
    for each in listed:
        told = _DESCRIBED.fullmatch(each) if isinstance(each, str) else None
        if told is not None:
            rate = _RATE.search(told[2] or "")
            found[told[1]] = rate[1] if rate is not None and rate[1] not in ("0", "0.0") else None
    return found


def _names(queues: Any) -> tuple[str, ...] | None:
    if not isinstance(queues, list):
        return None
    return tuple(each["name"] for each in queues if isinstance(each, Mapping) and isinstance(each.get("name"), str))


def _pool(told: Any) -> str | None:
    """The pool's short name, of Celery's ``celery.concurrency.prefork:TaskPool`` the middle."""
    kind = told.get("implementation") if isinstance(told, Mapping) else None
    if not isinstance(kind, str):
        return None
    return kind.rpartition(":")[0].rpartition(".")[2] or kind


def moment(text: Any) -> float | None:
    """Epoch seconds of an ISO time, None for what is none."""
    if not isinstance(text, str):
        return None
    try:
        return parse_epoch(text, "eta")
    except MalformedMessage:
        return None


def per_s(rate: str | None) -> float | None:
    """A rate such as ``10/m`` per second; None for none."""
    number, _, unit = (rate or "").partition("/")
    try:
        value = float(number) / {"s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}[unit.strip()]
    except (ValueError, KeyError):
        return None
    return value if value > 0 else None
