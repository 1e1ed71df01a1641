"""Caps that keep a group from growing where more slots would not help: one named bound each.

Every guard answers with a cap on the slots to have; a guard whose signal is missing answers nothing. None of them
asks for fewer slots than run tasks now: the caller holds that floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from opsq.autoscale.decision import Bound, History
from opsq.autoscale.observation import Machine, Observation
from opsq.autoscale.presets import Limits

#: Part of the memory limit that is planned with, and the part from which nothing grows.
MEMORY_PLANNED = 0.8
MEMORY_FULL = 0.9
IO_PRESSURE = 0.4
CPU_FULL = 0.9
#: Of a full CPU at least this part must be ours for growth to be to blame.
MOSTLY_OURS = 0.5
#: Growth that brings less than this much more throughput did not help.
HELPED = 1.05
MANY_FAILED = 0.5
SOME_FAILED = 0.2
ENOUGH_FINISHED = 20
#: Part of a cost cap's budget that only remains for what is urgent: growth stops there.
CAP_RESERVE = 0.2
DAY_H = 24.0
_CPU = "{:.0%} of a task is CPU time: {:g} cores keep {} slots busy"


def guard_caps(seen: Observation, limits: Limits, history: History) -> Iterator[Bound]:
    """Every cap that holds now."""
    if seen.machine is not None:
        yield from _machine_caps(seen.machine, seen.have)
    if limits.connections is not None:
        server = limits.connections
        slots = max(0, server.limit - server.reserve) // max(1, server.per_slot)
        yield Bound("connections", "cap", slots, "the server's connections allow {}", (slots,))
    if history.knee is not None and seen.at < history.knee[0]:
        yield Bound("knee", "cap", history.knee[1], "growing further did not help: the CPU was full")
    if history.oom is not None and seen.at < history.oom[0]:
        yield Bound("oom", "cap", history.oom[1], "a child was killed for want of memory")
    if failing(seen):
        yield Bound("failing", "cap", seen.have, "growing would only fail faster")
    if limits.slot_hours_a_day is not None:
        yield _cost_cap(seen, limits, limits.slot_hours_a_day)


def _machine_caps(machine: Machine, have: int) -> Iterator[Bound]:
    share, cores = machine.cpu_share, machine.cores
    if share is not None and share > 0 and cores is not None:
        slots = math.floor(cores / min(1.0, share) + 1e-9) + 1
        yield Bound("cpu", "cap", slots, _CPU, (share, cores, slots))
    limit, child = machine.memory_limit, machine.child_bytes
    if limit is not None and child is not None and child > 0:
        slots = max(0, math.floor((MEMORY_PLANNED * limit - machine.parent_bytes) / child))
        yield Bound("memory", "cap", slots, "memory allows {} slots of {:.0f} MB", (slots, child / 1e6))
    if limit is not None and machine.memory_used is not None and machine.memory_used >= MEMORY_FULL * limit:
        yield Bound("memory_full", "cap", have, "memory is nearly used up")
    if machine.io_pressure is not None and machine.io_pressure > IO_PRESSURE:
        yield Bound("io", "cap", have, "tasks wait for the disk {:.0%} of the time", (machine.io_pressure,))


def _cost_cap(seen: Observation, limits: Limits, budget: float) -> Bound:
    left = budget - seen.spent
    if left <= 0:
        slots = max(limits.fewest, limits.unit)
        return Bound("cost", "cap", slots, "the cost cap of {:g} slot-hours is used up", (budget,))
    if left <= CAP_RESERVE * budget:
        slots = max(1, math.floor(budget / DAY_H))
        return Bound("cost", "cap", slots, "less than {:.0%} of {:g} slot-hours is left", (CAP_RESERVE, budget))
    return Bound("cost", "cap", limits.most, "{:.1f} of {:g} slot-hours are left", (left, budget))


def failing(seen: Observation) -> bool:
    """Most of what ends fails, or most of what arrives is tried again."""
    if seen.finished < ENOUGH_FINISHED:
        return False
    if seen.failed > MANY_FAILED * seen.finished:
        return True
    arrived = sum(queue.rate or 0.0 for queue in seen.queues)
    again = sum(queue.retry_rate for queue in seen.queues)
    # Retries that succeed now are ordinary work.
    return again > MANY_FAILED * arrived and seen.failed > SOME_FAILED * seen.finished


def found_knee(seen: Observation, limits: Limits, history: History) -> tuple[float, int] | None:
    """(until, slots) when the last growth filled the CPU and brought nothing, else what was known."""
    if history.grown is None or seen.machine is None or seen.machine.cpu_busy is None:
        return history.knee
    at, before, throughput = history.grown
    settled = seen.at - at >= limits.settle_s and seen.starting == 0
    if not settled or seen.have <= before or throughput is None or seen.throughput is None:
        return history.knee
    share, cores = seen.machine.cpu_share, seen.machine.cores
    if share is not None and cores is not None and share * seen.have < MOSTLY_OURS * cores:
        return history.knee  # somebody else fills the CPU
    if seen.machine.cpu_busy > CPU_FULL and seen.throughput < HELPED * throughput:
        return seen.at + limits.knee_s, max(before, limits.fewest, 1)
    return history.knee


def found_oom(seen: Observation, limits: Limits, history: History) -> tuple[float, int, int] | None:
    """(until, half of the slots, kills) after the kernel killed for memory, else what was known."""
    if seen.machine is None:
        return history.oom
    kills = seen.machine.oom_kills
    known = history.oom
    if known is None:
        # The first look at a counter says nothing about now.
        return (seen.at, limits.most, kills)
    if kills <= known[2]:
        return known
    return seen.at + limits.oom_hold_s, max(1, seen.have // 2), kills
