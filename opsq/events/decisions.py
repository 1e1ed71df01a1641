"""Decisions about slots, as the autoscalers announce them: kept in a table of their own, read as records.

A decision is known by its group, its time and who announced it, so a replay or a second monitor adds nothing.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from opsq.wire.event import Event

DECIDED: Final = "worker-autoscale"
#: A larger record than this is cut down to its figures.
MOST_BYTES: Final = 16_384
#: Between two writes so many are held; further ones are dropped and counted.
MOST_HELD: Final = 10_000
_LONGEST_NAME: Final = 256
_NEEDED: Final = ("have", "want", "target")


class DecisionRow(msgspec.Struct, frozen=True):
    """One decision as stored. at: epoch seconds. changed: it changed the size. record: the fields of its event."""

    group: str
    at: float
    source: str
    changed: bool
    record: bytes


class DecidedBound(msgspec.Struct, frozen=True, array_like=True):
    """One bound of a decision: its name, kind (``need``, ``cap``, ``floor``), the slots and the reason in words."""

    name: str
    kind: str
    slots: float | None
    text: str


class DecidedSignal(msgspec.Struct, frozen=True, array_like=True):
    """One input: of which queue (empty: of the group), its name, value and unit, and its age in seconds."""

    queue: str
    name: str
    value: float | None
    unit: str
    age_s: float | None = None


class DecisionItem(msgspec.Struct, frozen=True, kw_only=True):
    """One decision for readers; the fields are those of the event ``worker-autoscale``."""

    group: str
    at: float
    source: str
    have: int
    want: int
    target: int
    applied: int | None = None
    mode: str = "live"
    winner: str = ""
    capped_by: str | None = None
    bounds: tuple[DecidedBound, ...] = ()
    text: str = ""
    preset: str = ""
    min: int | None = None
    max: int | None = None
    slo: float | None = None
    hold: float | None = None
    noisy: bool = False
    running: int = 0
    starting: int = 0
    spent: float | None = None
    signals: tuple[DecidedSignal, ...] = ()
    queues: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether it changed the size, or would have."""
        return self.target != self.have

    @property
    def slots(self) -> int:
        """Slots there are after it."""
        return self.target if self.applied is None else self.applied

    def signal(self, name: str, queue: str | None = None) -> DecidedSignal | None:
        """Find an input, of one queue or the first of any."""
        return next((one for one in self.signals if one.name == name and queue in (None, one.queue)), None)


def row_of(event: Event) -> DecisionRow | None:
    """The row that an event brings; None for one that says too little to be kept."""
    fields = event.fields
    numbers = [fields.get(name) for name in _NEEDED]
    if not all(type(number) is int and 0 <= number < 2**31 for number in numbers):
        return None
    group = _name(fields.get("group")) or _name(event.hostname)
    kept = {name: value for name, value in fields.items() if name != "group" and value is not None}
    record = _encoded(kept)
    if record is None:
        small = {name: value for name, value in kept.items() if not isinstance(value, (list, dict, str))}
        record = msgspec.msgpack.encode(small)
    source = _name(event.emitter) or _name(event.hostname)
    return DecisionRow(group, event.timestamp, source, fields["have"] != fields["target"], record)


def _name(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")[:_LONGEST_NAME]


def _encoded(fields: dict[str, Any]) -> bytes | None:
    try:
        record = msgspec.msgpack.encode(fields)
    except (ValueError, TypeError, OverflowError, RecursionError, UnicodeError):
        return None
    return record if len(record) <= MOST_BYTES else None


def item_of(row: DecisionRow) -> DecisionItem:
    """The decision that a row holds; what somebody else's emitter wrote otherwise is left out."""
    fields = msgspec.msgpack.decode(row.record)
    whole = {**fields, "group": row.group, "at": row.at, "source": row.source}
    try:
        return msgspec.convert(whole, DecisionItem, strict=False)
    except msgspec.ValidationError:
        figures = {name: fields[name] for name in _NEEDED}
        return DecisionItem(group=row.group, at=row.at, source=row.source, **figures)


class HeldDecisions:
    """Decisions between two writes. dropped: those that said too little, or found no room. Thread: the writer's."""

    def __init__(self) -> None:
        self.dropped = 0
        self._rows: list[DecisionRow] = []

    def add(self, event: Event) -> None:
        """Hold what a decision's event says."""
        row = row_of(event)
        if row is None or len(self._rows) >= MOST_HELD:
            self.dropped += 1
        else:
            self._rows.append(row)

    def take(self) -> list[DecisionRow]:
        """All of them, to be written."""
        taken, self._rows = self._rows, []
        return taken


class MemoryDecisions:
    """Decisions in this process. Thread: one at a time."""

    def __init__(self) -> None:
        self._rows: list[DecisionRow] = []
        self._known: set[tuple[str, float, str]] = set()

    def write(self, rows: Iterable[DecisionRow]) -> None:
        """Keep those that are not there yet."""
        for row in rows:
            key = (row.group, row.at, row.source)
            if key not in self._known:
                self._known.add(key)
                insort(self._rows, row, key=attrgetter("at"))

    def read(self, since: float, until: float, group: str | None, changed: bool, limit: int) -> list[DecisionRow]:
        """The newest of a time range, newest first."""
        found = (
            row
            for row in reversed(self._rows)
            if since <= row.at < until and group in (None, row.group) and (row.changed or not changed)
        )
        return [row for row, _ in zip(found, range(limit), strict=False)]

    def latest(self, since: float) -> list[DecisionRow]:
        """The newest of each group that decided since then, by name."""
        newest = {row.group: row for row in self._rows if row.at >= since}
        return [newest[group] for group in sorted(newest)]

    def retain(self, before: float) -> None:
        """Drop what is from before an epoch second."""
        self._rows = [row for row in self._rows if row.at >= before]
        self._known = {(row.group, row.at, row.source) for row in self._rows}


COLUMNS: Final = "grp, at, source, changed, record"

#: Parameters: name, holder, until, holder, now. One row is changed when the lease is the holder's.
LEASE: Final = (
    "INSERT INTO leases (name, holder, until) VALUES ({mark}, {mark}, {mark}) "
    "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until "
    "WHERE leases.holder = {mark} OR leases.until <= {mark}"
)


def question(group: str | None, changed: bool, mark: str) -> str:
    """The SQL of ``Store.decisions``, for parameters (since, until, [group,] limit); mark: how the store writes one."""
    parts = [f"at >= {mark}", f"at < {mark}"]
    if group is not None:
        parts.append(f"grp = {mark}")
    if changed:
        parts.append("changed")
    return f"SELECT {COLUMNS} FROM decisions WHERE {' AND '.join(parts)} ORDER BY at DESC, grp LIMIT {mark}"


def latest_question(mark: str) -> str:
    """The SQL of ``Store.latest_decisions``, for the parameter since."""
    newest = f"SELECT grp AS g, max(at) AS newest FROM decisions WHERE at >= {mark} GROUP BY grp"
    return f"SELECT {COLUMNS} FROM decisions JOIN ({newest}) n ON grp = g AND at = newest ORDER BY grp, source"


def answers(records: Iterable[Sequence[Any]]) -> list[DecisionRow]:
    """Rows as a store answers them, in the order of ``COLUMNS``."""
    return [DecisionRow(grp, at, source, bool(changed), bytes(data)) for grp, at, source, changed, data in records]
