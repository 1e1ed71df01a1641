"""Every count equals a recount of the rows, for any set of events, in any order, with any duplicates and restarts."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.events.anomalies import UNKNOWN_PARENT
from opsq.events.cluster import Cluster
from opsq.events.evidence import decode
from opsq.events.life import Summary, _closely, summarise
from opsq.events.records import key_time
from opsq.events.rollup import ALL_TIME, ARRIVED, STARTED, Slice, decode_slice, fault_part
from opsq.events.store import MemoryStore, Where
from opsq.events.workflows import workflow
from opsq.testing.contract_store import T0
from opsq.wire.event import Event

IDS = ("a", "b", "c", "d", "e")
HOSTS = ("opsq@one", "opsq@two", "gen1@web")
#: (kind, what it may say)
SAYS: dict[str, list[dict[str, Any]]] = {
    "task-sent": [{"name": "app.add", "queue": "celery"}, {"name": "app.mul", "queue": "mail", "retries": 0}],
    "task-received": [
        {"name": "app.add", "retries": 0},
        {"name": "app.add", "retries": 1, "eta": "2026-01-01T00:00:00+00:00"},
        {"name": "app.add", "attempt": 1, "published_at": T0, "delivered_at": T0 + 1},
    ],
    "task-started": [{}, {"attempt": 1, "slot_at": T0 + 1.5}, {"attempt": 2}],
    "task-retried": [{"exception": "Timeout('4')"}, {"exception": "Timeout('5')", "attempt": 1, "version": "v1"}],
    "task-succeeded": [{"runtime": 0.5}, {"attempt": 1, "finished_at": T0 + 4, "acked_at": T0 + 5}],
    "task-failed": [
        {"exception": "KeyError('x')", "traceback": 'Traceback\n  File "/a/b.py", line 3, in f\n    x\n'},
        {"exception": "KeyError('y')", "fingerprint": "f" * 16, "attempt": 1, "version": "v2"},
        {},
    ],
    "task-revoked": [{}],
    "task-rejected": [{"requeue": True}, {}],
    "task-progress": [{"done": 3}],
}
EVENTS = st.sampled_from(sorted(SAYS)).flatmap(
    lambda kind: st.builds(
        lambda uuid, at, clock, host, says, root, parent: Event(
            kind=kind,
            hostname=host,
            timestamp=T0 + at,
            pid=1,
            clock=clock,
            uuid=uuid,
            fields=says if kind not in ("task-sent", "task-received") else {**says, **root, **parent},
        ),
        st.sampled_from(IDS),
        st.integers(0, 8),
        st.integers(0, 2),
        st.sampled_from(HOSTS),
        st.sampled_from(SAYS[kind]),
        st.sampled_from([{}, {"root_id": "a"}, {"root_id": "z"}]),
        st.sampled_from([{}, {"parent_id": "a"}, {"parent_id": "b"}, {"parent_id": "y"}]),
    )
)


def fed(events: list[Event], dice: random.Random, *, restarts: bool = False) -> tuple[Cluster, MemoryStore]:
    """A cluster that got these events in batches of some size, and its store."""
    store = MemoryStore()
    cluster = Cluster(store)
    while events:
        size = dice.randrange(1, 6)
        cluster.apply(events[:size], T0 + 10)
        events = events[size:]
        store.write(cluster.take())
        cluster.written()
        if restarts and dice.random() < 0.3:
            cluster = Cluster(store)
    return cluster, store


def sums(store: MemoryStore) -> dict[str, Any]:
    """All-time slices as they are, those of nothing left out."""
    found = {series: shown(decode_slice(data)) for _, series, data in store.slices(ALL_TIME, 0, 1)}
    return {series: sums for series, sums in found.items() if any(sums[0]) or sums[1]}


def shown(data: Slice) -> tuple[tuple[int, ...], dict[int, dict[int, int]]]:
    """Counts and sketches but that of the lag, which belongs to one monitor."""
    return tuple(data.counts), {segment: held for segment, held in data.sketches.items() if held and segment < 6}


def recounted(summaries: list[Summary]) -> dict[str, list[int]]:
    """Counts by series, from scratch."""
    found: dict[str, list[int]] = {}

    def add(series: str, position: int) -> None:
        found.setdefault(series, [0] * 8)[position] += 1

    for one in summaries:
        places = ["", *(["t:" + one.type] if one.type else []), *(["q:" + one.queue] if one.queue else [])]
        for place in places:
            if one.arrived_at:
                add(place, ARRIVED)
            for _ in one.started_at:
                add(place, STARTED)
        for run in one.runs:
            for place in (*places, "w:" + run.worker):
                add(place, run.outcome)
            if run.fault:
                add("e:" + run.fault, run.outcome)
                add(fault_part(run.fault, one.type, run.version, run.worker), run.outcome)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=24), st.randoms(use_true_random=False))
def test_counts_equal_a_recount_of_the_rows(events: list[Event], dice: random.Random) -> None:
    """Cells, slices of every series, error groups, anomalies and workflows; after restarts, too."""
    dice.shuffle(events)
    cluster, store = fed([*events, *events[::3]], dice, restarts=True)
    rows = store.tasks(Where(), 100)
    summaries = {row.id: summarise(decode(row.evidence)) for row in rows}
    assert cluster.cells == dict(Counter(row.cell for row in rows))
    kept = {name: list(counts) for name, (counts, _) in sums(store).items() if any(counts) and not name.startswith("c")}
    assert kept == recounted(list(summaries.values()))
    expected = Counter(kind for one in summaries.values() for kind in one.anomalies)
    expected[UNKNOWN_PARENT] += sum(
        one.parent is not None and one.parent not in summaries for one in summaries.values()
    )
    assert cluster.anomalies.counts == {kind: n for kind, n in expected.items() if n}
    for flow in cluster.flows.copy():
        if flow.exact:
            members = [row.state for row in rows if (row.root or row.id) == flow.root]
            assert flow.states == dict(Counter(members))


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=24), st.randoms(use_true_random=False))
def test_what_is_kept_depends_on_the_set_of_events_alone(events: list[Event], dice: random.Random) -> None:
    """Two monitors, other orders, batches and duplicates: the same evidence, sums, error groups and workflows."""
    shuffled = [*events, *events[::2]]
    dice.shuffle(shuffled)
    (one, kept), (other, also) = fed(list(events), dice), fed(shuffled, dice)
    assert {row.id: row.evidence for row in kept.tasks(Where(), 100)} == {
        row.id: row.evidence for row in also.tasks(Where(), 100)
    }
    assert sums(kept) == sums(also)
    assert {facts.fault: facts for facts in one.errors.copy()} == {facts.fault: facts for facts in other.errors.copy()}
    assert one.anomalies.counts == other.anomalies.counts
    states = [{flow.root: (flow.states, flow.name) for flow in each.flows.copy()} for each in (one, other)]
    assert states[0] == states[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=24), st.randoms(use_true_random=False))
def test_everything_can_be_derived_again(events: list[Event], dice: random.Random) -> None:
    """Folding the same events into an empty store gives what was kept by a monitor that restarted in between."""
    _, kept = fed(list(events), dice, restarts=True)
    again, derived = fed(sorted(events, key=lambda one: one.timestamp), dice)
    assert sums(kept) == sums(derived)
    restarted = Cluster(kept)
    assert restarted.cells == again.cells
    assert restarted.anomalies.counts == again.anomalies.counts
    assert {facts.fault: facts for facts in restarted.errors.copy()} == {
        facts.fault: facts for facts in again.errors.copy()
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, max_size=8))
def test_the_short_way_to_a_summary_says_the_same(events: list[Event]) -> None:
    """``_plain`` is only faster than ``_closely``."""
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.apply(events, T0 + 10)
    store.write(cluster.take())
    for row in store.tasks(Where(), 100):
        known = decode(row.evidence)
        assert summarise(known) == _closely(known)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=24))
def test_a_workflow_is_put_together_from_any_rows(events: list[Event]) -> None:
    """Loops of parents, members without a caller, no first task: everybody is shown once, nothing hangs."""
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.apply(events, T0 + 10)
    store.write(cluster.take())
    rows = store.tasks(Where(), 100)
    found = workflow("a", rows)
    assert (found is None) == (not rows)
    if found is not None:
        assert sorted(node.id for node in found.nodes) == sorted(row.id for row in rows)
        assert set(found.critical) <= {row.id for row in rows}
        assert all(node.slack_s is None or node.slack_s >= 0 for node in found.nodes)
        assert all(node.at == key_time(row.key) for node in found.nodes for row in rows if row.id == node.id)
