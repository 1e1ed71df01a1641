"""Slots that tasks compete for: where a simulated group spends its time and its money.

A slot is paid from the moment it is asked for and takes work ``startup_s`` later. Slots come in units (the slots of
one replica): a unit that goes takes nothing new and is paid, all of it, until its last task has ended. Between two
decisions ``advance`` runs from event to event.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heapify, heappush, heapreplace

from opsq.autoscale.presets import Limits
from opsq.autoscale.traces import Trace


class Ledger:
    """Run times of tasks that ended well, by second: count, sum and squares, each up to the patience."""

    def __init__(self, seconds: float, cut_s: float) -> None:
        self.cut_s = cut_s
        size = int(seconds + cut_s) + 2
        self.count, self.sum, self.square = [0] * size, [0.0] * size, [0.0] * size
        # Running totals up to each second that is over.
        self.totals: list[tuple[int, float, float]] = [(0, 0.0, 0.0)]
        # (since when it counts as long, until when), of tasks that run longer than ``cut_s``.
        self.long: list[tuple[float, float]] = []

    def upto(self, second: int) -> list[tuple[int, float, float]]:
        """Sums of all whole seconds before each, the last of them ``second``; asked for seconds that do not fall."""
        totals = self.totals
        at = len(totals) - 1
        while at < second:
            count, some, square = totals[at]
            totals.append((count + self.count[at], some + self.sum[at], square + self.square[at]))
            at += 1
        return totals

    def occupied(self, now: float) -> int:
        """Slots that long tasks hold now."""
        if not self.long:
            return 0
        self.long = [one for one in self.long if one[1] > now]
        return sum(1 for one in self.long if one[0] <= now)


class Slots:
    """Slots on their own cores; queues are served in the order of their priority.

    ``waits`` holds per lane the seconds from arrival to start of each task so far.
    """

    def __init__(self, trace: Trace, limits: Limits, have: int) -> None:
        self.trace, self.limits = trace, limits
        self.arrivals = [lane.arrivals for lane in trace.lanes]
        self.service = [lane.service for lane in trace.lanes]
        self.failed = [lane.failed for lane in trace.lanes]
        self.waits: list[list[float]] = [[] for _ in trace.lanes]
        patience = limits.preset.patience
        self.ledgers = [Ledger(trace.seconds, patience * limits.target(lane.name).slo_s) for lane in trace.lanes]
        self.slot_seconds = 0.0
        self.kills = 0
        self._paid_until = 0.0
        self._units = 0
        # (free from, unit) of every slot; a slot that is starting is free from then on.
        self.heap: list[tuple[float, int]] = []
        self.starting: list[tuple[float, int]] = []
        self._add(have // max(1, limits.unit), 0.0)

    @property
    def have(self) -> int:
        """Slots asked for."""
        return len(self.heap)

    def _add(self, units: int, ready: float) -> None:
        for _ in range(units):
            self._units += 1
            for _ in range(self.limits.unit):
                heappush(self.heap, (ready, self._units))
            self.starting.append((ready, self._units))

    def pay(self, now: float) -> None:
        """Account for what there was since the last time."""
        self.slot_seconds += len(self.heap) * (now - self._paid_until)
        self._paid_until = now

    def look(self, now: float) -> tuple[int, int]:
        """Slots that run a task, and slots that are starting."""
        busy = len([1 for free, _ in self.heap if free > now])
        if not self.starting:
            return busy, 0
        self.starting = [one for one in self.starting if one[0] > now]
        starting = len(self.starting) * self.limits.unit
        return busy - starting, starting

    def resize(self, target: int, now: float) -> None:
        """Ask for ``target`` slots: those that start are given up first, then idle ones, then the least busy."""
        self.pay(now)
        unit = self.limits.unit
        more = (target - len(self.heap)) // unit
        if more > 0:
            self._add(more, now + self.limits.startup_s)
        elif more < 0:
            self.starting = [one for one in self.starting if one[0] > now]
            self._remove(-more, now)

    def _remove(self, units: int, now: float) -> None:
        given_up = {unit for _, unit in self.starting[max(0, len(self.starting) - units) :]}
        gone = set(given_up)
        self.starting = self.starting[: max(0, len(self.starting) - units)]
        if len(gone) < units:
            busy: dict[int, int] = {}
            for free, unit in self.heap:
                if unit not in gone:
                    busy[unit] = busy.get(unit, 0) + (free > now)
            known = {unit for _, unit in self.starting}
            order = sorted((count, unit) for unit, count in busy.items() if unit not in known)
            gone.update(unit for _, unit in order[: units - len(gone)])
        last: dict[int, float] = {}
        for free, unit in self.heap:
            if unit in gone:
                last[unit] = max(last.get(unit, now), free)
        self.heap = [one for one in self.heap if one[1] not in gone]
        heapify(self.heap)
        # Busy ones are paid until they have ended; one that was still starting has no task to end.
        self.slot_seconds += sum(self.limits.unit * (last[unit] - now) for unit in gone - given_up)

    def advance(self, until: float) -> None:
        """Start every task that starts before ``until``."""
        if len(self.arrivals) == 1 and not self.failed[0]:
            self._advance_one(until)
        else:
            self._advance_ranked(until)

    def _advance_one(self, until: float) -> None:
        heap = self.heap
        if not heap:
            return
        arrivals, service, waits, ledger = self.arrivals[0], self.service[0], self.waits[0], self.ledgers[0]
        cut, counts, sums, squares = ledger.cut_s, ledger.count, ledger.sum, ledger.square
        index, count = len(waits), len(arrivals)
        while index < count:
            at = arrivals[index]
            if at >= until:
                break
            start, unit = heap[0]
            if start <= at:
                start = at
                waits.append(0.0)
            elif start < until:
                waits.append(start - at)
            else:
                break
            need = service[index]
            index += 1
            heapreplace(heap, (start + need, unit))
            if need > cut:
                ledger.long.append((start + cut, start + need))
                need = cut
            second = int(start + need)
            counts[second] += 1
            sums[second] += need
            squares[second] += need * need

    def _advance_ranked(self, until: float) -> None:
        while self.heap:
            free, unit = self.heap[0]
            heads = [
                (lane[len(waits)], rank)
                for rank, (lane, waits) in enumerate(zip(self.arrivals, self.waits, strict=True))
                if len(waits) < len(lane)
            ]
            if not heads:
                return
            start = max(free, min(heads)[0])
            if start >= until:
                return
            rank = min(rank for at, rank in heads if at <= start)
            self._start(rank, start, unit)

    def _start(self, rank: int, start: float, unit: int) -> None:
        waits, ledger = self.waits[rank], self.ledgers[rank]
        index = len(waits)
        need = self.service[rank][index]
        heapreplace(self.heap, (start + need, unit))
        waits.append(start - self.arrivals[rank][index])
        if index in self.failed[rank]:
            return  # how fast a task fails says nothing about how long the work takes
        if need > ledger.cut_s:
            ledger.long.append((start + ledger.cut_s, start + need))
        short = min(need, ledger.cut_s)
        second = int(start + short)
        ledger.count[second] += 1
        ledger.sum[second] += short
        ledger.square[second] += short * short

    def arrived(self, rank: int, now: float) -> int:
        """How many tasks of a lane have come up to ``now``."""
        return bisect_right(self.arrivals[rank], now, len(self.waits[rank]))
