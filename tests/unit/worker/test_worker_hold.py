"""Waiting for a time and for a rate: pure, so time is whatever the test says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.core.worker.hold import EtaHeap, RateGate, parse_rate
from opsq.errors import ConfigError


def test_due_in_order_of_time() -> None:
    heap = EtaHeap()
    for until, key in ((30.0, 1), (10.0, 2), (20.0, 3)):
        heap.push(until, key)
    assert (len(heap), heap.next_at()) == (3, 10.0)
    assert heap.due(9.9) == []
    assert heap.due(20.0) == [2, 3]
    assert heap.clear() == [1]
    assert (len(heap), heap.next_at(), heap.due(1e12)) == (0, None, [])


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=300))
def test_each_key_leaves_once(items: list[tuple[float, bool]]) -> None:
    heap = EtaHeap()
    for key, (until, _) in enumerate(items):
        heap.push(until, key)
    dropped = {key for key, (_, drop) in enumerate(items) if drop}
    assert all(heap.discard(key) for key in dropped)
    assert not any(heap.discard(key) for key in dropped)
    left = [key for now in range(0, 101, 10) for key in heap.due(now)]
    assert sorted([*left, *dropped]) == list(range(len(items)))
    assert heap.next_at() is None


def test_revoked_ones_do_not_pile_up() -> None:
    heap = EtaHeap()
    for key in range(10_000):
        heap.push(1e9, key)
        heap.discard(key)
    assert len(heap._heap) < 200


@pytest.mark.parametrize(
    ("text", "per_s"),
    [("10/s", 10), ("120/m", 2), ("3600/h", 1), ("0.5", 0.5), (4, 4), (None, 0), ("0", 0), (" 1 / m ", 1 / 60)],
)
def test_rates(text: str | float | None, per_s: float) -> None:
    assert parse_rate(text) == pytest.approx(per_s)


@pytest.mark.parametrize("text", ["fast", "10/d", "-1/s", "1/s/s"])
def test_bad_rates(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a rate such as"):
        parse_rate(text)


def test_a_gate_lets_one_through_at_a_time() -> None:
    gate = RateGate(2.0)
    assert gate.take(1, 100.0)
    assert not gate.take(2, 100.1)
    assert not gate.take(3, 100.1)
    assert gate.wait_s(100.1) == pytest.approx(0.4)
    assert gate.due(100.4) == []
    assert gate.due(100.5) == [2]
    assert gate.due(101.0) == [3]
    assert gate.wait_s(101.0) is None


def test_late_ticks_do_not_lower_the_rate() -> None:
    gate = RateGate(10.0)
    gate.take(0, 0.0)
    for key in range(1, 21):
        gate.take(key, 0.0)
    released = sum(len(gate.due(tick * 0.17)) for tick in range(1, 13))
    assert released >= 12  # one per tick at least, never a burst
    assert all(len(gate.due(0.0)) == 0 for _ in range(3))


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 0.5), max_size=100))
def test_never_faster_than_the_rate(per_s: float, pauses: list[float]) -> None:
    gate = RateGate(per_s)
    now, passed = 0.0, 0
    for key in range(1000):
        gate.take(key, now) and (passed := passed + 1)
    for pause in pauses:
        now += pause
        passed += len(gate.due(now))
    assert passed <= now * per_s + 2


def test_forgetting() -> None:
    gate = RateGate(1.0)
    gate.take(1, 0.0)
    gate.take(2, 0.0)
    gate.take(3, 0.0)
    assert gate.discard(2)
    assert not gate.discard(2)
    assert gate.clear() == [3]
    assert len(gate) == 0
