"""The writer: fold, store, announce; a failing store loses nothing and says so."""

from __future__ import annotations

import threading

from opsq.clock import ManualClock
from opsq.errors import StoreUnavailable
from opsq.events.cluster import Cluster
from opsq.events.feed import Feed
from opsq.events.records import DepthSample
from opsq.events.store import Changes, MemoryStore, Retention, Where
from opsq.events.writer import Writer
from opsq.testing.contract_store import T0, life
from opsq.wire.event import Event, Malformed


class Events:
    """A source that gives what it was handed."""

    def __init__(self) -> None:
        self.batches: list[list[Event | Malformed]] = []
        self.dropped = 0
        self.asked = threading.Event()

    def take(self, timeout_s: float, most: int = 10_000) -> list[Event | Malformed]:
        self.asked.set()
        return self.batches.pop(0) if self.batches else []

    def take_inserted(self) -> list[Event | Malformed]:
        return []

    def take_dropped(self) -> int:
        count, self.dropped = self.dropped, 0
        return count

    def wake(self) -> None:
        """Nothing waits here."""


class BrokenStore(MemoryStore):
    """A store that can be out of order."""

    broken = False

    def write(self, changes: Changes) -> None:
        if self.broken:
            raise StoreUnavailable("disk full")
        super().write(changes)


def writer_of(store: MemoryStore, **options: object) -> tuple[Writer, Events, Cluster, Feed, ManualClock]:
    """A writer on a clock that stands still."""
    clock = ManualClock(T0 + 100)
    source, cluster, feed = Events(), Cluster(store), Feed()
    writer = Writer(source, cluster, store, feed, clock=clock, flush_s=0.0, **options)  # type: ignore[arg-type]
    return writer, source, cluster, feed, clock


def test_what_arrives_is_stored_and_announced() -> None:
    """One step from events to rows; nothing new announces nothing."""
    store = MemoryStore()
    writer, source, cluster, feed, _ = writer_of(store)
    source.batches = [life("a", T0), life("a", T0)]
    source.dropped = 3
    writer.step(0)
    assert [row.id for row in store.tasks(Where(), 10)] == ["a"]
    assert (feed.version, cluster.ledger.dropped) == (1, 3)
    writer.step(0)
    assert feed.version == 1
    assert cluster.ledger.duplicates == 3
    writer.observe_depth(DepthSample("celery", 1, T0))
    writer.step(0)
    assert feed.version == 2


def test_a_store_out_of_order_loses_nothing() -> None:
    """What could not be written is written when it can, with counts that fit."""
    store = BrokenStore()
    writer, source, cluster, _, clock = writer_of(store)
    store.broken = True
    for n in range(3):
        source.batches = [life(f"t{n}", T0)]
        writer.step(0)
        clock.advance(3)
    assert writer.status.failing_since_at == T0 + 100
    assert (writer.status.error, writer.status.unwritten) == ("disk full", 3)
    store.broken = False
    writer.step(0)
    assert writer.status.failing_since_at is None
    assert len(store.tasks(Where(), 10)) == 3
    assert dict(store.restore().cells) == cluster.cells


def test_retention_runs_and_counts_follow() -> None:
    """Rows that are too old leave the store, memory and the counts."""
    store = MemoryStore()
    writer, source, cluster, _, clock = writer_of(store, retention=Retention(keep_s=500.0))
    source.batches = [[*life("old", T0), *life("new", T0 + 90)]]
    writer.step(0)
    clock.advance(450)
    writer.step(0)
    assert [row.id for row in store.tasks(Where(), 10)] == ["new"]
    assert sum(cluster.cells.values()) == 1
    assert "old" not in cluster.live


def test_it_starts_and_stops_and_writes_the_rest() -> None:
    """Stopping twice, and what came last is kept."""
    store = MemoryStore()
    writer, source, _, _, _ = writer_of(store)
    writer.start()
    assert source.asked.wait(10)
    source.batches.append(life("last", T0))
    assert writer.stop(10)
    assert writer.stop(10)
    assert store.task("last") is not None
    unstarted, *_ = writer_of(store)
    assert unstarted.stop()
