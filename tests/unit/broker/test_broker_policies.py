"""Retrying, prefetch, pace, shares and confirms: the parts that only decide."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.broker.confirms import Confirms
from opsq.broker.message import OutMessage
from opsq.broker.pace import Pace
from opsq.broker.prefetch import Adaptive, Fixed
from opsq.broker.retry import NO_RETRY, RetryPolicy, retry_policy
from opsq.broker.sqlite.take import shares
from opsq.errors import ConfigError


def test_retry_intervals_are_celerys() -> None:
    steady = RetryPolicy(max_retries=7, interval_start=0, interval_step=0.2, interval_max=1.0, jitter=0)
    assert list(steady.intervals()) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert list(NO_RETRY.intervals()) == []
    assert len(list(islice(RetryPolicy(max_retries=None).intervals(), 100))) == 100


def test_jitter_only_shortens() -> None:
    waits = RetryPolicy(max_retries=50, interval_start=1, interval_step=0, jitter=0.5).intervals()
    assert all(0.5 <= wait <= 1 for wait in waits)


def test_a_retry_policy_names_every_fault() -> None:
    with pytest.raises(ConfigError) as caught:
        retry_policy({"max_retry": 3, "interval_step": -1, "interval_max": "1"})
    assert [fault.problem for fault in caught.value.faults] == [
        "retry policy: 'max_retry' is not known",
        "retry policy: interval_step must be a number ≥ 0, got -1",
        "retry policy: interval_max must be a number ≥ 0, got '1'",
    ]


def test_a_retry_policy_may_have_no_end() -> None:
    assert retry_policy({"max_retries": None}).max_retries is None
    assert retry_policy(None) == RetryPolicy()


def test_fixed_prefetch_learns_nothing() -> None:
    policy = Fixed(0)
    policy.observe(1000, True, 1.0)
    assert policy.limit == 1


def worked(policy: Adaptive, per_second: float, seconds: float, start: float, full: bool = True) -> float:
    """Tell a policy of steady work in steps of 10 ms; return the time afterwards."""
    now = start
    for _ in range(round(seconds * 100)):
        now += 0.01
        policy.observe(round(per_second / 100), full, now)
    return now


def test_adaptive_prefetch_settles_at_a_tenth_of_a_second_of_work() -> None:
    policy = Adaptive(4)
    assert policy.limit == 4
    worked(policy, 10_000, 2.0, 0.0)
    assert 900 <= policy.limit <= 1100


def test_adaptive_prefetch_shrinks_when_work_slows_down() -> None:
    policy = Adaptive(4)
    now = worked(policy, 10_000, 2.0, 0.0)
    worked(policy, 500, 1.0, now)
    assert policy.limit <= 60


def test_adaptive_prefetch_starts_anew_after_idleness() -> None:
    policy = Adaptive(4)
    now = worked(policy, 10_000, 2.0, 0.0)
    worked(policy, 0, 2.0, now, full=False)
    assert policy.limit == 4


def test_adaptive_prefetch_keeps_one_per_slot_for_long_tasks() -> None:
    policy = Adaptive(8)
    now = 0.0
    for _ in range(20):
        now += 5.0
        policy.observe(1, True, now)
    assert policy.limit == 8


def test_adaptive_prefetch_has_a_ceiling() -> None:
    policy = Adaptive(4, ceiling=100)
    worked(policy, 1_000_000, 3.0, 0.0)
    assert policy.limit == 100


def test_the_owner_lingers_only_at_high_rates_with_work_in_reserve() -> None:
    pace = Pace()
    assert pace.worth(held=1000, waiting=0, limit=1000, most=256) == 0
    for step in range(10):
        pace.note(1000, step * 0.01)
    assert pace.worth(held=1000, waiting=0, limit=1000, most=256) == 128
    assert pace.worth(held=4, waiting=0, limit=4, most=256) == 0, "slots could run dry"
    assert pace.worth(held=600, waiting=500, limit=1000, most=256) == 0


@given(room=st.integers(0, 500), active=st.lists(st.booleans(), min_size=1, max_size=12), turn=st.integers(0, 99))
def test_shares_use_the_room_and_no_more(room: int, active: list[bool], turn: int) -> None:
    given_ = shares(room, active, turn)
    assert sum(given_) == room
    assert len(given_) == len(active)
    assert min(given_) >= (1 if room >= len(active) else 0)


def test_shares_go_round_when_there_is_little_room() -> None:
    assert [shares(1, [True, False, True], turn) for turn in range(3)] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def note(number: int) -> OutMessage:
    return OutMessage(body=str(number).encode(), content_type="", content_encoding="", headers={}, routing_key="q")


def test_confirms_follow_the_brokers_numbers() -> None:
    confirms = Confirms()
    for number in range(1, 7):
        confirms.sent(note(number))
    confirms.on_ack(2, False)
    confirms.on_ack(4, True)
    confirms.on_nack(5, False)
    confirms.on_ack(99, False)
    assert [each.body for each in confirms.unconfirmed()] == [b"6"]
    assert [each.body for each in confirms.refused] == [b"5"]
    assert len(confirms) == 1
