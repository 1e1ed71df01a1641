"""What is counted for metrics alone: by place, once, within a bound; cells keep their sums right."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.events import sketch
from opsq.events.bounds import LATENCY_S, Histogram, places, summed
from opsq.events.cells import CellCounts
from opsq.events.cluster import Cluster
from opsq.events.evidence import EMPTY, fold
from opsq.events.figures import Figures
from opsq.events.life import summarise
from opsq.events.rows import Cell
from opsq.events.store import MemoryStore
from opsq.events.tally import OTHER, Tally
from opsq.events.ticks import MOST_ENTRIES, Ticks
from opsq.wire.event import Event

T0 = 1_790_000_000.0
NAMES = st.sampled_from(["a", "b", None])


def told(kind: str, id: str, at: float = T0, host: str = "opsq@one", **fields: object) -> Event:
    return Event(kind=kind, hostname=host, timestamp=at, uuid=id, pid=1, fields=fields)


def life(id: str, at: float = T0, name: str = "app.x", queue: str = "q", end: str = "task-succeeded") -> list[Event]:
    call = {"name": name, "queue": queue, "retries": 0, "published_at": at}
    return [
        told("task-received", id, at + 1, **call, delivered_at=at + 1),
        told("task-started", id, at + 2, **call, delivered_at=at + 1, slot_at=at + 2, started_at=at + 2),
        told(end, id, at + 5, **call, delivered_at=at + 1, slot_at=at + 2, started_at=at + 2, finished_at=at + 5,
             runtime=3.0, exception="shop.errors.Broken('x')"),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.tuples(st.sampled_from(["STARTED", "RECEIVED"]), NAMES, NAMES, NAMES),
                          st.integers(-3, 3)), max_size=40))  # fmt: skip
def test_the_sums_of_cells_are_those_of_the_cells(steps: list[tuple[Cell, int]]) -> None:
    cells, plain = CellCounts(), Counter[Cell]()
    for cell, amount in steps:
        cells.add(cell, amount)
        plain[cell] += amount
    assert cells == {cell: n for cell, n in plain.items() if n}
    by_state, by_worker, prefetched = Counter[object](), Counter[object](), Counter[object]()
    for (state, type, _, worker), n in plain.items():
        by_state[state] += n
        by_worker[worker, state] += n
        prefetched[worker, type] += n if state == "RECEIVED" else 0
    for held, wanted in ((cells.by_state, by_state), (cells.by_worker, by_worker), (cells.prefetched, prefetched)):
        assert held == {key: n for key, n in wanted.items() if n}


def test_places_are_counted_once_whatever_comes_twice() -> None:
    cluster = Cluster(MemoryStore())
    events = [*life("t1"), *life("t2", end="task-failed")]
    cluster.apply(events, T0 + 10)
    cluster.apply(events, T0 + 11)
    cluster.apply(list(reversed(events)), T0 + 12)
    (place,) = cluster.tally.places.values()
    assert place.kinds == {"task-received": 2, "task-started": 2, "task-succeeded": 1, "task-failed": 1}
    assert place.failures == {"Broken": 1}
    assert place.run.buckets().count == 1  # of those that succeeded
    assert place.run.buckets().sum_s == 3.0
    assert place.wait.buckets().count == 2
    assert place.wait.buckets().sum_s == pytest.approx(4.0)
    assert place.prefetch_s == 1.0


def test_an_exemplar_is_a_task_of_its_bucket() -> None:
    cluster = Cluster(MemoryStore())
    cluster.apply([*life("t1"), *life("t2", T0 + 1)], T0 + 10)
    found = cluster.tally.exemplars["app.x", 3, LATENCY_S.index(5.0)]
    assert (found.task_id, found.value_s, found.at) == ("t2", 3.0, T0 + 6)


def test_in_a_flood_that_ends_out_of_order_few_are_examples() -> None:
    """Another clock, far behind, has its examples too."""
    tally, heard = Tally(), []
    tally._example = lambda id, type, run: heard.append(run.at)  # type: ignore[assignment, method-assign]
    for n in range(1_000):
        at = T0 + n * 1e-5 + (0.005 if n % 2 else 0.0)
        tally.ended(f"t{n}", None, summarise(fold(EMPTY, [told("task-succeeded", f"t{n}", at, runtime=0.1)])))
    assert 2 <= len(heard) <= 8
    tally.ended("behind", None, summarise(fold(EMPTY, [told("task-succeeded", "behind", T0 - 60, runtime=0.1)])))
    assert heard[-1] == T0 - 60


def test_a_flood_of_places_is_counted_under_other() -> None:
    cluster = Cluster(MemoryStore())
    cluster.tally = Tally(most=5)
    for n in range(20):
        cluster.apply(life(f"t{n}", name=f"made.up.{n}"), T0 + 10)
    assert len(cluster.tally.places) == 6
    assert cluster.tally.places[OTHER, OTHER, OTHER].kinds["task-received"] == 15
    assert cluster.tally.merged == 15 * 3


def test_exceptions_by_name_are_bounded_and_never_text() -> None:
    cluster = Cluster(MemoryStore())
    for n in range(40):
        cluster.apply([told("task-failed", f"t{n}", name="app.x", exception=f"E{n}('secret {n}')")], T0)
    cluster.apply([told("task-failed", "odd", name="app.x", exception="no name at all")], T0)
    (place,) = cluster.tally.places.values()
    assert len(place.failures) == 21
    assert place.failures["UnknownException"] == 21
    assert not [name for name in place.failures if "secret" in name]


def test_prefetched_tasks_come_from_their_rows() -> None:
    cluster = Cluster(MemoryStore())
    figures = Figures(MemoryStore(), cluster)
    cluster.apply(life("t1")[:1], T0 + 1)
    assert figures.prefetched() == {("opsq@one", "app.x"): 1}
    cluster.apply(life("t1")[1:], T0 + 6)
    assert figures.prefetched() == {}


def test_sums_of_all_time_are_read_again_only_when_they_changed() -> None:
    store = MemoryStore()
    cluster, figures = Cluster(store), Figures(store, Cluster(MemoryStore()))
    for id, name in (("t1", "app.x"), ("t2", "app.y")):
        cluster.apply(life(id, name=name), T0 + 10)
        store.write(cluster.take())
    before = figures.by("t:")
    cluster.apply(life("t3", name="app.y"), T0 + 10)
    store.write(cluster.take())
    after = figures.by("t:")
    assert after["app.x"] is before["app.x"]
    assert after["app.y"] is not before["app.y"]
    assert after["app.y"].run_s == 6.0
    assert figures.everything().run_s == 9.0


def test_ticks_are_bounded_and_believe_nothing() -> None:
    ticks = Ticks()
    for n in range(MOST_ENTRIES + 10):
        ticks.heard(told("schedule-tick", "", name=f"e{n}", late_s=0.5, missed=n, sent_at=T0 + n))
    ticks.heard(told("schedule-tick", "", name=None, late_s="soon", missed=[], sent_at=True))
    assert len(ticks.entries) == MOST_ENTRIES + 1
    assert ticks.entries["other"].sent == 11
    assert ticks.entries["e7"].late.buckets().count == 1


@given(st.lists(st.floats(0, 5_000), max_size=50))
def test_a_sketch_falls_in_the_bucket_of_its_values(values: list[float]) -> None:
    """Within the sketch's error: a value may be counted one bound off when it is within two per cent of it."""
    table, exact = places(LATENCY_S), Histogram(LATENCY_S)
    for value in values:
        exact.add(value)
        near = [bound for bound in LATENCY_S if abs(bound - value) <= 0.02 * bound]
        counted = table[sketch.index(value)]
        plain = next((place for place, bound in enumerate(LATENCY_S) if value <= bound), len(LATENCY_S))
        assert counted == plain or near
    found = exact.buckets()
    assert found.count == len(values)
    assert summed([found, found], LATENCY_S).counts == tuple(2 * n for n in found.counts)
    assert summed([], LATENCY_S).count == 0
