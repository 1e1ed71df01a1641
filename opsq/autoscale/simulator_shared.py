"""Slots that share cores and memory: more of them than cores only make every task slower, and too many get killed.

Processor sharing: with *n* running tasks of CPU share φ on *c* cores, each runs at ``min(1, c / (n·φ))`` of its
speed. When the children outgrow the memory limit, the newest is killed and its task starts again.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from opsq.autoscale.presets import Limits
from opsq.autoscale.simulator_slots import Slots
from opsq.autoscale.traces import Trace


class SharedSlots(Slots):
    """One lane on one machine; a pool, never replicas.

    Time runs in two clocks: seconds, and *progress*, the seconds that a task alone would have had.
    """

    def __init__(self, trace: Trace, limits: Limits, have: int) -> None:
        super().__init__(trace, limits, 0)
        self._now = self._progress = 0.0
        self._idle = have
        # (progress at which it ends, started at, index of the task), of every running task.
        self._running: list[tuple[float, float, int]] = []
        self._ready: list[float] = []
        self._next = 0
        self._again: list[int] = []
        self._draining = 0
        self.busy_seconds = 0.0
        self._slots = have

    @property
    def have(self) -> int:
        """Slots asked for, without those that only end their task."""
        return self._idle + len(self._running) - self._draining + len(self._ready)

    def _speed(self) -> float:
        cores, share = self.trace.cores, self.trace.cpu_share
        load = len(self._running) * share
        return 1.0 if cores is None or load <= cores else cores / load

    def pay(self, now: float) -> None:
        """Account for what there was since the last time, those that end their task included."""
        self.slot_seconds += (self.have + self._draining) * (now - self._paid_until)
        self._paid_until = now

    def look(self, now: float) -> tuple[int, int]:
        """Slots that run a task, and slots that are starting."""
        return len(self._running), len(self._ready)

    @property
    def started(self) -> int:
        """How many tasks have started and not been given back."""
        return self._next - len(self._again)

    def resize(self, target: int, now: float) -> None:
        """Ask for ``target`` slots."""
        self.pay(now)
        more = target - self.have
        while more > 0:
            heappush(self._ready, now + self.limits.startup_s)
            more -= 1
        while more < 0:
            if self._ready:
                self._ready.remove(max(self._ready))
            elif self._idle:
                self._idle -= 1
            else:
                self._draining += 1
            more += 1
        self._kill(now)

    def _kill(self, now: float) -> None:
        limit, child = self.trace.memory_limit, self.trace.child_bytes
        if limit is None or child <= 0:
            return
        while self.trace.parent_bytes + (self.have + self._draining) * child > limit:
            self.kills += 1
            if self._ready:
                self._ready.remove(max(self._ready))
            elif self._idle:
                self._idle -= 1
            else:
                newest = max(self._running, key=lambda one: one[1])
                self._running.remove(newest)
                heapify(self._running)
                self._again.append(newest[2])

    def advance(self, until: float) -> None:
        """Run from event to event: a task arrives, ends, or a slot is ready."""
        arrivals = self.arrivals[0]
        while self._now < until:
            self._fill()
            speed = self._speed()
            ahead = until
            if self._running:
                ahead = min(ahead, self._now + (self._running[0][0] - self._progress) / speed)
            if self._ready:
                ahead = min(ahead, self._ready[0])
            if self._idle and self._next < len(arrivals):
                ahead = min(ahead, max(self._now, arrivals[self._next]))
            self._progress += (ahead - self._now) * speed
            self.busy_seconds += (ahead - self._now) * len(self._running) * speed
            self._now = ahead
            while self._running and self._running[0][0] <= self._progress + 1e-9:
                self._end(heappop(self._running))
            while self._ready and self._ready[0] <= self._now:
                heappop(self._ready)
                self._idle += 1

    def _fill(self) -> None:
        arrivals, waits = self.arrivals[0], self.waits[0]
        while self._idle:
            if self._again:
                index = self._again.pop()
                waits[index] = self._now - arrivals[index]
            elif self._next < len(arrivals) and arrivals[self._next] <= self._now:
                index = self._next
                self._next += 1
                waits.append(self._now - arrivals[index])
            else:
                return
            self._idle -= 1
            heappush(self._running, (self._progress + self.service[0][index], self._now, index))

    def _end(self, task: tuple[float, float, int]) -> None:
        if self._draining:
            self.pay(self._now)
            self._draining -= 1
        else:
            self._idle += 1
        ledger = self.ledgers[0]
        took = min(self._now - task[1], ledger.cut_s)
        second = int(self._now)
        if second < len(ledger.count):
            ledger.count[second] += 1
            ledger.sum[second] += took
            ledger.square[second] += took * took
