"""What must hold for every observation: bounds, monotony, scale, silence on bad numbers, rest, hold, no kill."""

from __future__ import annotations

import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from opsq.autoscale.decision import Decision, History
from opsq.autoscale.observation import Gauge, Machine, Observation, QueueView
from opsq.autoscale.policy import decide
from opsq.autoscale.presets import PRESETS, Connections, Limits, QueueTarget, stretched

SIZES = st.integers(0, 64)
SERVICE = st.floats(0.01, 20)
many = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def limits_of(draw: st.DrawFn) -> Limits:
    unit = draw(st.sampled_from([1, 1, 4]))
    fewest = draw(st.integers(0, 4)) * unit
    return Limits(
        fewest=fewest, most=fewest + unit * draw(st.integers(1, 16)), unit=unit,
        startup_s=draw(st.sampled_from([0.1, 1.0, 30.0])), slo_s=draw(st.sampled_from([2.0, 5.0, 60.0])),
        tick_s=draw(st.sampled_from([1.0, 5.0])), preset=draw(st.sampled_from(list(PRESETS.values()))),
        targets={"urgent": QueueTarget(slo_s=1.0)} if draw(st.booleans()) else {},
    )  # fmt: skip


@st.composite
def queues_of(draw: st.DrawFn, name: str) -> QueueView:
    depth = draw(st.integers(0, 2000))
    oldest = draw(st.floats(0, 100))
    return QueueView(
        name=name, depth=float(depth), ages=(oldest, oldest / 2) if depth and draw(st.booleans()) else (),
        rate=draw(st.floats(0, 200)), rate_now=draw(st.none() | st.floats(0, 200)),
        dispersion=draw(st.floats(0, 30)), service_s=draw(st.none() | SERVICE), service_cv2=draw(st.floats(0, 40)),
        occupied=float(draw(st.integers(0, 5))),
    )  # fmt: skip


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    have = draw(SIZES)
    starting = draw(st.integers(0, have))
    return Observation(
        at=draw(st.floats(0, 1e6)), have=have, starting=starting, running=draw(st.integers(0, have - starting)),
        queues=(draw(queues_of("celery")), *([draw(queues_of("urgent"))] if draw(st.booleans()) else ())),
        finished=draw(st.integers(0, 30)), failed=draw(st.integers(0, 10)),
        machine=draw(st.none() | st.just(Machine(cpu_share=0.5, cores=4.0, memory_limit=4e9, child_bytes=1e8))),
    )  # fmt: skip


def first(seen: Observation, limits: Limits) -> Decision:
    return decide(seen, History(), limits)


def with_queue(seen: Observation, **changes: object) -> Observation:
    queue = msgspec.structs.replace(seen.queues[0], **changes)
    return msgspec.structs.replace(seen, queues=(queue, *seen.queues[1:]))


@many
@given(observations(), limits_of())
def test_is_within_bounds_in_whole_units_and_says_why(seen: Observation, limits: Limits) -> None:
    decision = first(seen, limits)
    assert limits.fewest <= decision.target <= limits.most
    assert decision.target % limits.unit == 0
    assert decision.reasons
    assert decision.text
    assert decision.winner in {bound.name for bound in decision.bounds}


@many
@given(observations(), limits_of(), st.integers(1, 500), st.floats(0.1, 50), st.floats(1.01, 5))
def test_more_of_anything_never_wants_less(
    seen: Observation, limits: Limits, tasks: int, seconds: float, times: float
) -> None:
    queue = seen.queues[0]
    assert queue.depth is not None
    assert queue.rate is not None
    # The age of work is compared where it is known; an age that is not known is estimated from depth and rate.
    ages = queue.ages or ((1.0,) if queue.depth else (0.0,))
    seen = with_queue(seen, ages=ages, service_s=queue.service_s or 1.0)
    want = first(seen, limits).want
    older = tuple(age + seconds for age in ages)
    service = seen.queues[0].service_s
    assert service is not None
    assert first(with_queue(seen, depth=queue.depth + tasks), limits).want >= want
    assert first(with_queue(seen, ages=older), limits).want >= want
    assert first(with_queue(seen, rate=queue.rate * times), limits).want >= want
    assert first(with_queue(seen, service_s=service * times), limits).want >= want


@many
@given(observations(), limits_of(), st.floats(0.01, 1), st.floats(1.0, 3.0))
def test_a_tighter_guard_never_wants_more(seen: Observation, limits: Limits, share: float, times: float) -> None:
    machine = Machine(cpu_share=share, cores=4.0, memory_limit=4e9, memory_used=1e9, child_bytes=1e8, io_pressure=0.1)
    want = first(msgspec.structs.replace(seen, machine=machine), limits).want
    for tighter in (
        {"cpu_share": min(1.0, share * times)}, {"child_bytes": 1e8 * times}, {"memory_limit": 4e9 / times},
        {"memory_used": 3.9e9}, {"io_pressure": 0.9}, {"cores": 4.0 / times},
    ):  # fmt: skip
        stricter = msgspec.structs.replace(machine, **tighter)
        assert first(msgspec.structs.replace(seen, machine=stricter), limits).want <= want
    few = msgspec.structs.replace(limits, connections=Connections(limit=10, reserve=2))
    fewer = msgspec.structs.replace(limits, connections=Connections(limit=8, reserve=2))
    assert first(seen, fewer).want <= first(seen, few).want <= first(seen, limits).want


@many
@given(observations(), limits_of(), st.sampled_from([0.5, 2.0, 8.0]))
def test_a_slower_world_is_decided_alike(seen: Observation, limits: Limits, factor: float) -> None:
    queues = tuple(
        msgspec.structs.replace(
            queue, ages=tuple(age * factor for age in queue.ages), rate=(queue.rate or 0.0) / factor,
            rate_now=None if queue.rate_now is None else queue.rate_now / factor,
            service_s=None if queue.service_s is None else queue.service_s * factor,
        )
        for queue in seen.queues
    )  # fmt: skip
    slower = msgspec.structs.replace(seen, at=seen.at * factor, queues=queues)
    assert first(slower, stretched(limits, factor)).target == first(seen, limits).target


@many
@given(
    observations(), limits_of(), st.sampled_from(["depth", "rate", "service_s", "occupied", "dispersion"]),
    st.sampled_from([math.nan, math.inf, -math.inf, -1.0]),
)  # fmt: skip
def test_a_bad_number_holds_and_says_so(seen: Observation, limits: Limits, field: str, value: float) -> None:
    have = limits.fewest
    decision = first(with_queue(msgspec.structs.replace(seen, have=have, starting=0), **{field: value}), limits)
    assert decision.target == have
    assert decision.mode == "blind"
    assert "held" in decision.text


@many
@given(observations(), limits_of(), st.sampled_from(["depth", "rate"]))
def test_a_missing_number_holds(seen: Observation, limits: Limits, field: str) -> None:
    seen = msgspec.structs.replace(seen, have=limits.most, starting=0)
    assert first(with_queue(seen, **{field: None}), limits).target == limits.most


@many
@given(observations(), limits_of())
def test_a_constant_input_comes_to_rest(seen: Observation, limits: Limits) -> None:
    history, changes, have = History(), 0, min(max(seen.have, limits.fewest), limits.most) // limits.unit * limits.unit
    busy = min(seen.running, limits.fewest)
    at = seen.at
    for _ in range(200):
        now = msgspec.structs.replace(seen, at=at, have=have, starting=0, running=busy)
        decision = decide(now, history, limits)
        changes += decision.target != have
        have, history = decision.target, decision.history
        at += limits.tick_s * 5
    assert changes <= 3
    assert have == decision.target


@many
@given(st.lists(observations(), min_size=2, max_size=30), limits_of())
def test_no_shrink_follows_a_growth_within_the_hold(course: list[Observation], limits: Limits) -> None:
    history, have, grown_at = History(), limits.fewest, -math.inf
    hold_s = limits.preset.hold_s if limits.unit == 1 else limits.preset.replica_hold_s
    for number, seen in enumerate(course):
        at = number * limits.tick_s
        now = msgspec.structs.replace(seen, at=at, have=have, starting=0, running=min(seen.running, have))
        decision = decide(now, history, limits)
        if decision.target > have:
            grown_at = at
        if decision.target < have:
            assert at - grown_at >= hold_s - limits.tick_s - 1e-9
            assert decision.target >= now.running
        have, history = decision.target, decision.history


@many
@given(observations(), limits_of(), st.floats(0, 1000), st.floats(1, 100))
def test_the_own_measure_is_followed(seen: Observation, limits: Limits, value: float, per_slot: float) -> None:
    gauge = Gauge(value=value, per_slot=per_slot)
    with_it = msgspec.structs.replace(seen, gauge=gauge, machine=None, finished=0)
    assert first(with_it, limits).want >= min(math.floor(value / per_slot), limits.most) // limits.unit * limits.unit
    stale = msgspec.structs.replace(with_it, gauge=Gauge(value=value, per_slot=per_slot, age_s=1e9), have=limits.fewest)
    assert first(stale, limits).target == limits.fewest
