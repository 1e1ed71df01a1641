"""What workers say they use is kept as the most of each bucket: bounded, only of what is heard now."""

from __future__ import annotations

from typing import Any

import msgspec

from opsq.clock import ManualClock
from opsq.events.cluster import Cluster
from opsq.events.query import Query
from opsq.events.rollup import Slice, decode_slice, encode_slice
from opsq.events.store import MemoryStore
from opsq.wire.event import Event

NOW = 1_790_000_000.0


def beat(at: float, host: str = "opsq@a", **fields: Any) -> Event:
    return Event(
        kind="worker-heartbeat", hostname=host, timestamp=at, pid=1, clock=1, seq=None, emitter=None, uuid=None,
        fields={"freq": 2.0, "processed": 1, **fields},
    )  # fmt: skip


def kept(cluster: Cluster, store: MemoryStore, clock: ManualClock, host: str = "opsq@a") -> list[tuple[Any, Any]]:
    store.write(cluster.take())
    points = Query(store, cluster, clock=clock).series(60.0, worker=host, width_s=10)
    return [(point.cpu_max, point.rss_max) for point in points if point.cpu_max is not None or point.rss_max]


def test_the_most_of_a_bucket_is_kept() -> None:
    store, clock = MemoryStore(), ManualClock(NOW + 9)
    cluster = Cluster(store)
    cluster.apply([beat(NOW, cpu_share=0.5, rss_bytes=100)], NOW)
    cluster.apply([beat(NOW + 2, cpu_share=9.0, rss_bytes=900)], NOW + 2)  # too soon after the one before
    cluster.apply([beat(NOW + 6, cpu_share=0.7, rss_bytes=90)], NOW + 6)
    assert kept(cluster, store, clock) == [(0.7, 100)]


def test_what_is_replayed_or_not_told_is_not_kept() -> None:
    store, clock = MemoryStore(), ManualClock(NOW + 9)
    cluster = Cluster(store)
    cluster.apply([beat(NOW, cpu_share=0.5)], NOW, live=False)
    cluster.apply([beat(NOW + 1), beat(NOW + 2, cpu_share="a lot", rss_bytes=True)], NOW + 2)
    assert kept(cluster, store, clock) == []


def test_slices_of_before_can_still_be_read() -> None:
    old = msgspec.msgpack.encode([[1] * 8, 2.5, {}, 3, 4.0, 5])
    assert decode_slice(old) == Slice(
        counts=[1] * 8, run_s=2.5, sketches={}, ready_max=3, oldest_max_s=4.0, running_max=5
    )
    total = Slice(cpu_max=0.2, rss_max=7)
    total.add(Slice(cpu_max=0.1, rss_max=9))
    assert decode_slice(encode_slice(total)) == Slice(cpu_max=0.2, rss_max=9)
