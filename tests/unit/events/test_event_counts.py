"""Sketches, rollups, sequence numbers: sums that merge, and loss that is never silent."""

from __future__ import annotations

import math
import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from opsq.events import series, sketch
from opsq.events.cluster import Cluster
from opsq.events.rollup import ALL_TIME, SEGMENTS, TIERS, Delta, Rollup, Slice, decode_slice, encode_slice
from opsq.events.sequence import Sequences
from opsq.events.store import MemoryStore
from opsq.testing.contract_store import T0, event, life
from opsq.wire.event import Event


@given(st.floats(min_value=1.1e-6, max_value=1e8))
def test_a_sketch_is_within_two_percent(length_s: float) -> None:
    """Every duration from a microsecond to years."""
    assert math.isclose(sketch.value(sketch.index(length_s)), length_s, rel_tol=0.02)


def test_buckets_are_for_ever() -> None:
    """Histories hold these numbers."""
    values = (1e-6, 1.1e-6, 0.001, 0.05, 1.0, 60.0, 86_400.0, 1e9)
    assert [sketch.index(value) for value in values] == [0, 2, 182, 285, 363, 471, 663, 872]


def test_percentiles_of_many_values_are_within_two_percent() -> None:
    """A million-fold range, against the sorted truth."""
    dice = random.Random(1)
    values = sorted(dice.lognormvariate(0, 3) for _ in range(20_000))
    held: sketch.Sketch = {}
    for one in values:
        sketch.merge(held, {sketch.index(one): 1})
    found = sketch.quantiles(held, (0.5, 0.95, 0.99))
    assert found is not None
    for share, estimate in zip((0.5, 0.95, 0.99), found, strict=True):
        assert math.isclose(estimate, values[int(share * (len(values) - 1))], rel_tol=0.02)


def test_sketches_are_bounded_merge_and_can_be_taken_back() -> None:
    """Adding and subtracting the same leaves nothing."""
    assert sketch.index(0.0) == sketch.index(-1.0) == 0
    assert sketch.index(1e300) == sketch.MAX_INDEX < 1000
    held = sketch.merged([{1: 2, 5: 1}, {1: 1}])
    assert held == {1: 3, 5: 1}
    sketch.merge(held, {1: 3, 5: 1}, -1)
    assert held == {}
    assert sketch.quantiles(held, (0.5,)) is None
    assert series.percentiles(held) is None


def test_one_batch_reaches_every_tier() -> None:
    """Done, arrived and failed in each bucket width, for everything, the type, the queue and the worker."""
    store = MemoryStore()
    cluster = Cluster(store)
    cluster.apply([*life("a", T0), *life("b", T0, end="task-failed"), *life("c", T0 + 61, name="app.mul")], T0 + 62)
    store.write(cluster.take())
    for tier in TIERS[1:]:
        counted = [decode_slice(data) for _, _, data in store.slices(tier.width_s, 0, 2**40, series="")]
        assert sum(data.counts[0] for data in counted) == 2
        assert sum(data.counts[1] for data in counted) == 1
    (total,) = store.slices(ALL_TIME, 0, 1, series="t:app.add")
    assert decode_slice(total[2]).counts[:2] == [1, 1]
    shown = series.points(store, "q:celery", T0 - 60, T0 + 62, 60, T0 + 62)
    assert [point.done for point in shown][-2:] == [2, 1]
    assert shown[-1].open
    assert not shown[0].open
    assert math.isclose(shown[-1].latency["run"].p95, 0.1, rel_tol=0.02)


def test_events_that_come_again_count_once() -> None:
    """Duplicates change no slice; a later truth moves what was counted."""
    store = MemoryStore()
    cluster = Cluster(store)
    events = life("a", T0)
    for _ in range(3):
        cluster.apply(events, T0 + 1)
    store.write(cluster.take())
    assert cluster.ledger.duplicates == 6
    (day,) = store.slices(86400, 0, 2**40, series="")
    assert decode_slice(day[2]).counts[:2] == [1, 0]
    cluster.apply([event("task-sent", "a", T0 - 100, host="gen1@web", name="app.add", queue="celery")], T0 + 2)
    store.write(cluster.take())
    arrived = [start for start, _, data in store.slices(10, 0, 2**40, series="") if decode_slice(data).counts[6]]
    assert arrived == [int(T0 - 100)]


def test_a_late_event_adds_to_what_was_stored() -> None:
    """A slice that left memory is read back before it is changed."""
    store = MemoryStore()
    for n in range(3):
        cluster = Cluster(store)
        cluster.apply(life(f"t{n}", T0), T0 + 10)
        store.write(cluster.take())
    (minute,) = store.slices(60, 0, 2**40, series="w:opsq@one")
    assert decode_slice(minute[2]).counts[0] == 3


def test_slices_in_memory_are_bounded() -> None:
    """The oldest leave once they are stored, and times out of range are counted, not kept."""
    rollup = Rollup(lambda keys: {}, max_slices=100)
    for second in range(200):
        delta = Delta()
        delta.lag(T0 + second * 10, 0.1)
        rollup.apply(delta, T0 + second * 10)
    rollup.take()
    rollup.shrink()
    assert len(rollup) <= 100
    delta = Delta()
    delta.lag(T0 + 10**6, 0.1)
    delta.lag(0.0, 0.1)
    rollup.apply(delta, T0)
    assert rollup.out_of_range == 2
    assert decode_slice(encode_slice(Slice(run_s=1.5))).run_s == 1.5
    assert len(SEGMENTS) == 6


def test_gaps_are_counted_and_repaired() -> None:
    """Lost until it comes; a first number that is not 1 is no loss; forgetting an emitter keeps its losses."""
    ledger = Sequences(max_emitters=2, max_holes=2)
    for seq in (10, 11, 15, 12, 12):
        ledger.seen("e", "h", seq, T0)
    assert (ledger.lost, ledger.gaps_of("h")) == (2, 2)
    ledger.seen("e", "h", 13, T0)
    ledger.seen("e", "h", 14, T0)
    assert ledger.lost == 0
    for seq in (20, 30, 40):
        ledger.seen("e", "h", seq, T0)
    assert len(ledger.emitters["e"].holes) == 2
    assert ledger.lost == 4 + 9 + 9
    ledger.seen("f", "h", 1, T0 + 1)
    ledger.seen("g", "h", 1, T0 + 1)
    assert "e" not in ledger.emitters
    assert ledger.lost == 22
    assert ledger.gaps_of("celery@old") is None


def test_events_missed_while_the_monitor_was_away_are_lost() -> None:
    """The numbers seen survive a restart, so the gap shows."""
    store = MemoryStore()
    first = Cluster(store)
    numbered = [event("task-started", f"t{n}", T0 + n) for n in range(3)]
    first.apply([_numbered(one, n + 1) for n, one in enumerate(numbered)], T0)
    store.write(first.take())
    second = Cluster(store)
    second.apply([_numbered(event("task-started", "t9", T0 + 9), 9)], T0 + 9)
    assert second.sequences.lost == 5


def _numbered(one: Event, seq: int) -> Event:
    return msgspec.structs.replace(one, seq=seq, emitter="e")
