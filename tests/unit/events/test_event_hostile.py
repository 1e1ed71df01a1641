"""Hostile events at the fold: nothing is raised, everything is counted, what comes out can be stored and shown."""

from __future__ import annotations

import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.clock import ManualClock
from opsq.events.cluster import Cluster, Limits
from opsq.events.evidence import EMPTY, decode, encode, fold
from opsq.events.fields import FIELDS
from opsq.events.store import MemoryStore, Where
from opsq.events.tries import item, tries
from opsq.events.views import Views
from opsq.testing.contract_store import T0
from opsq.wire.event import EVENT_KINDS, Event

NAMES = st.one_of(
    st.sampled_from([*FIELDS, "retries", "attempt", "freq", "queues", "processed", "slots"]),
    st.sampled_from(["event", "items", "get", "__class__", "fields", "kind", "self", "\x00", ""]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
        st.sampled_from(["\x00", "\ud800", "x" * 70_000, "a" * 32, 'File "' * 50, "'" * 3000]), st.binary(max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
HOSTILE = st.builds(
    lambda kind, host, at, pid, clock, seq, emitter, uuid, fields: Event(
        kind=kind, hostname=host, timestamp=at, pid=pid, clock=clock, seq=seq, emitter=emitter, uuid=uuid, fields=fields
    ),
    st.one_of(st.sampled_from(sorted(EVENT_KINDS)), st.sampled_from(["task-", "task-\x00", "worker-", "x"]), st.text()),
    st.one_of(st.sampled_from(["w@h", "\x00", "h" * 5000]), st.text(min_size=1, max_size=5)),
    st.one_of(st.sampled_from([T0, T0 + 1, -1.0, 0.0, 1e10, 9e10]), st.floats()),
    st.one_of(st.none(), st.integers()),
    st.one_of(st.none(), st.integers()),
    st.one_of(st.none(), st.integers(-5, 2**63 - 1)),
    st.one_of(st.none(), st.sampled_from(["e", "\x00"])),
    st.one_of(st.none(), st.sampled_from(["t", "u", "t" * 1000, "\x00", "a" * 32])),
    st.dictionaries(NAMES, VALUES, max_size=8),
)


@settings(max_examples=300 if os.environ.get("CHAOS") == "full" else 60, deadline=None)
@given(st.lists(HOSTILE, max_size=8))
def test_hostile_events_are_counted_and_break_nothing(events: list[Event]) -> None:
    """Wrong types, huge fields, unknown kinds, negative times, NUL bytes, fields named like methods."""
    store = MemoryStore()
    cluster = Cluster(store)
    for one in events:
        cluster.apply([one], T0 + 2)
    assert sum(cluster.ledger.kinds.values()) == len(events)
    store.write(cluster.take())
    cluster.written()
    for row in store.tasks(Where(), 100):
        known = decode(row.evidence)
        item(row.key, row.id, known)
        tries(known)
    restarted = Cluster(store)
    views = Views(store, restarted, clock=ManualClock(T0 + 3))
    assert restarted.cells == cluster.cells
    for group in views.errors():
        assert views.error(group.fault) is not None
    for anomaly in views.anomalies():
        assert anomaly.count > 0
    for flow in Views(store, cluster, clock=ManualClock(T0 + 3)).workflows():
        views.workflow(flow.root)
    for name in ("w@h", "celery", "\x00"):
        views.queue_signals(name)
        views.worker_history(name)


@settings(max_examples=300 if os.environ.get("CHAOS") == "full" else 50, deadline=None)
@given(st.lists(HOSTILE, max_size=6), st.randoms(use_true_random=False))
def test_hostile_events_are_order_free_too(events: list[Event], dice: random.Random) -> None:
    """Whatever can be kept at all is the same in any order."""

    def kept(order: list[Event]) -> bytes:
        return encode(fold(EMPTY, order))

    shuffled = [*events, *events[::2]]
    dice.shuffle(shuffled)
    try:
        expected = kept(events)
    except (ValueError, OverflowError):
        return  # text that is not Unicode: the cluster counts it as malformed
    assert kept(shuffled) == expected


def test_a_flood_of_errors_workflows_and_anomalies_stays_bounded() -> None:
    """A million names would fill memory; beyond the bounds they count together or leave."""
    cluster = Cluster(MemoryStore(), Limits(errors=5, flows=10))
    store = MemoryStore()
    cluster = Cluster(store, Limits(errors=5, flows=10))
    for n in range(200):
        said = {"fingerprint": f"f{n}", "exception": f"E{n}()", "root_id": f"r{n}", "parent_id": f"p{n}"}
        one = Event(kind="task-failed", hostname="w", timestamp=T0 + n, uuid=f"t{n}", fields=said)
        cluster.apply([one], T0 + n)
        store.write(cluster.take())
        cluster.written()
    views = Views(store, cluster, clock=ManualClock(T0 + 200))
    groups = {group.fault: group.failed for group in views.errors()}
    assert len(groups) == 6
    assert groups["(other)"] == 195
    assert len(cluster.flows) <= 10
    assert [(one.kind, one.count, len(one.newest)) for one in views.anomalies()] == [("unknown parent", 200, 20)]
