"""The two judgements, without processes."""

from __future__ import annotations

from opsq.core.pools.prefork_pace import Pace, Respawn


def test_a_type_is_tiny_only_after_it_was_measured():
    pace = Pace()
    assert pace.tiny_s("t") is None
    for _ in range(4):
        pace.note("t", 0.0001)
    assert pace.tiny_s("t") is None
    pace.note("t", 0.0001)
    assert 0.00009 < pace.tiny_s("t") < 0.00011


def test_one_long_run_makes_a_type_long_for_a_while():
    pace = Pace()
    for _ in range(100):
        pace.note("t", 0.0001)
    pace.note("t", 0.1)
    assert pace.tiny_s("t") is None
    runs = 0
    while pace.tiny_s("t") is None:
        pace.note("t", 0.0001)
        runs += 1
    assert 10 <= runs <= 20


def test_names_from_peers_do_not_fill_the_memory():
    pace = Pace()
    for n in range(10_000):
        pace.note(f"t{n}", 0.1)
    assert len(pace._mean_s) <= 2_000


def test_the_first_deaths_are_replaced_at_once_then_less_and_less_often():
    respawn = Respawn(slots=2)
    waits = [respawn.died(100.0) for _ in range(15)]
    assert waits == [0, 0, 0, 0, 0.05, 0.05, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.8, 0.8, 1.0]
    assert respawn.not_before() == 101.0
    respawn.worked()
    assert respawn.died(101.0) == 0.0


def test_deaths_far_apart_are_not_in_a_row():
    respawn = Respawn(slots=1)
    assert [respawn.died(n * 60.0) for n in range(9)] == [0.0] * 9
