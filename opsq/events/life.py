"""The life of a task, read from its evidence: attempts, latency segments, anomalies, and the summary counters use.

Pure functions of evidence, so they are as order-free as it is. Times come from opsq's own fields and fall back
to the timestamps of the events for emitters that send nothing more (Celery).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from opsq.events.evidence import (
    FAILED,
    FINAL_STATES,
    KINDS,
    OPEN_STATES,
    RECEIVED,
    RETRIED,
    SENT,
    STARTED,
    SUCCEEDED,
    Evidence,
    Fields,
    Mark,
    decisive,
    is_final,
    moment,
    numbered,
    registers,
)
from opsq.events.faults import fault_of
from opsq.events.fields import ATTEMPT_STEP, BAD, FIELDS
from opsq.wire import states

NAME, QUEUE, ROOT, PARENT = FIELDS["name"], FIELDS["queue"], FIELDS["root_id"], FIELDS["parent_id"]
EXCEPTION, TRACEBACK, FINGERPRINT = FIELDS["exception"], FIELDS["traceback"], FIELDS["fingerprint"]
VERSION: Final = FIELDS["version"]
ETA, RUNTIME = FIELDS["eta"], FIELDS["runtime"]
_PUBLISHED, _DELIVERED, _SLOT = FIELDS["published_at"], FIELDS["delivered_at"], FIELDS["slot_at"]
_STARTED, _FINISHED, _ACKED = FIELDS["started_at"], FIELDS["finished_at"], FIELDS["acked_at"]
#: Clocks of two machines differ by this much without anything being wrong; a segment this negative is zero.
SKEW_TOLERANCE_S: Final = 0.05
#: Outcomes of a try, in the order counters keep them.
OUTCOMES: Final = ("succeeded", "failed", "retried", "revoked", "rejected", "ignored")
_OUTCOME_OF: Final = {KINDS.index(f"task-{name}"): index for index, name in enumerate(OUTCOMES)}
_PLAIN_STATES: Final = {**OPEN_STATES, **dict(FINAL_STATES)}
_NO_FIELDS: Final[Fields] = {}
_PLAIN_ENDS: Final = (SUCCEEDED, FAILED)
#: What ``_plain`` reads of an attempt, and the same fields as registers of the first attempt.
_READ: Final = (_PUBLISHED, _DELIVERED, _SLOT, _STARTED, _FINISHED, _ACKED, ETA, RUNTIME, VERSION)
_READ_1: Final = tuple(code + ATTEMPT_STEP for code in _READ)
_STRENGTH: Final = {code: rank for rank, (code, _) in enumerate(reversed(FINAL_STATES))}


class Run(msgspec.Struct, frozen=True):
    """A try that ended: when, how (index into OUTCOMES), on which worker, and its segments in seconds.

    fault: the error group when it failed or is retried because of an error. version: of the code that ran.
    """

    at: float
    outcome: int
    worker: str
    segments: tuple[float | None, ...]
    fault: str | None = None
    version: str | None = None


class Summary(msgspec.Struct, frozen=True):
    """What counters, rollups and indexes need to know of a task; equal evidence gives an equal summary."""

    state: str
    type: str | None
    queue: str | None
    worker: str | None
    root: str | None
    arrived_at: float
    started_at: tuple[float, ...]
    runs: tuple[Run, ...]
    anomalies: tuple[str, ...]
    parent: str | None = None


class Attempt:
    """The marks of one attempt, sorted into what they mean, over the registers of the task."""

    __slots__ = ("last", "marks", "number", "received", "registers", "sent", "started", "starts")

    def __init__(self, number: int, registers: Fields) -> None:
        self.number = number
        self.registers = registers
        self.marks: list[Mark] = []
        self.starts = 0
        self.sent: Mark | None = None
        self.received: Mark | None = None
        self.started: Mark | None = None
        self.last: Mark | None = None

    def add(self, mark: Mark) -> None:
        """Take in a mark of this attempt."""
        self.marks.append(mark)
        code = mark[0]
        if code == SENT:
            self.sent = mark
        elif code == RECEIVED:
            self.received = _later(self.received, mark)
        elif code == STARTED:
            self.starts += 1
            self.started = _later(self.started, mark)
        elif code == RETRIED or is_final(mark):
            self.last = _stronger(self.last, mark)

    def value(self, code: int) -> Any:
        """A field of the attempt: its register, else from the mark that ended it, else the latest mark that has it."""
        known = self.registers.get(code + self.number * ATTEMPT_STEP)
        if known is not None:
            return known
        last = self.last
        if last is not None and code in last[5]:
            return last[5][code]
        found = None
        for mark in self.marks:
            if code in mark[5] and (found is None or moment(mark) > moment(found)):
                found = mark
        return found[5][code] if found is not None else None


def _later(known: Mark | None, mark: Mark) -> Mark:
    return mark if known is None or moment(mark) > moment(known) else known


def _stronger(known: Mark | None, mark: Mark) -> Mark:
    if known is None:
        return mark
    mine, other = _STRENGTH.get(mark[0], -1), _STRENGTH.get(known[0], -1)
    return mark if (mine, moment(mark)) > (other, moment(known)) else known


def attempts_of(evidence: Evidence, known: Fields) -> list[Attempt]:
    """Sort marks into attempts, first to last. known: ``registers(evidence)``."""
    found: dict[int, Attempt] = {}
    for number, mark in numbered(evidence):
        attempt = found.get(number)
        if attempt is None:
            attempt = found[number] = Attempt(number, known)
        attempt.add(mark)
    return [found[number] for number in sorted(found)]


class Times(msgspec.Struct, frozen=True):
    """Epoch seconds of each station of an attempt, ``None`` where unknown."""

    published: float | None
    delivered: float | None
    slot: float | None
    started: float | None
    finished: float | None
    acked: float | None


def times_of(attempt: Attempt) -> Times:
    """When an attempt passed each station."""
    sent, received, started, last = attempt.sent, attempt.received, attempt.started, attempt.last
    value = attempt.value
    start = value(_STARTED)
    if start is None and started is not None:
        start = started[1]
    finish = value(_FINISHED)
    if finish is None and last is not None:
        finish = last[1]
        runtime = value(RUNTIME)
        if start is not None and runtime is not None and runtime >= 0:
            # Celery announces the end when it gets to it; the run itself ended runtime seconds after the start.
            finish = min(finish, start + runtime)
    return Times(
        value(_PUBLISHED) or (sent[1] if sent else None),
        value(_DELIVERED) or (received[1] if received else None),
        value(_SLOT),
        start,
        finish,
        value(_ACKED),
    )


def _span(begin: float | None, end: float | None) -> float | None:
    if begin is None or end is None:
        return None
    if end >= begin:
        return end - begin
    return 0.0 if begin - end <= SKEW_TOLERANCE_S else None


def segments_of(times: Times, eta: str | None, runtime: float | None) -> tuple[float | None, ...]:
    """How long each segment of ``records.Segments`` took, in its order."""
    due = times.delivered
    if eta is not None and due is not None:
        due = max(due, _epoch(eta) or due)
    if times.started is None:
        run = None
    elif runtime is not None and runtime >= 0:
        run = float(runtime)
    else:
        run = _span(times.started, times.finished)
    taken = times.slot if times.slot is not None else times.started
    return (
        _span(times.published, times.delivered),
        _span(due, taken),
        _span(times.slot, times.started),
        run,
        _span(times.finished, times.acked),
        _span(times.published, times.acked if times.acked is not None else times.finished),
    )


def _epoch(text: str) -> float | None:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def anomalies_of(evidence: Evidence, attempts: list[Attempt]) -> tuple[str, ...]:
    """What should not happen and did, such as a run that began after the end."""
    found = set()
    ended: list[Mark] = []
    for attempt in attempts:
        if attempt.starts > 1:
            found.add("started twice")
        ended += [mark for mark in attempt.marks if is_final(mark) and mark[0] in (SUCCEEDED, FAILED)]
    if ended:
        first_end = min(mark[1] for mark in ended)
        finals = {mark[0] for mark in ended}
        if len(ended) > 1:
            found.add("ended twice" if len(finals) == 1 else "ended differently")
        if any(mark[0] == STARTED and mark[1] > first_end + SKEW_TOLERANCE_S for mark in evidence.marks):
            found.add("final then started")
    if any(BAD in mark[5] for mark in evidence.marks):
        found.add("bad field")
    return tuple(sorted(found))


def summarise(evidence: Evidence) -> Summary:
    """Reduce evidence to what is counted."""
    plain = _plain(evidence)
    return plain if plain is not None else _closely(evidence)


def _closely(evidence: Evidence) -> Summary:
    name, mark = decisive(evidence)
    known = registers(evidence)
    attempts = attempts_of(evidence, known)
    runs, starts = [], []
    arrived = None
    for attempt in attempts:
        times = times_of(attempt)
        if arrived is None:
            arrived = _first(times.published, times.delivered, times.started, times.finished)
        if times.started is not None:
            starts.append(times.started)
        last = attempt.last
        if last is not None:
            at = times.finished if times.finished is not None else last[1]
            segments = segments_of(times, attempt.value(ETA), attempt.value(RUNTIME))
            outcome = _OUTCOME_OF[last[0]]
            runs.append(Run(at, outcome, last[3], segments, _fault(attempt), attempt.value(VERSION)))
    return Summary(
        name,
        known.get(NAME),
        known.get(QUEUE),
        mark[3] if mark else None,
        known.get(ROOT),
        arrived or 0.0,
        tuple(starts),
        tuple(runs),
        anomalies_of(evidence, attempts),
        known.get(PARENT),
    )


def _fault(attempt: Attempt) -> str | None:
    last = attempt.last
    return _told_fault(last[5]) if last is not None and last[0] in (FAILED, RETRIED) else None


def _told_fault(told: Fields) -> str | None:
    if EXCEPTION not in told and FINGERPRINT not in told:
        return None
    return fault_of(told.get(EXCEPTION), told.get(TRACEBACK), told.get(FINGERPRINT))


def _plain(evidence: Evidence) -> Summary | None:
    """The summary of a life like most: one attempt, each kind once at most, nothing odd; else ``None``.

    Says the same as ``_closely``, which is tested, for a fifth of the time.
    """
    sent = received = started = final = None
    for mark in evidence.marks:
        code = mark[0]
        if mark[4] > 1:
            return None
        if code == STARTED and started is None:
            started = mark
        elif code == RECEIVED and received is None:
            received = mark
        elif code == SENT and sent is None:
            sent = mark
        elif code in _PLAIN_ENDS and final is None:
            final = mark
        else:
            return None
    # What a moment says of the attempt is taken from its end; from elsewhere needs a closer look.
    if (sent and sent[5]) or (received and received[5]) or (started and started[5]):
        return None
    bundles = evidence.bundles
    known = bundles[0][4] if len(bundles) == 1 else registers(evidence)
    told = final[5] if final is not None else _NO_FIELDS
    if BAD in told:
        return None
    published, delivered, slot, start, finish, acked, eta, runtime, version = map(
        known.get, _READ_1, map(told.get, _READ)
    )
    published = published or (sent[1] if sent else None)
    delivered = delivered or (received[1] if received else None)
    if start is None and started is not None:
        start = started[1]
    arrived = published if published is not None else delivered if delivered is not None else start
    runs: tuple[Run, ...] = ()
    if final is not None:
        if started is not None and started[1] > final[1] + SKEW_TOLERANCE_S:
            return None
        if finish is None:
            finish = final[1]
            if start is not None and runtime is not None and runtime >= 0:
                finish = min(finish, start + runtime)
        segments = segments_of(Times(published, delivered, slot, start, finish, acked), eta, runtime)
        fault = _told_fault(told) if final[0] == FAILED else None
        runs = (Run(finish, _OUTCOME_OF[final[0]], final[3], segments, fault, version),)
        if arrived is None:
            arrived = finish
    elif arrived is None:
        return None
    mark_of_state = final or started or received
    state = states.PENDING if mark_of_state is None else _PLAIN_STATES[mark_of_state[0]]
    if final is None and started is not None and received is not None and moment(received) > moment(started):
        return None
    value = known.get
    return Summary(
        state, value(NAME), value(QUEUE), mark_of_state[3] if mark_of_state else None, value(ROOT), arrived or 0.0,
        (start,) if start is not None else (), runs, (), value(PARENT),
    )  # fmt: skip


def _first(*times: float | None) -> float | None:
    return next((time for time in times if time is not None), None)
