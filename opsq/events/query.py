"""The only way to read what the monitor knows: frozen records for pages, metrics, the command line and the autoscaler.

Thread: any. Rows and rolled-up history come from the store; what is live comes from the cluster by copies, each
of one moment. A figure that is not known is ``None``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import structs

from opsq.clock import Clock, SystemClock
from opsq.events import series as rolled
from opsq.events import task_log
from opsq.events.attach import AttachStatus
from opsq.events.cells import CellCounts
from opsq.events.cluster import Cluster
from opsq.events.document import Looked, matches
from opsq.events.evidence import decode
from opsq.events.facets import FacetCounts
from opsq.events.feed import Feed
from opsq.events.figures import Figures
from opsq.events.levels import fresh_depths
from opsq.events.life import OUTCOMES
from opsq.events.queues import drain_s, rates
from opsq.events.records import (
    Counters,
    DepthSample,
    Facets,
    Freshness,
    Overview,
    Point,
    QueueItem,
    Strip,
    TaskDetail,
    TaskItem,
    TaskPage,
    TaskTypeItem,
    WorkerItem,
)
from opsq.events.rows import Cell, Count, Found, TaskRow
from opsq.events.search import EVERYTHING, Search
from opsq.events.store import Store
from opsq.events.stream import StreamStatus
from opsq.events.strip import strip
from opsq.events.tries import detail, item
from opsq.events.workers import LATE, LOST, ONLINE, liveness, worker_item
from opsq.events.writer import StoreStatus
from opsq.wire import states

PAGE: Final = 50
LONGEST_PAGE: Final = 1_000
#: Counting the tasks of a search takes no longer than this, then the figure is "at least".
COUNT_S: Final = 0.015
CHILDREN: Final = 100
_RATE_S: Final = 60
_NO_KEY: Final = 1 << 63


class Query:
    """Reads one cluster. stream, writer and attach: how receiving, keeping and attaching go, asked when needed.

    folding: whether the thread that folds events lives. figures: what metrics read beside.
    """

    def __init__(
        self,
        store: Store,
        cluster: Cluster,
        *,
        feed: Feed | None = None,
        stream: Callable[[], StreamStatus] | None = None,
        writer: Callable[[], StoreStatus] | None = None,
        attach: Callable[[], AttachStatus] | None = None,
        folding: Callable[[], bool] = lambda: True,
        clock: Clock | None = None,
    ) -> None:
        self._attach = attach
        self.folding = folding
        self._shared: tuple[Mapping[Cell, int], CellCounts] = ({}, CellCounts())
        self.figures = Figures(store, cluster)
        self._store = store
        self._cluster = cluster
        self._feed = feed
        self._stream = stream
        self._writer = writer
        self._clock = clock or SystemClock()

    # -- now -----------------------------------------------------------------------------------------------------------

    def freshness(self) -> Freshness:
        """Whether what is read can be believed."""
        stream = self._stream() if self._stream else None
        keeping = self._writer() if self._writer else StoreStatus()
        return Freshness(
            as_of=self._clock.now(),
            connected=stream.connected if stream else False,
            stale_since_at=stream.stale_since_at if stream else None,
            stale_reason=stream.reason if stream else "",
            store_failing_since_at=keeping.failing_since_at,
            store_error=keeping.error,
            index_lag_s=self._store.index_lag_s(),
            version=self._feed.version if self._feed is not None else 0,
        )

    def attached(self) -> AttachStatus:
        """How attaching to the fleet goes, and what keeps the monitor from showing all it could."""
        return self._attach() if self._attach is not None else AttachStatus()

    def strip(self) -> Strip:
        """The seven figures of the status strip."""
        return strip(self._cluster, self._clock.now())

    def overview(self) -> Overview:
        """The strip with the counts of states and workers."""
        now = self._clock.now()
        by_state = self._cells().by_state.copy()
        alive = [liveness(record, now) for record in self._cluster.workers.copy()]
        return Overview(
            strip=strip(self._cluster, now),
            freshness=self.freshness(),
            states=by_state,
            workers_online=alive.count(ONLINE),
            workers_late=alive.count(LATE),
            workers_lost=alive.count(LOST),
            tasks_kept=sum(by_state.values()),
        )

    def workers(self) -> tuple[WorkerItem, ...]:
        """Every worker known, those in trouble first, then by name."""
        now = self._clock.now()
        counts = self._cells().by_worker
        found = [
            worker_item(
                record,
                now,
                gaps=self._cluster.sequences.gaps_of(record.name),
                running=counts.get((record.name, states.STARTED), 0),
                succeeded=counts.get((record.name, states.SUCCESS), 0),
                failed=counts.get((record.name, states.FAILURE), 0),
            )
            for record in self._cluster.workers.copy()
        ]
        trouble = {LATE: 0, LOST: 0}
        return tuple(sorted(found, key=lambda worker: (trouble.get(worker.status, 1), worker.name)))

    def worker(self, name: str) -> WorkerItem | None:
        """One worker."""
        return next((worker for worker in self.workers() if worker.name == name), None)

    def queues(self) -> tuple[QueueItem, ...]:
        """Every queue that was seen or sampled, the fullest first."""
        now = self._clock.now()
        samples = {sample.name: sample for sample in fresh_depths(self._cluster.depths.copy(), now)}
        consumed: dict[str, list[str]] = {}
        for record in self._cluster.workers.copy():
            told = record.said.get("queues")
            if liveness(record, now) in (ONLINE, LATE) and isinstance(told, list):
                for queue in told:
                    consumed.setdefault(str(queue), []).append(record.name)
        names = {*samples, *consumed, *self._cluster.names.queues.copy()}
        found = [self._queue(name, samples.get(name), tuple(sorted(consumed.get(name, ()))), now) for name in names]
        return tuple(sorted(found, key=lambda queue: (-(queue.ready or 0), queue.name)))

    def _queue(self, name: str, sample: DepthSample | None, workers: tuple[str, ...], now: float) -> QueueItem:
        arrived, done = rates(self._cluster.rollup.recent("q:" + name), now, _RATE_S)
        return QueueItem(
            name=name,
            ready=sample.ready if sample else None,
            unacked=sample.unacked if sample else None,
            oldest_age_s=sample.oldest_age_s if sample else None,
            consumers=sample.consumers if sample else None,
            sampled_at=sample.at if sample else None,
            arrived_per_s=arrived,
            done_per_s=done,
            drain_s=drain_s(sample.ready if sample else None, arrived, done),
            workers=workers,
        )

    def _cells(self) -> CellCounts:
        """Tasks by cell: the store's own count when other monitors write there too."""
        shared = self._store.counts()
        if shared is None:
            return self._cluster.cells
        # The store gives the same object again until it has looked again.
        if self._shared[0] is not shared:
            self._shared = shared, CellCounts(shared)
        return self._shared[1]

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def tasks(
        self, search: Search = EVERYTHING, *, before: int | None = None, limit: int = PAGE, counted: bool = True
    ) -> TaskPage:
        """A page of tasks, newest first. before: ``older`` of the page before.

        counted: say how many fit in all, which may take longer than the page itself; without, ``total`` is ``None``.
        """
        limit = max(1, min(limit, LONGEST_PAGE))
        now = search.asked_at or self._clock.now()
        found = self._with_unwritten(
            self._store.find(search.root, now, before=before, limit=limit), search, before, limit
        )
        total = self._total(search, found, now, first=before is None) if counted else None
        return TaskPage(
            items=tuple(map(self._item, found.rows)),
            older=found.older,
            total=None if total is None else total.value,
            at_least=total is not None and not total.exact,
            scanned=found.looked,
            complete=found.complete,
        )

    def _total(self, search: Search, found: Found, now: float, *, first: bool) -> Count:
        """How many tasks fit in all. found: a page of them; first: it is the newest."""
        if search.by_names_alone:
            return Count(FacetCounts(self._cells().copy()).total(search), exact=True)
        if first and found.older is None and found.complete:
            return Count(len(found.rows), exact=True)
        until = self._clock.monotonic() + COUNT_S
        total = self._store.count(search.root, now, enough=lambda: self._clock.monotonic() >= until)
        # Counting may have been stopped before it got as far as the page itself.
        seen = len(found.rows) + (found.older is not None)
        return total if total.exact else Count(max(total.value, seen), exact=False)

    def _with_unwritten(self, found: Found, search: Search, before: int | None, limit: int) -> Found:
        """The page with what the store cannot take at present, which is in memory; of that the newest is looked at."""
        kept = self._unwritten()
        if not kept:
            return found
        now = search.asked_at or self._clock.now()
        high, low = before or _NO_KEY, found.older or 0
        rows = [row for row in found.rows if row.id not in kept]
        rows += [row for row in kept.values() if low <= row.key < high and matches(search.root, Looked(row), now)]
        rows.sort(key=lambda row: row.key, reverse=True)
        if len(rows) <= limit:
            return structs.replace(found, rows=rows)
        return structs.replace(found, rows=rows[:limit], older=rows[limit - 1].key)

    def _unwritten(self) -> Mapping[str, TaskRow]:
        return self._writer().kept if self._writer else {}

    def facets(self, search: Search = EVERYTHING, *, most: int = 50) -> Facets:
        """How many tasks each state, type, queue and worker has under the rest of the filter."""
        return FacetCounts(self._cells().copy()).facets(search, most)

    def task(self, id: str) -> TaskDetail | None:
        """One task with every try and its relatives, ``None`` when nothing is known of it."""
        row = self._unwritten().get(id) or self._store.task(id)
        if row is None:
            return None
        known = decode(row.evidence)
        shown = item(row.key, row.id, known, self._cluster.skews.corrected)
        parent_id = shown.parent_id
        parent = self._store.task(parent_id) if parent_id and parent_id != id else None
        return detail(
            shown,
            known,
            parent=self._item(parent) if parent else None,
            children=self._children(shown),
            logged=map(task_log.shown, self._store.log(id)),
            corrected=self._cluster.skews.corrected,
        )

    def _item(self, row: TaskRow) -> TaskItem:
        return item(row.key, row.id, decode(row.evidence), self._cluster.skews.corrected)

    def _children(self, of: TaskItem) -> tuple[TaskItem, ...]:
        rows = self._store.relatives(of.root_id or of.id, CHILDREN * 10)
        children = [child for child in map(self._item, rows) if child.parent_id == of.id and child.id != of.id]
        return tuple(children[:CHILDREN])

    # -- history -------------------------------------------------------------------------------------------------------

    def task_types(self, window_s: float = 3600.0, *, until: float | None = None) -> tuple[TaskTypeItem, ...]:
        """Task types over the window, which ends at ``until`` or now, most slot time first."""
        return rolled.task_types(self._store, window_s, self._clock.now(), until)

    def series(
        self, window_s: float = 3600.0, *, type: str | None = None, queue: str | None = None, worker: str | None = None,
        width_s: int | None = None, until: float | None = None, measured: bool = True,
    ) -> tuple[Point, ...]:  # fmt: skip
        """``window_s`` of everything, or of one task type, queue or worker, oldest first.

        until: end of the window in epoch seconds, ``None`` for now. measured: with latencies.
        """
        now = self._clock.now()
        end = now if until is None else min(until, now)
        name = f"t:{type}" if type else f"q:{queue}" if queue else f"w:{worker}" if worker else ""
        width = width_s or rolled.tier_for(window_s, 120, now - end)
        return rolled.points(self._store, name, end - window_s + width, end, width, now, measured=measured)

    def counters(self) -> Counters:
        """Totals for metrics."""
        cluster = self._cluster
        now_strip = strip(cluster, self._clock.now())
        stream = self._stream() if self._stream else None
        keeping = self._writer() if self._writer else StoreStatus()
        return Counters(
            events=cluster.ledger.kinds.copy(),
            malformed=cluster.ledger.malformed,
            duplicates=cluster.ledger.duplicates,
            dropped=cluster.ledger.dropped,
            lost=now_strip.lost_events,
            lost_unknown_emitters=now_strip.lost_unknown_emitters,
            anomalies=cluster.anomalies.counts,
            rows=self._cells().by_state.copy(),
            ended=dict(zip(OUTCOMES, self.figures.everything().counts, strict=False)),
            live_tasks=len(cluster.live),
            live_bytes=cluster.live.bytes,
            history_bytes=self._store.size_bytes(),
            index_behind=self._store.waiting_for_index(),
            unwritten=keeping.unwritten,
            given_up=keeping.given_up,
            waiting=stream.waiting if stream else 0,
            stream_reconnects=stream.reconnects if stream else 0,
            feed_overflows=self._feed.overflows if self._feed is not None else 0,
            open_pages=len(self._feed) if self._feed is not None else 0,
            samples=tuple(cluster.samples.copy()),
        )
