"""The cluster: bounded, indifferent to nonsense, honest about workers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.events import evidence as ev
from opsq.events.cluster import OTHER, Cluster, Limits
from opsq.events.records import DepthSample, key_time, time_key
from opsq.events.series import points
from opsq.events.store import MemoryStore, Where
from opsq.events.workers import liveness
from opsq.testing.contract_store import T0, event, life
from opsq.wire.event import Event, Malformed, parse_events


def beat(at: float, kind: str = "worker-heartbeat", host: str = "opsq@one", **fields: object) -> Event:
    """A worker's event."""
    said = {"freq": 2.0, "active": 1, "processed": 5, **fields}
    return Event(kind=kind, hostname=host, timestamp=at, pid=9, clock=None, uuid=None, fields=said)


def test_memory_is_bounded_by_bytes_and_finished_tasks_leave_first() -> None:
    """What left is read back from the store when it is heard of again."""
    store = MemoryStore()
    cluster = Cluster(store, Limits(live_bytes=60_000))
    cluster.apply(life("running", T0)[:2], T0)
    for n in range(300):
        cluster.apply(life(f"t{n}", T0 + n), T0 + n)
        store.write(cluster.take())
        cluster.written()
    assert cluster.live.bytes <= 60_000
    assert "running" in cluster.live
    assert "t0" not in cluster.live
    cluster.apply(life("t0", T0), T0 + 301)
    assert cluster.ledger.duplicates == 3
    assert sum(cluster.cells.values()) == 301


def test_nothing_leaves_memory_before_it_is_stored() -> None:
    """Evidence that is nowhere else stays, whatever the bound."""
    cluster = Cluster(MemoryStore(), Limits(live_bytes=1))
    cluster.apply(life("a", T0)[:1], T0)
    cluster.apply(life("a", T0)[1:], T0)
    assert cluster.cells == {("SUCCESS", "app.add", "celery", "opsq@one"): 1}


def test_a_flood_of_names_counts_together() -> None:
    """Types, queues and workers beyond the bound are one."""
    cluster = Cluster(MemoryStore(), Limits(types=2, queues=2, workers=2))
    for n in range(10):
        named = life(f"t{n}", T0, name=f"type{n}", queue=f"q{n}")
        cluster.apply([msgspec.structs.replace(one, hostname=f"w{n}") for one in named], T0)
    assert cluster.cells[("SUCCESS", OTHER, OTHER, OTHER)] == 8
    assert len(cluster.cells) == 3


def test_row_keys_are_unique_and_in_time_order() -> None:
    """Ten thousand tasks of the same millisecond get keys of their own; no key lies in the future."""
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.apply([event("task-received", f"t{n}", T0) for n in range(10_000)], T0)
    cluster.apply([event("task-received", "ahead", T0 + 10**6)], T0 + 5)
    store.write(cluster.take())
    rows = store.tasks(Where(), 20_000)
    assert len({row.key for row in rows}) == 10_001
    assert rows[0].id == "ahead"
    assert key_time(rows[0].key) == T0 + 5
    assert key_time(time_key(T0)) == T0


def test_malformed_and_unknown_are_counted_with_samples() -> None:
    """Nothing is passed over in silence."""
    cluster = Cluster(MemoryStore())
    hostile = parse_events(b'[{"type": "task-started"}, 7, {"type":"shop-opened","hostname":"h","timestamp":1.0}]')
    cluster.apply([*hostile, Malformed("not JSON", "x")], T0)
    assert cluster.ledger.malformed == 3
    assert len(cluster.samples) == 3
    assert cluster.ledger.kinds == {"shop-opened": 1}


def test_text_that_is_not_unicode_is_malformed_not_fatal() -> None:
    """A lone surrogate cannot be stored."""
    cluster = Cluster(MemoryStore())
    cluster.apply([event("task-received", "t", T0, name="\ud800"), *life("fine", T0)], T0)
    assert cluster.ledger.malformed == 1
    assert sum(cluster.cells.values()) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                ["type", "hostname", "timestamp", "uuid", "freq", "queues", "loadavg", "seq", "emitter", "clock"]
            ),
            st.one_of(
                st.sampled_from(["task-started", "worker-heartbeat", "worker-online", "task-succeeded", "x", "\x00"]),
                st.none(),
                st.integers(),
                st.floats(allow_nan=False, allow_infinity=False),
                st.lists(st.integers(), max_size=3),
            ),
        ),
        max_size=8,
    )
)
def test_no_event_breaks_the_writer(raw: list[dict[str, object]]) -> None:
    """Whatever arrives, what comes out can be stored."""
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.apply(parse_events(msgspec.json.encode(raw)), T0)
    store.write(cluster.take())
    Cluster(store)


def test_workers_are_online_late_lost_and_offline_by_our_own_clock() -> None:
    """The worker's clock is an hour wrong and does not matter."""
    cluster = Cluster(MemoryStore())
    cluster.apply([beat(T0 + 3600, "worker-online", slots=8, queues=["celery"])], T0)
    record = cluster.workers.records["opsq@one"]
    assert liveness(record, T0 + 1) == "online"
    assert liveness(record, T0 + 10) == "late"
    assert liveness(record, T0 + 60) == "lost"
    assert record.skew_s == pytest.approx(3600)
    cluster.apply([beat(T0 + 3610)], T0 + 10)
    assert liveness(record, T0 + 10) == "online"
    assert record.said["slots"] == 8
    cluster.apply([beat(T0 + 3611, "worker-offline")], T0 + 11)
    assert liveness(record, T0 + 11) == "offline"
    cluster.apply([beat(T0 + 3610.5)], T0 + 12)
    assert liveness(record, T0 + 12) == "offline", "a late heartbeat of before does not revive it"
    cluster.apply([event("task-started", "t", T0 + 3700)], T0 + 13)
    assert liveness(record, T0 + 13) == "online", "work after the farewell does"


def test_clients_are_not_workers_and_task_events_keep_workers_alive() -> None:
    """A publisher has no heartbeat to miss."""
    cluster = Cluster(MemoryStore())
    cluster.apply([event("task-sent", "t", T0, host="gen1@web")], T0)
    assert cluster.workers.records == {}
    cluster.apply([beat(T0)], T0)
    cluster.apply([event("task-started", "t", T0 + 50)], T0 + 50)
    assert liveness(cluster.workers.records["opsq@one"], T0 + 51) == "online"


def test_a_heartbeat_on_request_does_not_change_the_rate_and_a_restart_is_a_new_incarnation() -> None:
    """Celery answers the remote command ``heartbeat`` with freq 5 and little else."""
    cluster = Cluster(MemoryStore())
    cluster.apply([beat(T0, "worker-online", freq=1.0)], T0)
    asked = Event(kind="worker-heartbeat", hostname="opsq@one", timestamp=T0 + 1, pid=9, fields={"freq": 5})
    cluster.apply([asked], T0 + 1)
    record = cluster.workers.records["opsq@one"]
    first = record.incarnation
    assert record.freq_s == 1.0
    cluster.apply([beat(T0 + 1.5, "worker-online")], T0 + 1.5)
    assert record.incarnation == first, "Celery says it is online when its events are switched on, too"
    cluster.apply([beat(T0 + 2, "worker-online", processed=0)], T0 + 2)
    assert record.incarnation != first
    assert [what for _, what, _ in record.history] == ["started", "restarted"]
    cluster.workers.forget_silent(T0 + 100)
    assert cluster.take().workers == {"opsq@one": None}


def test_depths_are_kept_and_rolled_up() -> None:
    """The latest sample, and the worst of each bucket."""
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.observe_depth(DepthSample("q", 5, T0, oldest_age_s=3.0))
    cluster.observe_depth(DepthSample("q", 2, T0 + 1, oldest_age_s=1.0))
    cluster.apply([], T0 + 1)
    store.write(cluster.take())
    assert cluster.depths["q"].ready == 2
    (minute,) = points(store, "q:q", T0, T0, 60, T0)
    assert (minute.ready_max, minute.oldest_max_s) == (5, 3.0)


def test_row_bytes_are_small() -> None:
    """An ordinary finished task stays below 600 bytes of memory by our own account."""
    cluster = Cluster(MemoryStore())
    cluster.apply(life("7f3ac91e-1111-4000-8000-000000000000", T0), T0)
    assert cluster.live.bytes < 600
    known = cluster.live.get("7f3ac91e-1111-4000-8000-000000000000")
    assert known is not None
    assert ev.state(ev.decode(known[1])) == "SUCCESS"
