"""The writer: one thread that takes events, folds them, stores what changed and tells the feed.

Everything that changes a cluster happens here, in this order: take, fold, write (one transaction), announce. When
the store fails, what was to be written stays and grows by the next batches until it takes them; the monitor says
since when. Beyond a bound the oldest finished rows of that backlog are given up and counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Final, Protocol

import msgspec

from opsq.clock import Clock, SystemClock
from opsq.errors import StoreUnavailable
from opsq.events.cluster import Cluster
from opsq.events.feed import QUEUES, TASKS, WORKERS, Feed
from opsq.events.records import DepthSample
from opsq.events.store import Changes, Retention, Store, TaskRow
from opsq.events.workers import liveness
from opsq.wire.event import Event, Malformed

log = logging.getLogger(__name__)

FLUSH_S: Final = 0.1
#: Under load rows are written less often: a task that lives for less is then written once instead of thrice.
BUSY_FLUSH_S: Final = 0.5
#: Where writing takes long, so much longer is waited in between, up to ``LONGEST_FLUSH_S``: writing twice as many rows
#: at once takes far less than twice as long, because the index of ids is touched everywhere each time.
_FLUSH_REST: Final = 6.0
LONGEST_FLUSH_S: Final = 1.0
BUSY_EVENTS: Final = 500
#: Under load more events are waited for, because a batch costs something whatever is in it.
COMPANY_S: Final = 0.05
BATCH_EVENTS: Final = 10_000
FLUSH_ROWS: Final = 20_000
RETAIN_EVERY_S: Final = 30.0
FORGET_WORKERS_S: Final = 7 * 86400.0
MOST_UNWRITTEN_ROWS: Final = 200_000
#: Batches of log lines likewise, each of 8 kB at most.
MOST_UNWRITTEN_LOGS: Final = 4_000
#: While nothing can be written, so many of the newest rows can be read from memory.
MOST_SHOWN_ROWS: Final = 1_000
_STORE_RETRY_S: Final = 2.0


class Source(Protocol):
    """Where events come from: ``events.stream.Stream``."""

    def take(self, timeout_s: float, most: int = 10_000) -> list[Event | Malformed]:
        """Wait for events."""
        ...

    def take_inserted(self) -> list[Event | Malformed]:
        """Events that came another way than from the broker, since the last call."""
        ...

    def take_dropped(self) -> int:
        """Unnumbered events dropped since the last call."""
        ...

    def wake(self) -> None:
        """Make ``take`` return."""
        ...


class StoreStatus(msgspec.Struct, frozen=True):
    """How keeping goes. failing_since_at: nothing was kept since (epoch seconds).

    given_up: rows, and batches of log lines, lost to that. unwritten: rows that wait in memory; kept: the newest of
    them by id, for readers.
    """

    failing_since_at: float | None = None
    error: str = ""
    given_up: int = 0
    unwritten: int = 0
    kept: Mapping[str, TaskRow] = {}


class Writer:
    """Runs the fold. Thread: its own for all work; ``start``, ``stop``, ``observe_depth`` and ``status`` from any."""

    def __init__(
        self,
        source: Source,
        cluster: Cluster,
        store: Store,
        feed: Feed,
        *,
        retention: Retention | None = None,
        flush_s: float = FLUSH_S,
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._cluster = cluster
        self._store = store
        self._feed = feed
        self._retention = retention or Retention()
        self._flush_s = flush_s
        self._clock = clock or SystemClock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._unwritten = Changes()
        self._grown: set[str] = set()
        self._regions: set[str] = set()
        self._statuses: dict[str, str] = {}
        self._flushed_at = 0.0
        self._write_s = 0.0
        self._retained_at = 0.0
        self._retry_at = 0.0
        self._given_up = 0
        self.status = StoreStatus()

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._main, name="opsq-writer", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Write what is left and stop; false when that takes longer. May be called twice, or unstarted."""
        self._stopping.set()
        self._source.wake()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def alive(self) -> bool:
        """Whether events are folded, or will be: it was not started yet, or its thread runs. Thread: any."""
        return self._thread is None or self._thread.is_alive()

    def observe_depth(self, sample: DepthSample) -> None:
        """Take note of how much waits in a queue. Thread: any."""
        self._cluster.observe_depth(sample)
        self._regions.add(QUEUES)

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                taken = self.step(self._flush_s)
            except Exception:  # boundary: one batch that trips a bug must not end monitoring
                log.exception("a batch of events could not be folded and is left out")
                continue
            if BUSY_EVENTS <= taken < BATCH_EVENTS:
                self._stopping.wait(COMPANY_S)
        try:
            self.step(0.0)
            self.flush()
        except Exception:  # boundary: stopping goes on, what could not be written is lost and said so
            log.exception("the last events could not be written")

    def step(self, timeout_s: float) -> int:
        """Take once, fold, and write when it is time; how many events were taken.

        Thread: the writer's, or a test that has not started it.
        """
        batch = self._source.take(timeout_s, BATCH_EVENTS)
        now = self._clock.now()
        dropped = self._source.take_dropped()
        if dropped:
            self._cluster.dropped(dropped)
        self._fold(batch, now)
        inserted = self._source.take_inserted()
        if inserted:
            self._fold(inserted, now, live=False)
        waited = self._clock.monotonic() - self._flushed_at
        if waited >= self._patience_s(len(batch)) or len(self._grown) >= FLUSH_ROWS:
            self._watch_workers(now)
            self.flush()
        if self._clock.monotonic() - self._retained_at >= RETAIN_EVERY_S:
            self._retain(now)
        return len(batch)

    def _patience_s(self, events: int) -> float:
        """How long rows may wait to be written when a batch has so many events."""
        if events < BUSY_EVENTS:
            return self._flush_s
        return max(self._flush_s, BUSY_FLUSH_S, min(LONGEST_FLUSH_S, self._write_s * _FLUSH_REST))

    def _fold(self, batch: Sequence[Event | Malformed], now: float, *, live: bool = True) -> None:
        grown = self._cluster.apply(batch, now, live=live)
        self._grown |= grown.tasks
        if grown.workers:
            self._regions.add(WORKERS)

    def _watch_workers(self, now: float) -> None:
        """Silence makes no event, so someone has to look whether a worker became late."""
        statuses = {record.name: liveness(record, now) for record in self._cluster.workers.copy()}
        if statuses != self._statuses:
            self._statuses = statuses
            self._regions.add(WORKERS)

    def flush(self) -> None:
        """Write what changed, then announce it."""
        self._flushed_at = self._clock.monotonic()
        if self.status.failing_since_at is not None and self._flushed_at < self._retry_at:
            return
        changes = self._cluster.take()
        if self._unwritten:
            self._unwritten.add(changes)
            changes = self._unwritten
        if changes:
            self._write(changes)
            self._write_s = self._clock.monotonic() - self._flushed_at
        if self._grown or self._regions:
            tasks, regions = self._grown, self._regions
            self._grown, self._regions = set(), set()
            self._feed.publish(tasks, regions | ({TASKS} if tasks else set()))

    def _write(self, changes: Changes) -> None:
        try:
            self._store.write(changes)
        except StoreUnavailable as error:
            self._failed(changes, str(error))
            return
        self._unwritten = Changes()
        if self.status.failing_since_at is not None:
            log.info("history is kept again")
        self.status = StoreStatus(given_up=self._given_up)
        self._cluster.written()

    def _failed(self, changes: Changes, error: str) -> None:
        since = self.status.failing_since_at
        if since is None:
            since = self._clock.now()
            log.error("history cannot be written and is kept in memory", extra={"error": error})
        self._retry_at = self._clock.monotonic() + _STORE_RETRY_S
        surplus = len(changes.rows) - MOST_UNWRITTEN_ROWS
        if surplus > 0:
            lost = list(changes.rows)[:surplus]
            for id in lost:
                del changes.rows[id]
            self._cluster.live.drop(lost)
            self._given_up += surplus
        surplus = len(changes.logs) - MOST_UNWRITTEN_LOGS
        if surplus > 0:
            del changes.logs[:surplus]
            self._given_up += surplus
        self._unwritten = changes
        newest = nlargest(MOST_SHOWN_ROWS, changes.rows.values(), key=attrgetter("key"))
        kept = {row.id: row for row in newest}
        self.status = StoreStatus(since, error, self._given_up, len(changes.rows), kept)

    def _retain(self, now: float) -> None:
        self._cluster.workers.forget_silent(now - FORGET_WORKERS_S)
        if self._unwritten or self.status.failing_since_at is not None:
            return
        try:
            # Rows in memory must be in the store before rows leave it, or counts would be taken back twice.
            self.flush()
            if self._unwritten:
                return
            removed = self._store.retain(self._retention, now)
        except StoreUnavailable as error:
            log.warning("old history could not be removed", extra={"error": str(error)})
            self._retained_at = self._clock.monotonic()
            return
        if removed.rows:
            self._cluster.forget(removed)
        # More to remove: come back with the next batch instead of stopping events for it now.
        if not removed.more:
            self._retained_at = self._clock.monotonic()
