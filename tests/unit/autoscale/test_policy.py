"""Single decisions that a person can check by hand."""

from __future__ import annotations

import time

import msgspec

from opsq.autoscale.decision import History
from opsq.autoscale.observation import Due, Machine, Observation, QueueView
from opsq.autoscale.policy import decide, is_burst
from opsq.autoscale.presets import Limits, QueueTarget
from opsq.autoscale.staffing import drain_slots, late_chance, steady_slots

LIMITS = Limits(fewest=0, most=64)
QUIET = QueueView(rate=0.0, service_s=0.5)


def seen(**fields: object) -> Observation:
    return msgspec.convert({"at": 100.0, "have": 4, "running": 4, **fields}, Observation, strict=False)


def test_erlangs_formula() -> None:
    # Two slots at a load of one: a third of the tasks wait; with one slot at half a load, half of them do.
    assert abs(late_chance(2, 1.0, 0.0) - 1 / 3) < 1e-12
    assert abs(late_chance(1, 0.5, 0.0) - 0.5) < 1e-12
    grow, keep = steady_slots(5.0, 0.0, 0.6, 0.05)
    assert late_chance(grow, 5.0, 0.0) <= 0.6 < late_chance(grow - 1, 5.0, 0.0)
    assert late_chance(keep, 5.0, 0.0) <= 0.05 < late_chance(keep - 1, 5.0, 0.0)


def test_next_to_no_load_needs_one_slot() -> None:
    for load in (5e-324, 1e-320, 1e-200, 1e-9):
        assert steady_slots(load, 0.0, 0.05, 0.01) == (1, 1)


def test_a_backlog_needs_what_starts_it_before_its_deadline() -> None:
    assert drain_slots([(10.0, 100.0)], 100, 1.0, 1.0) == 10.0
    # Two slots do 2 of the 100 while the others start, the rest has nine seconds.
    assert drain_slots([(10.0, 100.0)], 2, 1.0, 1.0) == 98 / 9
    # What is due first decides when it is the most.
    assert drain_slots([(100.0, 10.0), (1.0, 5.0)], 100, 0.0, 0.1) == 5.0


def test_a_backlog_grows_the_pool_and_says_so() -> None:
    queue = QueueView(name="mail", depth=400.0, ages=(1.0,), rate=10.0, service_s=0.35)
    decision = decide(seen(queues=(queue,)), History(), LIMITS)
    assert decision.target > 40
    assert decision.winner == "drain"
    assert "400 tasks wait in `mail`, the oldest 1.0 s of 5 s, at 0.35 s each" in decision.text


def test_work_that_fails_does_not_grow_and_does_not_shrink() -> None:
    queue = QueueView(depth=400.0, ages=(4.0,), rate=40.0, retry_rate=30.0, service_s=0.35)
    decision = decide(seen(queues=(queue,), finished=20, failed=15), History(), LIMITS)
    assert (decision.target, decision.capped_by) == (4, "failing")
    history, now = History(), seen(queues=(QUIET,), finished=20, failed=15, running=0)
    for at in range(100, 200):
        decision = decide(msgspec.structs.replace(now, at=float(at)), history, LIMITS)
        history = decision.history
        assert decision.target == 4


def test_a_full_cpu_keeps_three_children_on_two_cores() -> None:
    queue = QueueView(depth=400.0, ages=(4.0,), rate=30.0, service_s=0.05)
    decision = decide(
        seen(queues=(queue,), have=1, running=1, machine=Machine(cpu_share=1.0, cores=2.0)), History(), LIMITS
    )
    assert (decision.target, decision.capped_by) == (3, "cpu")


def test_a_growth_that_brought_nothing_is_taken_back_and_remembered() -> None:
    queue = QueueView(depth=400.0, ages=(4.0,), rate=30.0, service_s=0.05)
    full = Machine(cpu_busy=1.0)
    now = seen(queues=(queue,), machine=full, throughput=20.0)
    grown = decide(now, History(), LIMITS)
    assert grown.target > 4
    after = msgspec.structs.replace(now, at=111.0, have=grown.target, throughput=20.4)
    decision = decide(after, grown.history, LIMITS)
    assert (decision.want, decision.capped_by) == (4, "knee")


def test_a_killed_child_halves_the_pool() -> None:
    queue = QueueView(depth=400.0, ages=(4.0,), rate=30.0, service_s=0.5)
    now = seen(queues=(queue,), have=20, running=8, machine=Machine(oom_kills=3))
    first = decide(now, History(), LIMITS)
    killed = msgspec.structs.replace(now, at=101.0, machine=Machine(oom_kills=4))
    decision = decide(killed, first.history, LIMITS)
    assert (decision.want, decision.capped_by) == (10, "oom")


def test_it_holds_when_blind_and_uses_what_the_worker_holds() -> None:
    old = seen(queues=(QUIET,), age_s=30.0, have=9)
    assert decide(old, History(), LIMITS).target == 9
    held = QueueView(depth=100.0, ages=(2.0,), rate=20.0, service_s=0.5)
    local = decide(msgspec.structs.replace(old, local=(held,)), History(), LIMITS)
    assert local.mode == "local"
    assert local.target > 9


def test_a_clock_that_runs_backwards_holds() -> None:
    history = decide(seen(queues=(QUIET,)), History(), LIMITS).history
    decision = decide(seen(queues=(QUIET,), at=-3500.0), history, LIMITS)
    assert (decision.target, decision.mode) == (4, "blind")


def test_the_last_slot_goes_after_five_idle_minutes_unless_something_is_due() -> None:
    def last(due: tuple[Due, ...]) -> tuple[float, int]:
        history, have = History(), 1
        for at in range(0, 1000, 1):
            decision = decide(Observation(at=float(at), have=have, queues=(QUIET,), due=due), history, LIMITS)
            history = decision.history
            if decision.target != have:
                return float(at), decision.target
        return 1000.0, have

    at, target = last(())
    assert (target, 300 <= at <= 400) == (0, True)
    assert last((Due(name="nightly", in_s=100.0),)) == (1000.0, 1)


def test_from_zero_the_first_message_and_a_due_entry_wake() -> None:
    asleep = Observation(at=0.0, have=0, queues=(QUIET,))
    assert decide(asleep, History(), LIMITS).target == 0
    one = QueueView(depth=1.0, ages=(0.1,), rate=0.02, service_s=0.5)
    assert decide(msgspec.structs.replace(asleep, queues=(one,)), History(), LIMITS).target == 1
    due = msgspec.structs.replace(asleep, due=(Due(name="nightly", in_s=2.0, tasks=80.0),))
    woken = decide(due, History(), LIMITS)
    assert (woken.target, woken.winner) == (10, "due")
    assert "`nightly` is due in 2 s with 80 tasks" in woken.text


def test_what_is_due_names_its_entry_and_is_no_idle_slot() -> None:
    ticks = tuple(Due(name=name, in_s=in_s, tasks=6.0) for name, in_s in (("a", 1.0), ("b", 1.0), ("a", 2.0)))
    decision = decide(Observation(at=0.0, have=1, queues=(QUIET,), due=ticks), History(), LIMITS)
    assert decision.winner == "due"
    assert "`a` and 1 more are due from 1 s on with 18 tasks" in decision.text
    assert "useful" not in {bound.name for bound in decision.bounds}
    # What is no more than is needed anyway changes nothing that is said.
    busy = QueueView(name="celery", depth=40.0, ages=(1.0,), rate=8.0, service_s=1.0)
    few = (Due(name="a", in_s=1.0, tasks=1.0),)
    decision = decide(Observation(at=0.0, have=1, running=1, queues=(busy,), due=few), History(), LIMITS)
    assert decision.winner != "due"
    assert "useful" in {bound.name for bound in decision.bounds}


def test_of_several_queues_the_strict_one_decides_and_is_named() -> None:
    limits = msgspec.structs.replace(
        LIMITS, targets={"urgent": QueueTarget(slo_s=2.0), "later": QueueTarget(slo_s=300.0)}
    )
    urgent = QueueView(name="urgent", depth=30.0, ages=(1.0,), rate=4.0, service_s=0.5)
    later = QueueView(name="later", depth=2000.0, ages=(10.0,), rate=5.0, service_s=1.0)
    both = decide(seen(queues=(urgent, later)), History(), limits)
    alone = decide(seen(queues=(later,)), History(), limits)
    assert both.want > alone.want
    assert "`urgent`" in both.text


def test_a_cost_cap_announces_itself() -> None:
    limits = msgspec.structs.replace(LIMITS, slot_hours_a_day=240.0)
    queue = QueueView(depth=4000.0, ages=(4.0,), rate=30.0, service_s=0.5)
    decision = decide(seen(queues=(queue,), spent=200.0), History(), limits)
    assert (decision.want, decision.capped_by) == (10, "cost")
    assert "slot-hours" in decision.text


def test_going_up_and_down_holds_longer() -> None:
    history, have, changes = History(), 1, []
    for at in range(1200):
        busy = at % 30 < 5
        queue = QueueView(depth=200.0, ages=(1.0,), rate=20.0, service_s=0.5) if busy else QueueView(service_s=0.5)
        decision = decide(Observation(at=float(at), have=have, running=0, queues=(queue,)), history, LIMITS)
        if decision.target != have:
            changes.append(at)
        have, history = decision.target, decision.history
    assert decision.noisy
    assert sum(at > 900 for at in changes) < sum(at < 300 for at in changes)


def test_a_burst_is_many_more_messages_than_slots() -> None:
    assert is_burst(10, 3)
    assert not is_burst(9, 3)
    assert is_burst(4, 0)


def test_a_thousand_queues_are_decided_in_time() -> None:
    queues = tuple(QueueView(name=f"q{n}", depth=5.0, ages=(1.0,), rate=1.0, service_s=0.1) for n in range(1000))
    best = min(_cost(queues) for _ in range(3))
    assert best < 0.05


def _cost(queues: tuple[QueueView, ...]) -> float:
    started = time.thread_time()
    decide(seen(queues=queues), History(), LIMITS)
    return time.thread_time() - started
