"""Everything kept beside evidence is derived from it again: nothing differs, and what was spoilt is put right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.events.cluster import Cluster
from opsq.events.rebuild import KINDS, Rebuilt, rebuild
from opsq.events.rollup import ALL_TIME, Slice, decode_slice, encode_slice
from opsq.events.store import Changes, MemoryStore, Retention, Store
from opsq.events.stores import open_store
from opsq.testing.contract_store import T0, event, life
from opsq.testing.postgres_server import PostgresServer
from opsq.wire.event import Event
from tests.servers_sql import history_server, new_database
from tests.unit.events.test_event_recount import EVENTS, fed

NOW = T0 + 100


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own."""
    with history_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty history of each kind."""
    url = {"sqlite": f"sqlite:///{tmp_path}/history.db", "memory": "memory://"}.get(request.param)
    opened = open_store(url or new_database(request.getfixturevalue("server")))
    yield opened
    opened.close()


def filled(store: Store) -> Cluster:
    """A history of failures, retries, a workflow and a call without a caller, in several batches."""
    cluster = Cluster(store)
    events: list[Event] = []
    for n in range(30):
        events += life(f"t{n}", T0 + n, name=f"app.{n % 3}", queue=f"q{n % 2}", end="task-succeeded")
        events += [
            event("task-received", f"f{n}", T0 + n, name="app.bad", queue="q\x00", retries=0, parent_id=f"t{n - 3}"),
            event("task-started", f"f{n}", T0 + n + 0.5),
            event("task-failed", f"f{n}", T0 + n + 1, exception=f"KeyError({n % 2})", traceback=""),
        ]
    random.Random(3).shuffle(events)
    for start in range(0, len(events), 20):
        cluster.apply(events[start : start + 20], NOW)
        store.write(cluster.take())
        cluster.written()
    return cluster


def different(found: Rebuilt) -> dict[str, int]:
    """How much of what differs."""
    return {what: n for what, n in found.different.items() if n}


def test_nothing_differs_in_a_sound_history(store: Store) -> None:
    """Every kind is compared, and what a restart and retention leave is sound, too."""
    filled(store)
    found = rebuild(store, NOW)
    assert different(found) == {}
    assert not found.changes
    assert all(found.checked[what] for what in KINDS)
    cluster = Cluster(store)
    removed = store.retain(Retention(keep_s=85.0), NOW)
    cluster.forget(removed)
    assert removed.rows == 30
    cluster.apply(life("late", T0 + 99), NOW + 1)
    store.write(cluster.take())
    found = rebuild(store, NOW + 1)
    assert found.told == []
    assert (found.removed.rows, found.removed.until_at) == (30, T0 + 15)


def test_where_room_is_short_figures_leave_with_their_tasks(store: Store) -> None:
    """Those finer than a day; days and totals stay, and what is left is sound."""
    cluster = filled(store)
    cluster.apply(life("later", T0 + 7200), T0 + 7300)
    store.write(cluster.take())
    store.retain(Retention(keep_s=None, max_bytes=1), T0 + 7300)
    if not isinstance(store, MemoryStore):
        assert store.slices(10, 0, int(T0) + 7000) == []
        assert store.slices(60, 0, int(T0) + 7000) == []
    assert store.slices(86_400, 0, 1 << 40)
    assert store.slices(ALL_TIME, 0, 1)
    assert rebuild(store, T0 + 7300).told == []


def test_what_was_spoilt_is_put_right(store: Store) -> None:
    """A state, a count, figures of two widths, an error group, anomalies: found, written, and then all is well."""
    filled(store)
    known, row = store.restore(), store.task("t5")
    assert row is not None
    cell = next(iter(known.cells))
    key = (60, int(T0) - int(T0) % 60, "t:app.1")
    spoilt = decode_slice(store.fetch_slices([key])[key])
    spoilt.counts[0] += 5
    spoilt.ready_max = 12
    group = next(name for name, data in known.ledger.items() if name.startswith("error:") and data)
    store.write(
        Changes(
            rows={"t5": type(row)(row.key, "t5", "FAILURE", "app.x", None, row.worker, None, row.evidence)},
            cells={cell: 7},
            slices={key: encode_slice(spoilt), (ALL_TIME, 0, "t:app.2"): encode_slice(Slice())},
            ledger={group: b"", "anomalies": b""},
        )
    )
    with store.alone():
        found = rebuild(store, NOW)
        assert different(found) == {"row": 1, "count": 1, "figure": 2, "error": 1, "anomaly": 1}
        store.write(found.changes)
    assert rebuild(store, NOW).told == []
    assert decode_slice(store.fetch_slices([key])[key]).ready_max == 12  # measured, not derived
    again = store.task("t5")
    assert again is not None
    assert again.cell == row.cell


@settings(max_examples=80, deadline=None)
@given(st.lists(EVENTS, max_size=24), st.randoms(use_true_random=False))
def test_no_history_differs_from_its_evidence(events: list[Event], dice: random.Random) -> None:
    """Any events, in any order, with duplicates and restarts."""
    _, store = fed([*events, *events[::3]], dice, restarts=True)
    assert isinstance(store, MemoryStore)
    assert rebuild(store, T0 + 10).told == []
