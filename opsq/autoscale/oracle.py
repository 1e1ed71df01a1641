"""The size that knows the future, under the same limits: what no policy can beat by much.

Tasks in order. A task takes a slot that is free before its deadline, in a unit that is always there if it can, else
the one that became free last; else a unit opens just in time, no earlier than a start-up after the beginning; at
the upper bound it takes the slot that is free first. A unit that is idle for less than a start-up stays, and is paid.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from heapq import merge

from opsq.autoscale.guards import MEMORY_PLANNED
from opsq.autoscale.presets import Limits
from opsq.autoscale.simulator import Run, at_level, late_tasks, quantile
from opsq.autoscale.traces import Trace

#: Parts of the wait target that plans are made with: waiting longer packs tighter, but is late sooner at a peak.
PARTS = (0.5, 0.8, 1.0)


def bounds_of(trace: Trace, limits: Limits) -> int:
    """Most slots that limits, cores and memory allow."""
    most = limits.most
    if limits.unit > 1:
        return most
    if trace.cpu_share > 0 and trace.cores is not None:
        most = min(most, max(1, math.floor(trace.cores / trace.cpu_share)))
    if trace.memory_limit is not None and trace.child_bytes > 0:
        most = min(most, int((MEMORY_PLANNED * trace.memory_limit - trace.parent_bytes) / trace.child_bytes))
    return most


class _Oracle:
    def __init__(self, trace: Trace, limits: Limits) -> None:
        self.limits, self.unit, self.startup_s = limits, limits.unit, limits.startup_s
        self.seconds = trace.seconds
        self.units_most = bounds_of(trace, limits) // limits.unit
        self.always = max(0, -(-limits.fewest // limits.unit))
        # (free from, unit), sorted; of units that are always there, and of the others.
        self.kept = [(0.0, unit) for unit in range(self.always) for _ in range(self.unit)]
        self.other: list[tuple[float, int]] = []
        # Per other unit: paid from, last busy.
        self.spans: dict[int, tuple[float, float]] = {}
        self.count = self.always
        self.paid = self.always * self.unit * trace.seconds
        self.changes = self.opened = 0

    def place(self, at: float, need: float, slo_s: float) -> float:
        """Start one task; return when."""
        deadline = at + slo_s
        place = bisect_right(self.kept, (deadline, math.inf)) - 1
        if place >= 0:
            return self._take(self.kept, place, at, need)
        self._retire(at)
        place = bisect_right(self.other, (deadline, math.inf)) - 1
        if place >= 0:
            if self.unit > 1:
                # The oldest unit first, so that the others run empty.
                place = min(range(place + 1), key=lambda spot: (self.other[spot][1], -spot))
            return self._take(self.other, place, at, need)
        if self.count < self.units_most:
            self._open(max(at, self.startup_s))
            return self._take(self.other, bisect_right(self.other, (max(at, self.startup_s), math.inf)) - 1, at, need)
        lists = [one for one in (self.kept, self.other) if one]
        return self._take(min(lists, key=lambda one: one[0]), 0, at, need)

    def _take(self, slots: list[tuple[float, int]], place: int, at: float, need: float) -> float:
        free, unit = slots.pop(place)
        start = max(at, free)
        insort(slots, (start + need, unit))
        if unit in self.spans:
            since, busy = self.spans[unit]
            self.spans[unit] = (since, max(busy, start + need))
        return start

    def _open(self, ready: float) -> None:
        self.changes += 1
        self.opened += 1
        unit = self.always + self.opened
        self.count += 1
        self.spans[unit] = (ready - self.startup_s, ready)
        for _ in range(self.unit):
            insort(self.other, (ready, unit))

    def _retire(self, now: float) -> None:
        """Close units that were idle for a start-up: keeping them would have cost as much as a new one."""
        idle = [unit for unit, (_, busy) in self.spans.items() if now - busy > self.startup_s]
        for unit in idle:
            self._close(unit)
        if idle:
            gone = frozenset(idle)
            self.other = [one for one in self.other if one[1] not in gone]

    def close(self) -> None:
        """Close what is left at the end."""
        for unit in tuple(self.spans):
            self._close(unit)

    def _close(self, unit: int) -> None:
        since, busy = self.spans.pop(unit)
        self.paid += self.unit * (min(busy, self.seconds) - min(since, self.seconds))
        self.count -= 1
        self.changes += 1


def oracle(trace: Trace, limits: Limits) -> Run:
    """Run ``trace`` with the future known, within ``limits``; of several plans the cheapest of those least late."""
    limits = at_level(trace, limits)
    plans = [_plan(trace, limits, part) for part in PARTS]
    least = min(plan.late for plan in plans)
    return min((plan for plan in plans if plan.late <= least + 1e-9), key=lambda plan: plan.slot_hours)


def _plan(trace: Trace, limits: Limits, part: float) -> Run:
    """Start everything within ``part`` of its wait target, if that can be."""
    course = _Oracle(trace, limits)
    waits: list[list[float]] = [[] for _ in trace.lanes]
    slos = [limits.target(lane.name).slo_s for lane in trace.lanes]
    streams = [
        [(at, rank, need) for at, need in zip(lane.arrivals, lane.service, strict=True)]
        for rank, lane in enumerate(trace.lanes)
    ]
    for at, rank, need in merge(*streams):
        start = course.place(at, need, part * slos[rank])
        if start < trace.seconds:
            waits[rank].append(start - at)
    course.close()
    late = sum(
        late_tasks(lane.arrivals, waited, slo_s, trace.seconds)
        for lane, waited, slo_s in zip(trace.lanes, waits, slos, strict=True)
    )
    return Run(
        trace=trace.name, policy="oracle", tasks=trace.tasks, slot_hours=course.paid / 3600,
        late=late / max(1, trace.tasks), p95_wait_s=max(quantile(waited, 0.95) for waited in waits),
        actions=course.changes, used=trace.work_s / course.paid if course.paid else 0.0,
    )  # fmt: skip
