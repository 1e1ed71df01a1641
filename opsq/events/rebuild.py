"""Everything that is kept beside the evidence of tasks, derived from it again and compared: ``opsq history rebuild``.

Of a task's events its evidence is stored, and it is all of them that count: the fold's own functions make rows,
counts, sketches, error groups and anomalies of it, and workflows are always read from rows. What was measured rather
than derived (queue depths, levels, event lag, worker records, counts of messages) is left as it is.

Where retention removed tasks, what they counted cannot be counted again: figures that they may have had part in are
only looked at from below, and the rest exactly. Pure but for the store it reads. Thread: one, and no other writer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from msgspec import structs

from opsq.events import evidence as ev
from opsq.events.anomalies import UNKNOWN_PARENT, Anomalies
from opsq.events.cluster import OTHER, Cluster, Limits
from opsq.events.error_groups import LEDGER, ErrorGroups, event_fault
from opsq.events.life import EXCEPTION, FINGERPRINT, TRACEBACK, Summary
from opsq.events.records import key_time
from opsq.events.removed import Gone, gone
from opsq.events.rollup import ALL_TIME, LAG, TIERS, Delta, Rollup, Slice, SliceKey, decode_slice, encode_slice
from opsq.events.rows import Cell, Changes, Restored, TaskRow, Where, add_cells
from opsq.events.sketch import Sketch
from opsq.events.store import MemoryStore, Store
from opsq.wire.event import Event

_PAGE: Final = 2_000
_NUL: Final = "\x00"
_SIGN_FOR_NUL: Final = "\u2400"
#: Sums of seconds are added in another order, so their last digits differ.
_CLOSE: Final = 1e-6
_ENDS: Final = ((ev.FAILED, "task-failed"), (ev.RETRIED, "task-retried"))
_TOLD: Final = (("exception", EXCEPTION), ("traceback", TRACEBACK), ("fingerprint", FINGERPRINT))
_TIER_KEEP_S: Final = {tier.width_s: tier.keep_s for tier in TIERS}
#: Told of the differences of one kind at most.
MOST_TOLD: Final = 100
KINDS: Final = ("row", "count", "figure", "error", "anomaly")


class Difference(NamedTuple):
    """Something kept that is not what evidence gives. what: one of ``KINDS``; name: which one."""

    what: str
    name: str
    kept: Any
    derived: Any


class Rebuilt:
    """What was compared, what differs, and what would put it right."""

    def __init__(self, removed: Gone) -> None:
        self.removed = removed
        self.checked: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self.different: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self.told: list[Difference] = []
        self.changes = Changes()

    def differ(self, what: str, name: str, kept: Any, derived: Any) -> None:
        """Note a difference."""
        self.different[what] += 1
        if self.different[what] <= MOST_TOLD:
            self.told.append(Difference(what, name, kept, derived))

    @property
    def differences(self) -> int:
        """How many there are."""
        return self.different.total()


def rebuild(store: Store, now: float, *, progress: Callable[[int], None] = lambda rows: None) -> Rebuilt:
    """Derive everything from the rows of ``store`` and compare. Writes nothing: ``changes`` is what would be written.

    now: epoch seconds. progress: called with the number of rows read so far. Raises StoreUnavailable.
    """
    known = store.restore()
    found = Rebuilt(gone(known.ledger))
    derived = _Derived(store, known)
    for page in _pages(store):
        derived.add(page, now, found)
        progress(found.checked["row"])
    _compare_cells(known.cells, derived.cells, found)
    _compare_figures(store, derived, now, found)
    _compare_errors(known.ledger, derived.errors, found)
    _compare_anomalies(known.ledger, derived.anomalies, found)
    return found


def _pages(store: Store) -> Iterator[list[TaskRow]]:
    """Every row once, newest first."""
    before: int | None = None
    while page := store.tasks(Where(before=before), _PAGE):
        yield page
        before = page[-1].key


class _Derived:
    """What the rows read so far give."""

    def __init__(self, store: Store, known: Restored) -> None:
        self._store = store
        # Names and groups beyond the bounds count together: those that are told apart are the kept ones.
        named = MemoryStore()
        groups = {name: data for name, data in known.ledger.items() if name.startswith(LEDGER)}
        named.write(Changes(cells=dict(known.cells), ledger=groups))
        self._namer = Cluster(named, Limits())
        self.cells: dict[Cell, int] = {}
        #: Where the oldest row is placed in time; rows come newest first.
        self.oldest_at = 0.0
        self.rollup = Rollup(lambda keys: {}, max_slices=1 << 60)
        self.errors = ErrorGroups(Limits().errors)
        self.errors.restore(known.ledger)
        self.anomalies = Anomalies()

    def add(self, page: list[TaskRow], now: float, found: Rebuilt) -> None:
        """Count some rows, and put those right whose columns are not what their evidence says."""
        delta = Delta()
        children: list[tuple[str, str, float]] = []
        for row in page:
            known = ev.decode(row.evidence)
            summary = _as_kept(self._namer.summary_of(known), row)
            cell = (summary.state, summary.type, summary.queue, summary.worker)
            found.checked["row"] += 1
            if row.cell != cell or (row.root is not None and row.root != summary.root):
                found.differ("row", row.id, row.cell, cell)
                found.changes.rows[row.id] = TaskRow(row.key, row.id, *cell, summary.root, row.evidence)
            self.cells[cell] = self.cells.get(cell, 0) + 1
            delta.change(None, summary)
            self._note_errors(row.id, known)
            at = self.oldest_at = key_time(row.key)
            self.anomalies.change(row.id, at, (), summary.anomalies)
            if summary.parent is not None:
                children.append((row.id, summary.parent, at))
        self.rollup.apply(delta, now)
        present = self._store.load(sorted({parent for _, parent, _ in children})) if children else {}
        for id, parent, at in children:
            if parent not in present:
                self.anomalies.orphan(id, parent, at)

    def _note_errors(self, id: str, known: ev.Evidence) -> None:
        for code, at, clock, host, _, told in known.marks:
            for end, kind in _ENDS:
                if code == end and at:  # without a time that can be believed it was heard of at another
                    fields = {name: told[field] for name, field in _TOLD if field in told}
                    event = Event(kind=kind, hostname=host, pid=None, uuid=id, clock=clock, timestamp=at, fields=fields)
                    fault = event_fault(event)
                    if fault is not None:
                        self.errors.heard(self.errors.admit(fault, OTHER), event)


def _as_kept(summary: Summary, row: TaskRow) -> Summary:
    """A store that cannot hold NUL keeps a sign for it in names; that is no difference."""
    if _NUL not in "".join(part or "" for part in (summary.type, summary.queue, summary.worker, summary.root)):
        return summary
    if any(_NUL in (part or "") for part in row.cell):
        return summary

    def kept(name: str | None) -> str | None:
        return name and name.replace(_NUL, _SIGN_FOR_NUL)

    runs = tuple(structs.replace(run, worker=kept(run.worker) or "", version=kept(run.version)) for run in summary.runs)
    return structs.replace(
        summary, type=kept(summary.type), queue=kept(summary.queue), worker=kept(summary.worker),
        root=kept(summary.root), runs=runs,
    )  # fmt: skip


# -- comparing -------------------------------------------------------------------------------------------------------


def _compare_cells(kept: Mapping[Cell, int], derived: Mapping[Cell, int], found: Rebuilt) -> None:
    """Counts by cell follow their rows, so retention takes nothing from being exact."""
    for cell in sorted({*kept, *derived}, key=repr):
        found.checked["count"] += 1
        mine, right = kept.get(cell, 0), derived.get(cell, 0)
        if mine != right:
            found.differ("count", " ".join(part or "-" for part in cell), mine, right)
            add_cells(found.changes.cells, {cell: right - mine})


def _compare_figures(store: Store, rows: _Derived, now: float, found: Rebuilt) -> None:
    derived = {key: decode_slice(data) for key, data in rows.rollup.take().items()}
    kept: dict[SliceKey, Slice] = {}
    for width in (ALL_TIME, *_TIER_KEEP_S):
        oldest = 0 if width == ALL_TIME else int(now) - _TIER_KEEP_S.get(width, 0)
        for start, series, data in store.slices(width, oldest, 1 << 40):
            kept[width, start, series] = decode_slice(data)
    for key in sorted({*kept, *derived}):
        width, start, _ = key
        if width and start < now - _TIER_KEEP_S[width]:
            continue  # partly beyond its age
        if width and found.removed.rows and start + width <= rows.oldest_at:
            continue  # where room was short it left with the tasks of its time
        found.checked["figure"] += 1
        mine, right = kept.get(key, Slice()), derived.get(key, Slice())
        untouched = not found.removed.rows or (width and start > found.removed.until_at)
        wanted = right if untouched else _at_least(mine, right)
        if not _same(mine, wanted):
            found.differ("figure", f"{width} s from {start}: {key[2] or '(all)'}", _shown(mine), _shown(wanted))
            found.changes.slices[key] = encode_slice(_put_right(mine, wanted))


def _sketches(data: Slice) -> dict[int, Sketch]:
    """Those that evidence gives, without empty buckets."""
    held = {
        segment: {bucket: n for bucket, n in counts.items() if n}
        for segment, counts in data.sketches.items()
        if segment != LAG
    }
    return {segment: counts for segment, counts in held.items() if counts}


def _same(one: Slice, other: Slice) -> bool:
    close = abs(one.run_s - other.run_s) <= _CLOSE * max(1.0, abs(one.run_s), abs(other.run_s))
    return close and one.counts == other.counts and _sketches(one) == _sketches(other)


def _at_least(mine: Slice, right: Slice) -> Slice:
    """What is kept, raised to what the rows that are left give."""
    more, less = _sketches(right), _sketches(mine)
    return Slice(
        [max(pair) for pair in zip(mine.counts, right.counts, strict=True)],
        mine.run_s if mine.run_s >= right.run_s * (1 - _CLOSE) else right.run_s,
        {
            segment: {
                bucket: max(less.get(segment, {}).get(bucket, 0), more.get(segment, {}).get(bucket, 0))
                for bucket in {*less.get(segment, {}), *more.get(segment, {})}
            }
            for segment in {*less, *more}
        },
    )


def _put_right(mine: Slice, wanted: Slice) -> Slice:
    """Derived figures beside what was measured."""
    sketches = _sketches(wanted)
    if LAG in mine.sketches:
        sketches[LAG] = mine.sketches[LAG]
    return structs.replace(mine, counts=wanted.counts, run_s=wanted.run_s, sketches=sketches)


def _shown(data: Slice) -> dict[str, Any]:
    runs = {segment: sum(held.values()) for segment, held in _sketches(data).items()}
    return {"counts": data.counts, "run_s": round(data.run_s, 6), "measured": runs}


def _compare_errors(kept: Mapping[str, bytes], derived: ErrorGroups, found: Rebuilt) -> None:
    """``derived`` began with what is kept and only grew: a group that grew was not right."""
    for name, data in derived.take().items():
        found.checked["error"] += 1
        if data != kept.get(name, b""):
            found.differ("error", name.partition(":")[2], bool(kept.get(name)), True)
            found.changes.ledger[name] = data


def _compare_anomalies(kept: Mapping[str, bytes], derived: Anomalies, found: Rebuilt) -> None:
    stored = Anomalies()
    stored.restore(kept)
    right = derived.counts
    wrong = False
    for kind in sorted({*stored.counts, *right}):
        if found.removed.rows and kind == UNKNOWN_PARENT:
            continue  # the caller may be among the removed
        found.checked["anomaly"] += 1
        mine, wanted = stored.counts.get(kind, 0), right.get(kind, 0)
        if mine < wanted or (mine > wanted and not found.removed.rows):
            wrong = True
            found.differ("anomaly", kind, mine, wanted)
    if wrong:
        found.changes.ledger.update(derived.take())
