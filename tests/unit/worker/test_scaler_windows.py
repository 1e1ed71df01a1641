"""Sums over the last seconds, the age of what waits, and what the machine tells."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from opsq.core.worker.scaler_machine import MachineWatch
from opsq.core.worker.scaler_windows import ENOUGH, Arrivals, RunTimes, Window


def test_a_window_forgets() -> None:
    window = Window(10, 2)
    for second in range(25):
        window.add(second + 0.5, 1.0, second)
    assert window.sums(24.5) == (10.0, float(sum(range(15, 25))))
    assert window.since(24.5, 3) == 3.0
    assert window.by_second(25.5)[:3] == [0.0, 1.0, 1.0]
    assert window.sums(100.0) == (0.0, 0.0)


def test_rates_of_a_young_worker_are_of_its_life() -> None:
    arrivals = Arrivals(began=100.0)
    for second in range(10):
        arrivals.add(100.0 + second, 4.0, 1.0)
    assert arrivals.rates(110.0) == (4.0, 4.0, 1.0)


@pytest.mark.parametrize(("counts", "expected"), [([2] * 30, 0.0), ([0, 4] * 15, 2.0), ([], 1.0)])
def test_dispersion(counts: Sequence[int], expected: float) -> None:
    arrivals = Arrivals(began=0.0)
    for second, count in enumerate(counts):
        arrivals.add(second, count, 0)
    assert arrivals.dispersion(len(counts)) == pytest.approx(expected, abs=0.1)


def test_the_newest_wait_so_the_oldest_is_as_old_as_their_seconds() -> None:
    arrivals = Arrivals(began=0.0)
    for second in range(20):
        arrivals.add(second, 5.0, 0.0)
    assert arrivals.ages(19.9, 20.0) == (3.0, 2.0, 1.0, 0.0)
    assert arrivals.ages(19.9, 20.0, oldest_s=1.5) == (1.5, 1.5, 1.0, 0.0)
    assert arrivals.ages(19.9, 0.0) == ()
    # What was there before anything was counted is as old as the window is long.
    assert arrivals.ages(19.9, 1000.0)[0] == 60.0


def test_rare_runs_are_read_over_more_time() -> None:
    times = RunTimes()
    times.add(0.0, (1, 2.0, 4.0, 1.0, 1, 2.0))
    assert times.sums(300.0)[:2] == (1.0, 2.0)
    for _ in range(ENOUGH):
        times.add(300.0, (1, 1.0, 1.0, 0.5, 1, 1.0))
    assert times.sums(310.0)[:2] == (ENOUGH, ENOUGH)
    assert times.recent(310.0) == (ENOUGH, ENOUGH)


def test_a_machine_tells_what_it_can() -> None:
    machine = MachineWatch(1 << 40, isolated=True)
    machine.watch_children(0.0, [os.getpid()], 0.0)
    seen = machine.read(0.0, [os.getpid()], None)
    assert seen.cpu_share == 1.0  # nothing is known, so a whole core is assumed
    assert seen.cores is not None
    assert seen.cores >= 1
    assert seen.memory_limit == 1 << 40
    assert (seen.child_bytes or 0) > 1e6
    assert machine.read(0.1, [], 0.25).cpu_share in (0.25, 1.0)  # on a full machine it only rises


def test_without_processes_there_is_no_share_of_cores() -> None:
    seen = MachineWatch(None, isolated=False).read(0.0, [], 0.5)
    assert (seen.cpu_share, seen.cores, seen.child_bytes) == (None, None, None)
