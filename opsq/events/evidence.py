"""What is known of one task: a value that depends on the set of its events, never on their order.

``fold`` joins events into evidence. It is commutative, associative and idempotent, so duplicates, reordering,
replay after a reconnect and several monitors that merge their rows are all safe. Two parts, both lattices:

* **marks**: that something happened, when, where, with the fields that belong to that moment. A set; of each
  kind the ``MARKS_PER_KIND`` with the greatest ``(at, clock, host)`` are kept.
* **registers**: what describes the task (name, arguments, queue …) or one attempt (its times, its pool …). Per
  field the value of the greatest ``(rank, at, clock, host)``; ``task-sent`` has the lower rank, because a client's
  clock does not order against a worker's. Fields won by the same event share one bundle, which keeps rows small.
  Registers of the latest ``ATTEMPTS_KEPT`` attempts are kept.

Evidence is kept and stored as canonical bytes (``encode``): equal evidence, equal bytes.
Source: Celery protocol, section "events"; the clock of ``task-sent`` is not synchronised with the workers'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from opsq.events.fields import FIELDS, MAX_UNKNOWN_KINDS, Plan, canonical, clean_fields, left_over, pick
from opsq.events.lattice import ATTEMPTS_KEPT as ATTEMPTS_KEPT
from opsq.events.lattice import Bundle as Bundle
from opsq.events.lattice import Fields as Fields
from opsq.events.lattice import Mark as Mark
from opsq.events.lattice import claim, mark_set
from opsq.wire import states
from opsq.wire.event import Event

#: Known kinds; the position is what rows store, so the order is for ever: append only.
KINDS: Final = (
    "task-sent",
    "task-received",
    "task-started",
    "task-retried",
    "task-succeeded",
    "task-failed",
    "task-revoked",
    "task-rejected",
    "task-ignored",
    "task-cancelled",
)
SENT, RECEIVED, STARTED, RETRIED, SUCCEEDED, FAILED, REVOKED, REJECTED, IGNORED, CANCELLED = range(10)
_CODES: Final = {kind: code for code, kind in enumerate(KINDS)}
#: A kind that ends the task, strongest first: a stored success is kept, whatever a redelivery did later.
FINAL_STATES: Final = (
    (SUCCEEDED, states.SUCCESS),
    (FAILED, states.FAILURE),
    (REVOKED, states.REVOKED),
    (REJECTED, states.REJECTED),
    (IGNORED, states.IGNORED),
)
OPEN_STATES: Final = {
    RECEIVED: states.RECEIVED,
    STARTED: states.STARTED,
    RETRIED: states.RETRY,
    REJECTED: states.REJECTED,
    CANCELLED: states.PENDING,
}
MARKS_PER_KIND: Final = 16
MARKS_PER_UNKNOWN_KIND: Final = 4
_LATEST_TIME: Final = 4_102_444_800.0  # the year 2100; a later time is a broken clock
_LARGEST_CLOCK: Final = 2**53
_LONGEST_HOST: Final = 256
_LONGEST_KIND: Final = 128
REQUEUE: Final = FIELDS["requeue"]


class Evidence(msgspec.Struct, frozen=True):
    """What is known of one task. marks and bundles are sorted; others holds kinds nobody here knows, by name."""

    marks: tuple[Mark, ...] = ()
    bundles: tuple[Bundle, ...] = ()
    others: dict[str, tuple[Mark, ...]] = {}


EMPTY: Final = Evidence()


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """Evidence as bytes: node names once, marks and bundles with the position of theirs."""

    hosts: tuple[str, ...]
    marks: tuple[tuple[int, float, int, int, int, Fields], ...]
    bundles: tuple[tuple[int, float, int, int, Fields], ...]
    others: dict[str, tuple[Mark, ...]] = {}


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Stored)


def encode(evidence: Evidence) -> bytes:
    """Turn evidence into its canonical bytes. Raises ValueError for text that is not Unicode."""
    marks, bundles = evidence.marks, evidence.bundles
    names = {mark[3] for mark in marks}
    for bundle in bundles:
        names.add(bundle[3])
    hosts = sorted(names)
    if len(hosts) == 1:  # as of most tasks when nobody announces what is published
        return _ENCODER.encode(
            (
                hosts,
                [(kind, at, clock, 0, attempt, own) for kind, at, clock, _, attempt, own in marks],
                [(rank, at, clock, 0, held) for rank, at, clock, _, held in bundles],
                evidence.others,
            )
        )
    place = hosts.index
    return _ENCODER.encode(
        (
            hosts,
            [(kind, at, clock, place(host), attempt, own) for kind, at, clock, host, attempt, own in marks],
            [(rank, at, clock, place(host), held) for rank, at, clock, host, held in bundles],
            evidence.others,
        )
    )


def decode(data: bytes) -> Evidence:
    """Read what ``encode`` wrote. Raises msgspec.MsgspecError when the bytes are something else."""
    stored = _DECODER.decode(data)
    hosts = stored.hosts
    return Evidence(
        tuple([(kind, at, clock, hosts[host], attempt, own) for kind, at, clock, host, attempt, own in stored.marks]),
        tuple([(rank, at, clock, hosts[host], held) for rank, at, clock, host, held in stored.bundles]),
        stored.others,
    )


def join(evidence: Evidence, event: Event) -> Evidence:
    """Add one event."""
    return fold(evidence, (event,))


def merge(one: Evidence, other: Evidence) -> Evidence:
    """Join what two monitors know of the same task."""
    others = [mark_of for pair in (one.others, other.others) for mark_of in pair.items()]
    return _normal(
        [*one.marks, *other.marks],
        [*one.bundles, *other.bundles],
        [(kind, mark) for kind, marks in others for mark in marks],
    )


#: What an event says, by what orders it: (rank, at, clock, host, number, plan, fields). The number is there so that
#: sorting never compares what follows.
_Told = tuple[int, float, int, str, int, Plan, dict[str, Any]]


def fold(evidence: Evidence, events: Iterable[Event]) -> Evidence:
    """Add events of this task, in any order; events already known change nothing."""
    marks = list(evidence.marks)
    bundles = list(evidence.bundles)
    others = [(kind, mark) for kind, known in evidence.others.items() for mark in known] if evidence.others else []
    told: list[_Told] = []
    for event in events:
        code = _CODES.get(event.kind, -1)
        at = event.timestamp
        if not 0.0 <= at <= _LATEST_TIME:
            at = 0.0
        clock = event.clock
        if clock is None or not 0 <= clock < _LARGEST_CLOCK:
            clock = 0
        host = event.hostname[:_LONGEST_HOST]
        fields = event.fields
        if not fields and code >= 0:
            # All that Celery says of a start.
            marks.append((code, at, clock, host, 0, {}))
            continue
        attempt = attempt_of(event)
        own, plan, shared = clean_fields(event, attempt)
        if code < 0:
            if plan is not None:
                shared = pick(plan.shared, fields)
            others.append((event.kind[:_LONGEST_KIND], (code, at, clock, host, attempt, canonical({**own, **shared}))))
            continue
        marks.append((code, at, clock, host, attempt, own))
        if plan is None:
            if shared:
                bundles.append((0 if code == SENT else 1, at, clock, host, shared))
        elif plan.shared:
            told.append((0 if code == SENT else 1, at, clock, host, len(told), plan, fields))
    held = None if bundles else _claim(told)
    if held is None:
        bundles += [(*key, pick(plan.shared, fields)) for *key, _, plan, fields in told]  # type: ignore[misc]
        held = claim(bundles)
    return Evidence(mark_set(marks, MARKS_PER_KIND), held, _other_kinds(others) if others else {})


def _claim(told: list[_Told]) -> tuple[Bundle, ...] | None:
    """The registers of events that were all planned; ``None`` when two of them have the same key.

    Most of what most events say is said again by a later one, so values are looked up only where they win.
    """
    if len(told) == 1:  # as of most of Celery's
        rank, at, clock, host, _, plan, fields = told[0]
        return ((rank, at, clock, host, pick(plan.shared, fields)),)
    told.sort(reverse=True)
    kept: list[Bundle] = []
    last = None
    for (rank, at, clock, host, _, _, fields), left in zip(told, left_over(tuple([one[5] for one in told]))):  # noqa: B905 - it costs
        key = (rank, at, clock, host)
        if key == last:
            return None
        last = key
        if left:
            kept.append((*key, pick(left, fields)))
    kept.reverse()
    return tuple(kept)


def attempt_of(event: Event) -> int:
    """The attempt an event says it belongs to, counted from 1; 0 when it does not say."""
    fields = event.fields
    attempt = fields.get("attempt")
    if type(attempt) is int and 0 < attempt < 1_000_000:
        return attempt
    retries = fields.get("retries")
    if type(retries) is int and 0 <= retries < 1_000_000:
        return retries + 1
    return 0


def _normal(marks: list[Mark], bundles: list[Bundle], others: list[tuple[str, Mark]]) -> Evidence:
    return Evidence(mark_set(marks, MARKS_PER_KIND), claim(bundles), _other_kinds(others) if others else {})


def _other_kinds(others: Sequence[tuple[str, Mark]]) -> dict[str, tuple[Mark, ...]]:
    by_kind: dict[str, list[Mark]] = {}
    for kind, mark in others:
        by_kind.setdefault(kind, []).append(mark)
    # The alphabetically first kinds are kept: a choice that does not depend on who came first.
    return {
        kind: mark_set(by_kind[kind], MARKS_PER_UNKNOWN_KIND)[-MARKS_PER_UNKNOWN_KIND:]
        for kind in sorted(by_kind)[:MAX_UNKNOWN_KINDS]
    }


def is_final(mark: Mark) -> bool:
    """Does this mark end the task? A rejection that puts the message back does not."""
    return SUCCEEDED <= mark[0] <= IGNORED and not (mark[0] == REJECTED and bool(mark[5].get(REQUEUE)))


def state(evidence: Evidence) -> str:
    """The state of the task, by Celery's names."""
    return decisive(evidence)[0]


def decisive(evidence: Evidence) -> tuple[str, Mark | None]:
    """The state and the mark that decides it, ``None`` when no worker has spoken yet.

    A final kind wins; else the latest of received, started, retried … in the latest attempt.
    """
    final = [mark for mark in evidence.marks if mark[0] >= SUCCEEDED and is_final(mark)]
    if final:
        # Codes are in the order of FINAL_STATES: the smallest is the strongest.
        strongest = final[0][0]
        mark = final[0] if len(final) == 1 else max((one for one in final if one[0] == strongest), key=moment)
        return FINAL_STATES[strongest - SUCCEEDED][1], mark
    spoken = [(number, moment(mark), mark[0], mark) for number, mark in numbered(evidence) if mark[0] != SENT]
    if not spoken:
        return states.PENDING, None
    mark = max(spoken, key=lambda entry: entry[:3])[3]
    return OPEN_STATES[mark[0]], mark


def moment(mark: Mark) -> tuple[float, int, str]:
    """What orders marks of workers: time, then logical clock, then host."""
    return mark[1], mark[2], mark[3]


def numbered(evidence: Evidence) -> list[tuple[int, Mark]]:
    """Every mark with the attempt it belongs to, counted from 1.

    Celery names the attempt only when a message is sent or received. A mark that does not say is matched on its
    own host (one host's clock orders its own events), else it belongs to as many attempts as retries were
    announced before it.
    """
    marks = evidence.marks
    if all(mark[4] < 2 and mark[0] != RETRIED for mark in marks):
        return [(1, mark) for mark in marks]
    ordered = sorted((mark for mark in marks if mark[0] != SENT), key=lambda mark: (*moment(mark), mark[0]))
    hosts: dict[str, _Host] = {}
    retried = 0
    result = [(mark[4] or 1, mark) for mark in marks if mark[0] == SENT]
    for mark in ordered:
        host = hosts.setdefault(mark[3], _Host())
        number = mark[4] or host.attempt_of(mark) or retried + 1
        retried += mark[0] == RETRIED
        host.note(number, mark)
        result.append((number, mark))
    return result


class _Host:
    """The attempts that one host took, began and ended, as far as its marks have been read in order.

    A start is of the first attempt taken and not begun, an end of the first begun and not ended: a worker of
    Celery takes the retry before it announces that the try before it ended.
    """

    __slots__ = ("begun", "ended", "latest", "taken")

    def __init__(self) -> None:
        self.taken: set[int] = set()
        self.begun: set[int] = set()
        self.ended: set[int] = set()
        self.latest = 0

    def attempt_of(self, mark: Mark) -> int:
        """The attempt that ``mark``, which names none, must be of; 0 when nothing is known here."""
        waiting: set[int] = set()
        if mark[0] == STARTED:
            waiting = self.taken - self.begun - self.ended
        elif _ends(mark):
            waiting = self.begun - self.ended or self.taken - self.ended
        return min(waiting, default=self.latest)

    def note(self, number: int, mark: Mark) -> None:
        """Take a mark of attempt ``number`` in."""
        if mark[0] == RECEIVED:
            self.taken.add(number)
            self.begun.discard(number)  # delivered again: what comes now is of another run of it
            self.ended.discard(number)
        elif mark[0] == STARTED:
            self.begun.add(number)
        elif _ends(mark):
            self.ended.add(number)
        self.latest = max(self.latest, number + (mark[0] == RETRIED))


def _ends(mark: Mark) -> bool:
    return mark[0] == RETRIED or is_final(mark)


def registers(evidence: Evidence) -> Fields:
    """All registers at once: a field's code, plus ``ATTEMPT_STEP`` times the attempt, to its value."""
    found: Fields = {}
    for bundle in evidence.bundles:
        found.update(bundle[4])
    return found


def retries(evidence: Evidence) -> int:
    """How often the task was retried, by the attempts its events name or by the retries announced."""
    announced = attempts = 0
    for mark in evidence.marks:
        announced += mark[0] == RETRIED
        attempts = max(attempts, mark[4])
    return max(announced, attempts - 1)
