"""The one writer's view of a cluster: folds batches of events and says what changed.

Every counter is a function of rows: what a row counted before its evidence grew is taken back and what it counts
now is added, in the same transaction that writes the row. So a duplicate or a replay changes nothing, and a count
equals a recount. Tasks are cached by bytes, finished ones leave first; the store has them all.

Thread: the writer's, except what says otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from opsq.events import evidence as ev
from opsq.events.levels import fresh_depths, running, waiting
from opsq.events.life import Summary, summarise
from opsq.events.live import LiveTasks
from opsq.events.records import KEY_SHIFT, DepthSample, time_key
from opsq.events.rollup import Delta, Rollup
from opsq.events.sequence import Emitter, Sequences
from opsq.events.store import Cell, Changes, Removed, Store, TaskRow, add_cells
from opsq.events.workers import Workers, restore_workers
from opsq.wire.event import Event, Malformed

#: Stands for every name beyond the bound on distinct names.
OTHER: Final = "(other)"
_LONGEST_ID: Final = 255
_SAMPLES: Final = 50
_MOST_KINDS: Final = 500
_FINISHED: Final = frozenset(name for _, name in ev.FINAL_STATES)
_LEDGER = msgspec.msgpack.Encoder()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what a cluster keeps in memory."""

    live_bytes: int = 256 * 1024 * 1024
    types: int = 5_000
    queues: int = 5_000
    workers: int = 5_000
    emitters: int = 10_000
    slices: int = 20_000


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
    anomalies: dict[str, int] = {}


class Cluster:
    """Tasks, workers, queues and counts of one broker."""

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._store = store
        self.live = LiveTasks(self.limits.live_bytes)
        self.workers = Workers(max_workers=self.limits.workers)
        self.sequences = Sequences(max_emitters=self.limits.emitters)
        self.rollup = Rollup(store.fetch_slices, max_slices=self.limits.slices)
        self.ledger = Ledger()
        self.samples: deque[str] = deque(maxlen=_SAMPLES)
        #: (state, type, queue, worker) -> tasks of history in it. Thread: any, by ``copy()``.
        self.cells: dict[Cell, int] = {}
        self.types: set[str] = set()
        self.queues: set[str] = set()
        self.hosts: set[str] = set()
        #: Latest sample of each queue. Thread: any.
        self.depths: dict[str, DepthSample] = {}
        self._new_depths: deque[DepthSample] = deque(maxlen=10_000)
        self._rows: dict[str, TaskRow] = {}
        self._cells: dict[Cell, int] = {}
        self._new_keys: set[int] = set()
        self._ledger_changed = False
        self._level_at = 0
        self._restore()

    def _restore(self) -> None:
        known = self._store.restore()
        self.cells = dict(known.cells)
        self.types = {type for _, type, _, _ in known.cells if type is not None}
        self.queues = {queue for _, _, queue, _ in known.cells if queue is not None}
        self.hosts = {worker for _, _, _, worker in known.cells if worker is not None}
        restore_workers(self.workers, known.workers)
        if "counts" in known.ledger:
            self.ledger = msgspec.msgpack.decode(known.ledger["counts"], type=Ledger)
            self.sequences.lost_before = self.ledger.lost_before
        if "emitters" in known.ledger:
            self.sequences.emitters = msgspec.msgpack.decode(known.ledger["emitters"], type=dict[str, Emitter])

    # -- writing -------------------------------------------------------------------------------------------------

    def apply(self, batch: Sequence[Event | Malformed], now: float) -> Grown:
        """Fold a batch that arrived by ``now`` (epoch seconds, our clock). Never raises for what events contain."""
        by_task: dict[str, list[Event]] = {}
        hosts: dict[str, float] = {}
        delta = Delta()
        grown = Grown(set())
        kinds = self.ledger.kinds
        for event in batch:
            if isinstance(event, Malformed):
                self._malformed(event)
                continue
            kind = event.kind
            counted = kind if kind in kinds or len(kinds) < _MOST_KINDS else OTHER
            kinds[counted] = kinds.get(counted, 0) + 1
            if event.seq is not None and event.emitter:
                self.sequences.seen(event.emitter, event.hostname, event.seq, now)
            else:
                self.sequences.seen_unnumbered(event.hostname, now)
            if kind.startswith("worker-"):
                self.workers.said(event, now)
                grown.workers = True
                continue
            if kind != "task-sent" and event.timestamp > hosts.get(event.hostname, 0.0):
                hosts[event.hostname] = event.timestamp
            if event.uuid and kind.startswith("task-"):
                by_task.setdefault(event.uuid[:_LONGEST_ID], []).append(event)
        for host, at in hosts.items():
            self.workers.heard(host, at, now)
            delta.lag(now, max(0.0, now - at))
        self._fold(by_task, delta, grown, now)
        self._note_depths(delta)
        self._note_levels(delta, now)
        self.rollup.apply(delta, now)
        self._ledger_changed = self._ledger_changed or bool(batch)
        return grown

    def _malformed(self, event: Malformed) -> None:
        self.ledger.malformed += 1
        self.samples.append(f"{event.reason}: {event.sample}")

    def _fold(self, by_task: dict[str, list[Event]], delta: Delta, grown: Grown, now: float) -> None:
        missing = [id for id in by_task if id not in self.live]
        for row in self._store.load(missing).values() if missing else ():
            self.live.put(row.id, row.key, row.evidence, finished=row.state in _FINISHED)
        fresh: list[tuple[str, Summary, bytes]] = []
        for id, events in by_task.items():
            known = self.live.get(id)
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
            summary = self._bounded(summarise(after))
            if known is None:
                fresh.append((id, summary, data))
                continue
            self._keep(id, known[0], self._bounded(summarise(before)), summary, data, delta)
        for id, summary, data, key in self._with_keys(fresh, now):
            self._keep(id, key, None, summary, data, delta)

    def _keep(self, id: str, key: int, before: Summary | None, after: Summary, data: bytes, delta: Delta) -> None:
        delta.change(before, after)
        cell = (after.state, after.type, after.queue, after.worker)
        old = None if before is None else (before.state, before.type, before.queue, before.worker)
        if old != cell:
            self._count(cell, 1)
            if old is not None:
                self._count(old, -1)
        if before is None or before.anomalies != after.anomalies:
            anomalies = self.ledger.anomalies
            for sign, found in ((1, after.anomalies), (-1, before.anomalies if before else ())):
                for anomaly in found:
                    anomalies[anomaly] = anomalies.get(anomaly, 0) + sign
        self._rows[id] = TaskRow(key, id, *cell, after.root, data)
        self.live.put(id, key, data, finished=after.state in _FINISHED)

    def _count(self, cell: Cell, sign: int) -> None:
        add_cells(self.cells, {cell: sign})
        self._cells[cell] = self._cells.get(cell, 0) + sign

    def _with_keys(
        self, fresh: list[tuple[str, Summary, bytes]], now: float
    ) -> Iterable[tuple[str, Summary, bytes, int]]:
        """Give new rows their keys: by time, with some bits of the id, moved on where that is taken."""
        wanted = [
            (time_key(min(summary.arrived_at or now, now)) | _id_bits(id), id, summary, data)
            for id, summary, data in fresh
        ]
        taken = self._store.taken([key for key, *_ in wanted]) if wanted else set()
        for first, id, summary, data in wanted:
            key = first
            while key in taken or key in self._new_keys or (key != first and self._store.taken([key])):
                key += 1
            self._new_keys.add(key)
            yield id, summary, data, key

    def _bounded(self, summary: Summary) -> Summary:
        """Names beyond the bound count together, so that a flood of names cannot fill memory."""
        type, queue, worker = summary.type, summary.queue, summary.worker
        if type is not None and type not in self.types and not _admit(self.types, type, self.limits.types):
            summary = summary._replace(type=OTHER)
        if queue is not None and queue not in self.queues and not _admit(self.queues, queue, self.limits.queues):
            summary = summary._replace(queue=OTHER)
        if worker is not None and worker not in self.hosts and not _admit(self.hosts, worker, self.limits.workers):
            summary = summary._replace(worker=OTHER)
        if any(run.worker not in self.hosts for run in summary.runs):
            runs = [run if run.worker in self.hosts else run._replace(worker=OTHER) for run in summary.runs]
            summary = summary._replace(runs=tuple(runs))
        return summary

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
            delta.level(now, running(self.cells, self.workers, now), waits)

    # -- handing over ----------------------------------------------------------------------------------------------

    def take(self) -> Changes:
        """Everything that changed since the last call, for the store."""
        changes = Changes(
            rows=self._rows,
            cells={cell: amount for cell, amount in self._cells.items() if amount},
            slices=self.rollup.take(),
            workers=self.workers.take(),
            ledger={},
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

    def forget(self, removed: Removed) -> None:
        """Retention removed rows from the store."""
        self.live.forget_before(removed.before)
        add_cells(self.cells, removed.cells)


def _admit(names: set[str], name: str, limit: int) -> bool:
    if len(names) >= limit:
        return False
    names.add(name)
    return True


def _id_bits(id: str) -> int:
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=3).digest()) & ((1 << KEY_SHIFT) - 1)
