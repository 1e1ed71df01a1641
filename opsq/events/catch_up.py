"""Answers of workers, as the events that would have told the same. Pure.

Source: Celery protocol C.4 to C.7. Old workers give ``time_start`` by a clock of their own and arguments as data; such
a time is left out, and the start is dated to now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from opsq.wire.event import Event
from opsq.wire.saferepr import saferepr

INSPECTED: Final = "worker-inspected"
_EARLIEST: Final = 1_000_000_000.0
_LONGEST_ID: Final = 255


class Known(NamedTuple):
    """What one worker answered: requests that run, that wait for a slot, and that wait for their time."""

    running: Sequence[Any]
    held: Sequence[Any]
    waiting: Sequence[Any]


def tasks_of(node: str, known: Known, now: float) -> Iterator[Event]:
    """The events of everything a worker has, received before started, dated ``now`` where it gives no time."""
    for request in _requests(known.running):
        at = _start(request, now)
        yield _received(node, request, at)
        fields = {"child_pid": request["worker_pid"]} if type(request.get("worker_pid")) is int else {}
        yield Event(kind="task-started", hostname=node, timestamp=at, uuid=request["id"], fields=fields)
    for request in _requests(known.held):
        yield _received(node, request, now)
    for each in known.waiting:
        inner = each.get("request") if isinstance(each, Mapping) else None
        for request in _requests([inner]):
            eta = each.get("eta")
            yield _received(node, request, now, eta if isinstance(eta, str) else None)


def _requests(listed: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """Those that have an id."""
    for each in listed:
        if isinstance(each, Mapping) and isinstance(each.get("id"), str) and 0 < len(each["id"]) <= _LONGEST_ID:
            yield each


def _start(request: Mapping[str, Any], now: float) -> float:
    told = request.get("time_start")
    return float(told) if isinstance(told, (int, float)) and _EARLIEST < told <= now + 1.0 else now


def _received(node: str, request: Mapping[str, Any], at: float, eta: str | None = None) -> Event:
    fields: dict[str, Any] = {
        "name": _text(request.get("name") or request.get("type")),
        "args": _text(request.get("args")),
        "kwargs": _text(request.get("kwargs")),
        "eta": eta,
    }
    info = request.get("delivery_info")
    if isinstance(info, Mapping) and isinstance(info.get("routing_key"), str):
        fields["routing_key"] = info["routing_key"]
    present = {name: value for name, value in fields.items() if value is not None}
    return Event(kind="task-received", hostname=node, timestamp=at, uuid=request["id"], fields=present)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return saferepr(value, 1024)


def facts_of(node: str, stats: Any, queues: Any, now: float) -> Event | None:
    """What a worker that does not tell has: slots, pool, queues, prefetch; ``None`` when it did not answer."""
    facts: dict[str, Any] = {}
    if isinstance(stats, Mapping):
        pool = stats.get("pool")
        if isinstance(pool, Mapping):
            slots, kind = pool.get("max-concurrency"), pool.get("implementation")
            if type(slots) is int and slots >= 0:
                facts["slots"] = slots
            if isinstance(kind, str):
                facts["pool"] = kind.rpartition(":")[0].rpartition(".")[2][:32] or None
        if type(stats.get("prefetch_count")) is int:
            facts["prefetch"] = stats["prefetch_count"]
    if isinstance(queues, list):
        facts["queues"] = [each["name"] for each in queues if isinstance(each, Mapping) and "name" in each][:100]
    if not facts:
        return None
    return Event(kind=INSPECTED, hostname=node, timestamp=now, fields=facts)
