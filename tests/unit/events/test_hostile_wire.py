"""Hostile events the whole way: bytes into the stream, parsed, folded, stored, read. Nothing crashes, all counts."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsq.broker.message import Delivery
from opsq.clock import ManualClock
from opsq.events.cluster import Cluster
from opsq.events.feed import Feed
from opsq.events.query import Query
from opsq.events.search import EVERYTHING
from opsq.events.store import MemoryStore
from opsq.events.stream import Connect, Stream
from opsq.events.writer import Writer
from opsq.wire.event import EVENT_KINDS

T0 = 1_790_000_000.0
#: Named like methods and dunders of what holds them, like our own fields, and like nothing at all.
NAMES = (
    *("__class__", "__dict__", "get", "items", "pop", "keys", "fields", "state", "decode", "seq", "emitter", "!bad"),
    *("uuid", "name", "args", "kwargs", "result", "runtime", "exception", "traceback", "retries", "attempt", "eta"),
    *("root_id", "parent_id", "queue", "timestamp", "hostname", "pid", "clock", "utcoffset", "freq", "loadavg"),
    *("queues", "slots", "payload", "complete", "version", "fingerprint", "started_at", "finished_at", "\x00", ""),
)
KINDS = (*EVENT_KINDS, "task-", "worker-", "-", "task-\x00", "task-sent\n", "x" * 300, "type", "worker-inspected")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**400, -1, 0])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["", "\x00", "a\x00b", "\ud800", "x" * 70_000, "1e400", "2026-01-01T00:00:00", "NaN"])
    | st.floats(min_value=T0 - 10, max_value=T0 + 10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner),
    max_leaves=8,
)
WILD = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS) | VALUES,
        "hostname": st.sampled_from(["w@h", "gen1@h", "@", ""]) | VALUES,
        "timestamp": st.floats(min_value=T0 - 100, max_value=T0 + 100) | VALUES,
        "uuid": st.sampled_from(["t1", "t2", "../../etc", "x" * 400]) | VALUES,
    },
)
EVENTS = st.builds(lambda known, more: {**more, **known}, WILD, st.dictionaries(st.sampled_from(NAMES), VALUES))
#: Right in what every event needs, wrong in the rest: these reach the fold.
NEAR = st.builds(
    lambda kind, id, at, more: {**more, "type": kind, "hostname": "w@h", "timestamp": at, "uuid": id},
    st.sampled_from(KINDS),
    st.sampled_from(["t1", "t2"]),
    st.floats(min_value=0, max_value=9e10),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
)


def never() -> Connect:
    def connect(on_batch: Any) -> Any:
        raise AssertionError("nothing connects here")

    return connect


def watched(bodies: list[bytes]) -> tuple[Query, Cluster, MemoryStore]:
    """What a monitor knows after these messages."""
    clock, store, feed = ManualClock(T0), MemoryStore(), Feed()
    cluster = Cluster(store)
    stream = Stream(never(), clock=clock)
    writer = Writer(stream, cluster, store, feed, clock=clock, flush_s=0.0)
    stream.receive(
        [Delivery(each, "application/json", "utf-8", {}, {}, "celeryev", "task.multi", 0) for each in bodies]
    )
    for _ in range(3):
        writer.step(0.0)
        clock.advance(1.0)
    writer.flush()
    return Query(store, cluster, feed=feed, clock=clock), cluster, store


def read_everything(query: Query) -> None:
    """Read what pages read."""
    query.overview()
    query.workers()
    query.queues()
    query.counters()
    for item in query.tasks(EVERYTHING).items:
        detail = query.task(item.id)
        assert detail is not None
        assert detail.item.id == item.id


def text_of(value: object) -> bytes:
    """JSON as careless senders write it: NaN too."""
    return json.dumps(value).encode()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(EVENTS | NEAR | VALUES, min_size=1, max_size=6), st.booleans())
def test_nothing_that_is_json_breaks_the_monitor(events: list[Any], together: bool) -> None:
    bodies = [text_of(events)] if together else [text_of(each) for each in events]
    query, cluster, store = watched(bodies)
    read_everything(query)
    counted = sum(cluster.ledger.kinds.values()) + cluster.ledger.malformed
    assert counted >= (1 if together else len(bodies) - sum(each == [] for each in events))
    assert sum(cluster.cells.values()) == len(store._rows)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=5))
def test_no_bytes_break_the_monitor(bodies: list[bytes]) -> None:
    query, cluster, _ = watched(bodies)
    read_everything(query)
    empty = sum(body.strip() in (b"[]", b"[ ]") for body in bodies)
    assert sum(cluster.ledger.kinds.values()) + cluster.ledger.malformed >= len(bodies) - empty


@settings(max_examples=60, deadline=None)
@given(st.lists(NEAR, max_size=5), st.randoms())
def test_a_good_task_among_bad_ones_is_right(bad: list[Any], dice: Any) -> None:
    good = [
        {"type": kind, "hostname": "w@h", "timestamp": T0 + place, "uuid": "good", "name": "shop.add"}
        for place, kind in enumerate(("task-received", "task-started", "task-succeeded"))
    ]
    mixed = [*good, *bad]
    dice.shuffle(mixed)
    query, _, _ = watched([text_of(each) for each in mixed])
    known = query.task("good")
    assert known is not None
    assert (known.item.state, known.item.type) == ("SUCCESS", "shop.add")


def test_depth_bombs_and_floods_of_names() -> None:
    deep = b"[" * 5_000 + b"]" * 5_000
    flood = [
        {"type": f"kind-{n}", "hostname": f"w{n}@h", "timestamp": T0, "uuid": f"t{n}", f"field{n}": n}
        for n in range(2_000)
    ]
    huge = {"type": "task-failed", "hostname": "w@h", "timestamp": T0, "uuid": "t1", "exception": "x" * 2_000_000}
    query, cluster, store = watched([deep, text_of(flood), text_of(huge), b"\x00" * 1000, b"NaN"])
    read_everything(query)
    assert cluster.ledger.malformed >= 2
    assert len(cluster.ledger.kinds) <= 501
    assert len(query.counters().samples) >= 2
    assert store.size_bytes() < 1_000_000
