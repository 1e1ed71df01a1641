"""A task as pages show it: every try, the row of the list, the page of one task. Pure functions of evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from opsq.events.evidence import (
    FINAL_STATES,
    OPEN_STATES,
    SENT,
    Evidence,
    Fields,
    Mark,
    decisive,
    is_final,
    moment,
    registers,
    retries,
)
from opsq.events.fields import ATTEMPT_STEP, FIELD_NAMES, FIELDS
from opsq.events.life import (
    ETA,
    NAME,
    QUEUE,
    ROOT,
    RUNTIME,
    Attempt,
    Times,
    anomalies_of,
    attempts_of,
    segments_of,
    times_of,
)
from opsq.events.records import Segments, TaskDetail, TaskItem, Try
from opsq.wire import states

_FINAL_NAMES: Final = dict(FINAL_STATES)
_ARGS, _KWARGS, _PARENT = FIELDS["args"], FIELDS["kwargs"], FIELDS["parent_id"]
_EXPIRES, _EXCHANGE, _ROUTING_KEY = FIELDS["expires"], FIELDS["exchange"], FIELDS["routing_key"]
_RESULT, _EXCEPTION = FIELDS["result"], FIELDS["exception"]
_PAYLOAD, _COMPLETE = FIELDS["payload"], FIELDS["complete"]
#: Fields a ``Try`` has by name; everything else is among its details.
_NAMED: Final = frozenset(
    FIELDS[name]
    for name in (
        *("eta", "runtime", "result", "exception", "traceback", "fingerprint", "cpu_s", "rss_bytes", "child_pid"),
        *("published_at", "delivered_at", "slot_at", "started_at", "finished_at", "acked_at", "pool"),
    )
)


#: A time of a node's clock, by ours: ``Skews.corrected``.
Corrected = Callable[[str, float], float]


def as_told(node: str, at: float) -> float:
    """Believe every clock."""
    return at


def tries(evidence: Evidence, corrected: Corrected = as_told) -> tuple[Try, ...]:
    """Every attempt with its times by our clock, segments and how it ended, first to last."""
    return tuple(_try(attempt, corrected) for attempt in attempts_of(evidence, registers(evidence)))


def _by_our_clock(times: Times, worker: str | None, client: str | None, corrected: Corrected) -> Times:
    """Times of two machines on one clock. A client that nobody heard is taken to be as wrong as the worker."""
    nodes, told = (client or worker, *([worker] * 5)), msgspec.structs.astuple(times)
    return Times(
        *(at if at is None or node is None else corrected(node, at) for node, at in zip(nodes, told, strict=True))
    )


def _try(attempt: Attempt, corrected: Corrected) -> Try:
    times = times_of(attempt)
    value = attempt.value
    spoken = [mark for mark in attempt.marks if mark[0] != SENT]
    latest = attempt.last or (max(spoken, key=moment) if spoken else None)
    times = _by_our_clock(times, latest[3] if latest else None, attempt.sent[3] if attempt.sent else None, corrected)
    details: dict[str, Any] = {}
    for mark in attempt.marks:
        details.update(_named({code: content for code, content in mark[5].items() if code not in _NAMED}))
    return Try(
        number=attempt.number,
        state=_try_state(latest),
        worker=latest[3] if latest else None,
        published_at=times.published,
        delivered_at=times.delivered,
        slot_at=times.slot,
        started_at=times.started,
        finished_at=times.finished,
        acked_at=times.acked,
        segments=Segments(*segments_of(times, value(ETA), value(RUNTIME))),
        runtime_s=value(RUNTIME),
        result=value(_RESULT),
        exception=value(_EXCEPTION),
        traceback=value(FIELDS["traceback"]),
        fingerprint=value(FIELDS["fingerprint"]),
        cpu_s=value(FIELDS["cpu_s"]),
        rss_bytes=value(FIELDS["rss_bytes"]),
        child_pid=value(FIELDS["child_pid"]),
        pool=value(FIELDS["pool"]),
        eta=value(ETA),
        details=details,
    )


def _try_state(latest: Mark | None) -> str:
    if latest is None:
        return states.PENDING
    if is_final(latest):
        return _FINAL_NAMES[latest[0]]
    return OPEN_STATES[latest[0]]


def item(key: int, id: str, evidence: Evidence, corrected: Corrected = as_told) -> TaskItem:
    """The row of the task list."""
    name, decider = decisive(evidence)
    known = registers(evidence)
    attempts = attempts_of(evidence, known)
    lived = tuple(_try(attempt, corrected) for attempt in attempts) or (Try(number=1, state=name),)
    shown = next((one for one in reversed(lived) if one.state == name), lived[-1])
    return TaskItem(
        key=key,
        id=id,
        state=name,
        type=known.get(NAME),
        queue=known.get(QUEUE),
        worker=decider[3] if decider else None,
        args=known.get(_ARGS),
        kwargs=known.get(_KWARGS),
        result=shown.result,
        exception=shown.exception,
        retries=retries(evidence),
        tries=lived[-1].number,
        eta=lived[-1].eta,
        published_at=lived[0].published_at,
        received_at=shown.delivered_at,
        started_at=shown.started_at,
        finished_at=shown.finished_at,
        segments=shown.segments,
        runtime_s=shown.runtime_s,
        parent_id=known.get(_PARENT),
        root_id=known.get(ROOT) or id,
        anomalies=anomalies_of(evidence, attempts),
    )


def detail(
    shown: TaskItem,
    evidence: Evidence,
    *,
    parent: TaskItem | None,
    children: tuple[TaskItem, ...],
    logged: Iterable[Mapping[str, Any]] = (),
    corrected: Corrected = as_told,
) -> TaskDetail:
    """The page of one task. shown: its row, from ``item``. logged: its lines, from ``task_log.shown``."""
    known = registers(evidence)
    lived = tries(evidence, corrected)
    sent = [mark for mark in evidence.marks if mark[0] == SENT]
    if parent is None and shown.parent_id and shown.parent_id != shown.id:
        shown = msgspec.structs.replace(shown, anomalies=(*shown.anomalies, "unknown parent"))
    ended = next((one for one in reversed(lived) if one.traceback), None)
    return TaskDetail(
        item=shown,
        tries=lived,
        traceback=ended.traceback if ended else None,
        expires=known.get(_EXPIRES),
        exchange=known.get(_EXCHANGE),
        routing_key=known.get(_ROUTING_KEY),
        published_by=max(sent, key=moment)[3] if sent else None,
        parent=parent,
        children=children,
        others=(
            *(
                {"kind": kind, "at": mark[1], "worker": mark[3], **_named(mark[5])}
                for kind, marks in evidence.others.items()
                for mark in marks
            ),
            *logged,
        ),
        payload=known.get(_PAYLOAD),
        complete=known.get(_COMPLETE),
    )


def _named(fields: Fields) -> dict[str, Any]:
    return {
        FIELD_NAMES[code % ATTEMPT_STEP] if isinstance(code, int) else code: value for code, value in fields.items()
    }
