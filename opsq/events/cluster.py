"""The one writer's view of a cluster: folds batches of events and says what changed.

Every counter is a function of rows: what a row counted before its evidence grew is taken back and what it counts
now is added, in the same transaction that writes the row. So a duplicate or a replay changes nothing, and a count
equals a recount. Tasks are cached by bytes, finished ones leave first; the store has them all.

Thread: the writer's, except what says otherwise.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final
from zlib import crc32

import msgspec

from opsq.events import evidence as ev
from opsq.events.anomalies import Anomalies
from opsq.events.cells import CellCounts
from opsq.events.decisions import DECIDED, HeldDecisions
from opsq.events.error_groups import FAILING, ErrorGroups, event_fault
from opsq.events.fields import LOG
from opsq.events.flows import Flows
from opsq.events.levels import fresh_depths, running, waiting
from opsq.events.life import Summary, summarise
from opsq.events.limits import Limits as Limits
from opsq.events.live import LiveTasks
from opsq.events.names import OTHER as OTHER
from opsq.events.names import KnownNames
from opsq.events.records import KEY_SHIFT, DepthSample, key_time, time_key
from opsq.events.rollup import Delta, Rollup
from opsq.events.rows import Where, add_cells
from opsq.events.sequence import Emitter, Sequences
from opsq.events.skew import Skews
from opsq.events.store import Cell, Changes, Removed, Store, TaskRow
from opsq.events.tally import Tally
from opsq.events.task_log import HeldLogs, batch_of
from opsq.events.vouch import LATEST_TIME, Vouched, sane
from opsq.events.workers import Workers, restore_workers
from opsq.wire.event import Event, Malformed

_LONGEST_ID: Final = 255
_SAMPLES: Final = 50
#: So many of the newest rows say at a start which workflows moved of late.
_RESTORED_ROWS: Final = 5_000
_MOST_KINDS: Final = 500
_LARGEST_SEQ: Final = 2**62
_ID_MASK: Final = (1 << KEY_SHIFT) - 1
_FINISHED: Final = frozenset(name for _, name in ev.FINAL_STATES)
_TASK_KINDS: Final = frozenset(ev.KINDS)
_LEDGER = msgspec.msgpack.Encoder()


class Grown(msgspec.Struct):
    """What a batch changed, for the feed: ids of tasks whose evidence grew, and whether workers said anything."""

    tasks: set[str]
    workers: bool = False


class Ledger(msgspec.Struct, array_like=True):
    """Counts of events, kept across restarts."""

    kinds: dict[str, int] = {}
    malformed: int = 0
    duplicates: int = 0
    dropped: int = 0
    lost_before: int = 0
    was_anomalies: dict[str, int] = {}  # counted in anomalies.py since


class Cluster:
    """Tasks, workers, queues and counts of one broker."""

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._store = store
        self.live = LiveTasks(self.limits.live_bytes)
        self.workers = Workers(max_workers=self.limits.workers, offline_after_s=self.limits.offline_after_s)
        self.sequences = Sequences(max_emitters=self.limits.emitters)
        self.rollup = Rollup(store.fetch_slices, max_slices=self.limits.slices)
        self.ledger = Ledger()
        self.errors = ErrorGroups(self.limits.errors)
        self.anomalies = Anomalies()
        self.flows = Flows(self.limits.flows, self._row_of)
        self._vouched = Vouched()
        self.samples: deque[str] = deque(maxlen=_SAMPLES)
        #: (state, type, queue, worker) -> tasks of history in it. Thread: any, by ``copy()``.
        self.cells: CellCounts
        self.names: KnownNames
        self.skews = Skews()
        self.tally = Tally()
        #: Latest sample of each queue. Thread: any.
        self.depths: dict[str, DepthSample] = {}
        self._new_depths: deque[DepthSample] = deque(maxlen=10_000)
        self._rows: dict[str, TaskRow] = {}
        self._cells: dict[Cell, int] = {}
        #: Most tasks of a batch move between the same few cells, so what follows from it is worked out once a batch.
        self._moved: Counter[Cell] = Counter()
        self._new_keys: set[int] = set()
        self._children: list[tuple[str, str, float]] = []
        self._ledger_changed = False
        self._logs = HeldLogs()
        self.decisions = HeldDecisions()
        self._level_at = 0
        self._applied_at = 0.0
        self._restore()

    def _restore(self) -> None:
        known = self._store.restore()
        self.cells = CellCounts(known.cells)
        self.names = KnownNames(self.limits, self.cells, self.errors)
        restore_workers(self.workers, known.workers)
        self.errors.restore(known.ledger)
        self.anomalies.restore(known.ledger)
        if known.cells:
            self.flows.complete_since = inf  # until the first batch says what time it is
            for row in reversed(self._store.tasks(Where(), _RESTORED_ROWS)):
                if row.root is not None:
                    self.flows.restore(row.id, key_time(row.key), row.state, row.root)
        if "counts" in known.ledger:
            self.ledger = msgspec.msgpack.decode(known.ledger["counts"], type=Ledger)
            self.sequences.lost_before = self.ledger.lost_before
        if "emitters" in known.ledger:
            self.sequences.emitters = msgspec.msgpack.decode(known.ledger["emitters"], type=dict[str, Emitter])

    # -- writing -------------------------------------------------------------------------------------------------

    def apply(self, batch: Sequence[Event | Malformed], now: float, *, live: bool = True) -> Grown:
        """Fold a batch that arrived by ``now`` (epoch seconds, our clock). Never raises for what events contain.

        live: they came from the broker as they were sent; those of a replay, and what workers say when they are
        asked, tell nothing of delays.
        """
        by_task: dict[str, list[Event]] = {}
        failures: list[Event] = []
        hosts: dict[str, float] = {}
        delta = Delta()
        grown = Grown(set())
        unnumbered: set[str] = set()
        kinds = self.ledger.kinds
        vouched, accepts, seen = self._vouched, self._vouched.accepts, self.sequences.seen
        for event in batch:
            if isinstance(event, Malformed):
                self._malformed(event)
                continue
            kind, host = event.kind, event.hostname
            counted = kind if kind in kinds else self._kind(kind)
            kinds[counted] = kinds.get(counted, 0) + 1
            emitter = event.emitter
            if not ((host in vouched or accepts(host)) and (not emitter or emitter in vouched or accepts(emitter))):
                self._malformed(Malformed(f"{counted}: the name of its sender cannot be kept", ascii(host)[:200]))
                continue
            if emitter and (seq := event.seq) is not None and 0 <= seq <= _LARGEST_SEQ:
                seen(emitter, host, seq, now)
            elif live:
                unnumbered.add(host)
            if kind not in _TASK_KINDS and self._aside(event, delta if live else None, grown, now):
                continue
            at, id = event.timestamp, event.uuid
            if live and hosts.get(host, 0.0) < at < LATEST_TIME:
                hosts[host] = at
            if id and (kind in _TASK_KINDS or kind.startswith("task-")):
                id = id[:_LONGEST_ID]
                of_task = by_task.get(id)
                if of_task is None:
                    by_task[id] = [event]
                else:
                    of_task.append(event)
                if kind in FAILING:
                    failures.append(event)
            elif kind.startswith("schedule-"):
                self.tally.ticks.heard(event)
        for host in unnumbered:
            self.sequences.seen_unnumbered(host, now)
        self._note_hosts(hosts, delta, now)
        self._applied_at = now
        if self.flows.complete_since == inf:
            self.flows.complete_since = now
        self._fold(by_task, delta, grown, now)
        self._note_failures(failures)
        self._note_depths(delta)
        self._note_levels(delta, now)
        self.rollup.apply(delta, now)
        self._ledger_changed = self._ledger_changed or bool(batch)
        return grown

    def _kind(self, kind: str) -> str:
        """What a kind that was not counted before is counted as."""
        return kind if len(self.ledger.kinds) < _MOST_KINDS and self._vouched.accepts(kind) else OTHER

    def _note_hosts(self, hosts: dict[str, float], delta: Delta, now: float) -> None:
        """Take note of who was heard, and of the time of the newest event of each."""
        for host, at in hosts.items():
            self.skews.heard(host, at, now)
            if host in self.workers.records:  # clients are not workers
                self.workers.heard(host, at, now)
                delta.lag(now, max(0.0, now - self.skews.corrected(host, at)))

    def _aside(self, event: Event, delta: Delta | None, grown: Grown, now: float) -> bool:
        """Take an event that is no part of a task's life; false when it may be. delta: none for what was asked for."""
        kind, host = event.kind, event.hostname
        if kind == DECIDED:
            self.decisions.add(sane(event, now))
            grown.workers = True
        elif kind.startswith("worker-"):
            self.workers.said(sane(event, now), now)
            if delta is not None and (load := self.workers.load_due(event, now)) is not None:
                delta.load(now, host, *load)
            grown.workers = True
        elif kind == LOG and event.uuid:
            self._log(event.uuid[:_LONGEST_ID], event, grown)
        else:
            return False
        return True

    def _log(self, id: str, event: Event, grown: Grown) -> None:
        """Hold what a task logged, as long as there is room."""
        try:
            held = self._logs.add(batch_of(id, event))
        except (ValueError, OverflowError) as error:
            self._malformed(Malformed(f"{LOG} cannot be kept: {error}", repr(id)))
            return
        if held:
            grown.tasks.add(id)
        else:
            self.ledger.dropped += 1

    def _malformed(self, event: Malformed) -> None:
        self.ledger.malformed += 1
        self.samples.append(f"{event.reason}: {event.sample}")

    def _fold(self, by_task: dict[str, list[Event]], delta: Delta, grown: Grown, now: float) -> None:
        missing = self.live.missing(by_task)
        found = self._store.load(missing) if missing else {}
        for row in found.values():
            self.live.put(row.id, row.key, row.evidence, finished=row.state in _FINISHED)
        unknown = set(missing).difference(found)
        fresh: list[tuple[str, Summary, bytes]] = []
        for id, events in by_task.items():
            known = None if id in unknown else self.live.get(id)
            before = ev.EMPTY if known is None else ev.decode(known[1])
            after = ev.fold(before, events)
            try:
                data = ev.encode(after)
            except (ValueError, OverflowError) as error:
                self._malformed(Malformed(f"{events[0].kind} cannot be kept: {error}", repr(id)))
                continue
            if known is not None and data == known[1]:
                self.ledger.duplicates += len(events)
                continue
            grown.tasks.add(id)
            summary = self.names.bounded(summarise(after))
            self.tally.told(events, summary)
            if known is None:
                fresh.append((id, summary, data))
                continue
            self._keep(id, known[0], self.names.bounded(summarise(before)), summary, data, delta, now)
        for id, summary, data, key in self._with_keys(fresh, now):
            self._keep(id, key, None, summary, data, delta, now)
        self.cells.add_all(self._moved)
        add_cells(self._cells, self._moved)
        self._moved = Counter()
        self._check_parents()

    def _keep(
        self, id: str, key: int, before: Summary | None, after: Summary, data: bytes, delta: Delta, now: float
    ) -> None:
        delta.change(before, after)
        self.tally.ended(id, before, after)
        cell = (after.state, after.type, after.queue, after.worker)
        self._moved[cell] += 1
        if before is not None:
            self._moved[before.state, before.type, before.queue, before.worker] -= 1
        if after.anomalies or (before is not None and before.anomalies):
            self.anomalies.change(id, key_time(key), before.anomalies if before else (), after.anomalies)
        self._rows[id] = TaskRow(key, id, *cell, after.root, data)
        self.live.put(id, key, data, finished=after.state in _FINISHED)
        if after.root is not None or id in self.flows:
            self.flows.change(id, key_time(key), before, after, now)
        parent = before.parent if before is not None else None
        if after.parent != parent:
            if parent is not None:
                self.anomalies.withdraw(id, parent, key_time(key))
            if after.parent is not None:
                self._children.append((id, after.parent, key_time(key)))
        if before is None and self.anomalies.is_waited_for(id):
            self.anomalies.found(id, key_time(key))

    def _check_parents(self) -> None:
        """Of the calls that came in, count those whose caller has no row."""
        children, self._children = self._children, []
        missing = {parent for _, parent, _ in children if parent not in self.live}
        if missing:
            missing.difference_update(self._store.load(sorted(missing)))
            for id, parent, at in children:
                if parent in missing:
                    self.anomalies.orphan(id, parent, at)

    def _row_of(self, id: str) -> tuple[str, str | None, float] | None:
        """State, type and time of the row of a task that is its own root."""
        known = self.live.get(id)
        if known is not None:
            summary = summarise(ev.decode(known[1]))
            return None if summary.root is not None else (summary.state, summary.type, key_time(known[0]))
        row = self._store.load([id]).get(id)
        return None if row is None or row.root is not None else (row.state, row.type, key_time(row.key))

    def _note_failures(self, failures: list[Event]) -> None:
        for event in failures:
            fault = event_fault(event)
            if fault is not None and event.uuid and event.uuid[:_LONGEST_ID] in self.live:
                self.errors.heard(self.errors.admit(fault, OTHER), event)

    def _with_keys(
        self, fresh: list[tuple[str, Summary, bytes]], now: float
    ) -> Iterable[tuple[str, Summary, bytes, int]]:
        """Give new rows their keys: by time, with some bits of the id, moved on where that is taken."""
        wanted = [
            (
                time_key(min(summary.arrived_at or now, now)) | crc32(id.encode("utf-8", "surrogatepass")) & _ID_MASK,
                id, summary, data,
            )
            for id, summary, data in fresh
        ]  # fmt: skip
        taken = self._store.taken([key for key, *_ in wanted]) if wanted else set()
        for first, id, summary, data in wanted:
            key = first
            while key in taken or key in self._new_keys or (key != first and self._store.taken([key])):
                key += 1
            self._new_keys.add(key)
            yield id, summary, data, key

    def summary_of(self, known: ev.Evidence) -> Summary:
        """What is counted of a task: names beyond the bounds count together."""
        return self.names.bounded(summarise(known))

    def dropped(self, events: int) -> None:
        """Events without a number that had to be dropped before they reached us."""
        self.ledger.dropped += events
        self._ledger_changed = True

    # -- queues --------------------------------------------------------------------------------------------------

    def observe_depth(self, sample: DepthSample) -> None:
        """Take note of how much waits in a queue. Thread: any."""
        if sample.name in self.depths or len(self.depths) < self.limits.queues:
            self.depths[sample.name] = sample
            self._new_depths.append(sample)

    def _note_depths(self, delta: Delta) -> None:
        while self._new_depths:
            sample = self._new_depths.popleft()
            delta.depth(sample.at, sample.name, sample.ready, sample.oldest_age_s)

    def _note_levels(self, delta: Delta, now: float) -> None:
        """Once a second, what runs and waits in all, for the strip's sparks."""
        if int(now) != self._level_at:
            self._level_at = int(now)
            waits = waiting(fresh_depths(self.depths.copy(), now))
            delta.level(now, running(self.cells.by_worker, self.workers, now), waits)

    # -- handing over ----------------------------------------------------------------------------------------------

    def take(self) -> Changes:
        """Everything that changed since the last call, for the store."""
        changes = Changes(
            rows=self._rows,
            cells={cell: amount for cell, amount in self._cells.items() if amount},
            slices=self.rollup.take(),
            workers=self.workers.take(),
            ledger={**self.errors.take(), **self.anomalies.take()},
            logs=self._logs.take(),
            decisions=self.decisions.take(),
        )
        if self._ledger_changed:
            self.ledger.lost_before = self.sequences.lost_before
            changes.ledger["counts"] = _LEDGER.encode(self.ledger)
            changes.ledger["emitters"] = _LEDGER.encode(self.sequences.emitters)
        self._rows, self._cells, self._ledger_changed = {}, {}, False
        return changes

    def written(self) -> None:
        """What ``take`` gave is in the store, so memory may be given back."""
        self._new_keys.clear()
        self.live.shrink()
        self.rollup.shrink()
        self.flows.shrink(self._applied_at)
        self.errors.shrink(self._applied_at)

    def forget(self, removed: Removed) -> None:
        """Retention removed rows from the store."""
        self.live.forget_before(removed.before)
        self.flows.forget_before(key_time(removed.before))
        self.cells.add_all(removed.cells)
