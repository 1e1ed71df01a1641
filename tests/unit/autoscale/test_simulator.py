"""Loads, places and runs: seeded, accounted to the second, and in the proportions that are known from reality."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from opsq.autoscale import plot, recorded, traces
from opsq.autoscale.oracle import oracle
from opsq.autoscale.presets import Limits
from opsq.autoscale.rules import RULES, fixed, rule
from opsq.autoscale.simulator import simulate
from opsq.autoscale.traces import Lane, Trace
from opsq.errors import UsageError
from opsq.events import sketch
from opsq.events.rollup import ARRIVED, Slice, encode_slice

POOL = Limits()
REPLICAS = Limits(fewest=4, most=64, unit=4, startup_s=30.0, tick_s=5.0, slo_s=60.0)


def load(*tasks: tuple[float, float], seconds: float = 100.0, **fields: object) -> Trace:
    lane = Lane(arrivals=[at for at, _ in tasks], service=[need for _, need in tasks])
    return Trace(name="made", seconds=seconds, lanes=(lane,), **fields)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_run() -> None:
    for name in ("burst", "functions", "azure_code"):
        assert traces.build(name, 3) == traces.build(name, 3) != traces.build(name, 4)
    trace = traces.build("burst", 3)
    assert simulate(trace, rule("opsq"), POOL) == simulate(trace, rule("opsq"), POOL)


@pytest.mark.parametrize("name", [name for name in traces.TRACES if name != "day"])
def test_every_trace_is_sorted_and_within_its_time(name: str) -> None:
    trace = traces.build(name)
    for lane in trace.lanes:
        assert lane.arrivals == sorted(lane.arrivals)
        assert len(lane.arrivals) == len(lane.service) > 100
        assert lane.arrivals[0] >= 0
        assert lane.arrivals[-1] < trace.seconds
        assert min(lane.service) >= 0


def test_a_fixed_slot_serves_in_order_and_is_paid_by_the_second() -> None:
    trace = load((1.0, 2.0), (1.5, 2.0), (50.0, 1.0))
    run = simulate(trace, fixed(1), msgspec.structs.replace(POOL, slo_s=1.0))
    assert run.slot_hours == pytest.approx(100 / 3600)
    assert run.late == pytest.approx(1 / 3)  # the second waits from 1.5 to 3
    assert run.used == pytest.approx(5 / 100)


def test_what_never_starts_is_late() -> None:
    run = simulate(load((1.0, 1000.0), (2.0, 1.0), (99.0, 1.0)), fixed(1), POOL)
    assert run.late == pytest.approx(1 / 3)  # the last one's target has not passed yet


def test_a_drained_replica_is_paid_until_its_last_task_has_ended() -> None:
    limits = msgspec.structs.replace(REPLICAS, fewest=0, startup_s=0.0, slo_s=1.0)
    run = oracle(load((10.0, 5.0), (10.0, 2.0)), limits)
    assert run.slot_hours == pytest.approx(4 * 5 / 3600)


def test_more_slots_than_cores_only_make_every_task_slower() -> None:
    tasks = [(0.1 * number, 0.05) for number in range(600)]
    crowded = load(*tasks, cpu_share=1.0, cores=0.4)
    alone = simulate(crowded, fixed(1), POOL)
    many = simulate(crowded, fixed(32), POOL)
    # 0.4 cores do the same work either way; 32 slots are paid for it.
    assert many.used < alone.used / 20
    assert many.late > 0.5


def test_children_that_outgrow_the_memory_are_killed_and_their_tasks_run_again() -> None:
    tasks = [(1.0, 3.0)] * 20
    small = load(*tasks, cores=64.0, child_bytes=100e6, memory_limit=550e6)
    celery = simulate(small, rule("celery"), POOL)
    opsq = simulate(small, rule("opsq"), POOL)
    assert celery.kills > 0
    assert opsq.kills == 0
    assert opsq.most_slots == 4


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("limits", [POOL, REPLICAS], ids=["pool", "replicas"])
def test_every_policy_stays_within_the_limits(name: str, limits: Limits) -> None:
    trace = traces.build("burst")
    trace = msgspec.structs.replace(trace, seconds=700.0, lanes=(_until(trace.lanes[0], 700.0),))
    run = simulate(trace, rule(name), limits)
    assert all(limits.fewest <= size <= limits.most and size % limits.unit == 0 for _, size in run.steps)
    assert run.slot_hours >= limits.fewest * 700 / 3600 * 0.999


def _until(lane: Lane, seconds: float) -> Lane:
    count = sum(1 for at in lane.arrivals if at < seconds)
    return Lane(arrivals=lane.arrivals[:count], service=lane.service[:count])


def test_the_balanced_preset_against_celery_and_the_oracle_on_a_step() -> None:
    trace = traces.build("step")
    opsq, celery, best = simulate(trace, rule("opsq"), POOL), simulate(trace, rule("celery"), POOL), oracle(trace, POOL)
    assert opsq.late <= best.late + 0.001
    assert opsq.slot_hours <= 0.65 * celery.slot_hours
    assert opsq.slot_hours <= 1.4 * best.slot_hours
    assert opsq.actions <= 0.6 * celery.actions


def test_steady_load_is_left_alone() -> None:
    run = simulate(traces.build("steady"), rule("opsq"), POOL)
    assert run.actions <= 60
    assert run.slot_hours <= 7.0


def test_dark_replicas_hold_and_every_change_has_a_reason() -> None:
    trace = traces.build("restart")
    run = simulate(trace, rule("opsq"), REPLICAS, explain=True)
    assert not [at for at, _ in run.steps if 1220 > at >= 1216]
    assert len(run.reasons) == len(run.steps) - 1
    assert all(" → " in text and ":" in text for _, text in run.reasons)


def test_a_file_of_arrivals_is_read_and_a_bad_line_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("arrival_s,service_s\n12.5,0.5\n10,1\n")
    trace = recorded.from_file(path)
    assert (trace.name, trace.lanes[0].arrivals, trace.lanes[0].service) == ("mine", [0.0, 2.5], [1.0, 0.5])
    path.write_text("10,1\n11,nothing\n")
    with pytest.raises(UsageError, match="line 2"):
        recorded.from_file(path)
    path.write_text("10,-1\n")
    with pytest.raises(UsageError, match="line 1"):
        recorded.from_file(path)
    path.write_text("")
    with pytest.raises(UsageError, match="holds no task"):
        recorded.from_file(path)


class Shelf:
    """A history of two queues, ten buckets each."""

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        held = Slice(sketches={recorded.RUN: {sketch.index(0.5): 90, sketch.index(5.0): 10}})
        held.counts[ARRIVED] = 30
        rows = [
            (since + width_s * number, name, encode_slice(held)) for number in range(10) for name in ("q:a", "q:ab")
        ]
        return [row for row in rows if row[1].startswith(prefix)]


def test_history_is_rebuilt_from_counts_and_sketches() -> None:
    trace = recorded.from_history(Shelf(), 10_000.0, 600.0)
    assert [lane.name for lane in trace.lanes] == ["a", "ab"]
    assert trace.tasks == 600
    runs = sorted(trace.lanes[0].service)
    assert runs[0] == pytest.approx(0.5, rel=0.02)
    assert runs[-1] == pytest.approx(5.0, rel=0.02)
    one = recorded.from_history(Shelf(), 10_000.0, 600.0, queue="a")
    assert [lane.name for lane in one.lanes] == ["a"]
    with pytest.raises(UsageError, match="no task of queue 'b'"):
        recorded.from_history(Shelf(), 10_000.0, 600.0, queue="b")


def test_the_plot_is_one_page_that_loads_nothing() -> None:
    dice = random.Random(1)
    trace = load(*[(number / 4, dice.expovariate(1.0)) for number in range(390)])
    runs = [simulate(trace, rule("opsq"), POOL, explain=True), oracle(trace, POOL)]
    page = plot.html(trace, runs)
    assert page.count("<svg") == 1
    assert "opsq" in page
    assert "oracle" in page
    assert "src=" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
