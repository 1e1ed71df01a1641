"""Run a policy against a load: from event to event, the same for the same seed, a day in a second or two.

The policy sees what it would see in reality: rates of windows that have passed, run times of tasks that have ended,
depth and ages as its source shows them, and nothing while that source is missing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec

from opsq.autoscale.arrivals import PLACES
from opsq.autoscale.decision import Decision, History
from opsq.autoscale.observation import Due, Machine, Observation, QueueView
from opsq.autoscale.policy import is_burst
from opsq.autoscale.presets import Limits, QueueTarget, preset
from opsq.autoscale.rules import Rule
from opsq.autoscale.simulator_shared import SharedSlots
from opsq.autoscale.simulator_slots import Slots
from opsq.autoscale.traces import Trace

LONG_S = 60
SHORT_S = 15
#: Run times are read over the long window, or over so much more when too few tasks ended in it.
RARE_S = 600
ENOUGH = 50
#: Tasks that tell whether most fail.
LAST = 20
CHECK_S = 0.1
BURST_CHECK_S = 0.1
#: Values looked at to find where a quantile lies.
SAMPLE = 1000
#: A schedule entry's tasks are those that come within this time of it.
BROUGHT_S = 2.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy did with a load. late: share of tasks that started after their wait target, or never.

    p95_wait_s: per lane the worst. steps: (time, slots) of each change. used: part of the paid time that was work.
    """

    trace: str
    policy: str
    tasks: int
    slot_hours: float
    late: float
    p95_wait_s: float
    actions: int
    used: float
    kills: int = 0
    most_slots: int = 0
    steps: tuple[tuple[float, int], ...] = ()
    reasons: tuple[tuple[float, str], ...] = ()


def at_level(trace: Trace, limits: Limits) -> Limits:
    """``limits`` with the wait target of each lane of ``trace``: what the lane states, else the limits' own."""
    pool = limits.unit == 1
    targets = dict(limits.targets)
    for lane in trace.lanes:
        slo_s = lane.slo_s if pool else lane.replica_slo_s
        targets[lane.name] = limits.target(lane.name) if slo_s is None else QueueTarget(slo_s=slo_s)
    return msgspec.structs.replace(limits, targets=targets)


def simulate(trace: Trace, rule: Rule, limits: Limits, *, explain: bool = False) -> Run:
    """Run ``rule`` against ``trace`` within ``limits``. explain: keep the reason of each change."""
    limits = at_level(trace, limits)
    if rule.preset != limits.preset.name:
        limits = msgspec.structs.replace(limits, preset=preset(rule.preset))
    first = trace.lanes[0].service[:200]
    if rule.name == "aws" and first:
        limits = msgspec.structs.replace(limits, prior_service_s=sum(first) / len(first))
    return _Course(trace, rule, limits, explain).run()


class _Course:
    def __init__(self, trace: Trace, rule: Rule, limits: Limits, explain: bool) -> None:
        self.trace, self.rule, self.limits, self.explain = trace, rule, limits, explain
        shared = trace.cores is not None and limits.unit == 1
        lowest = max(limits.fewest, 0)
        self.slots = SharedSlots(trace, limits, lowest) if shared else Slots(trace, limits, lowest)
        self.shared = self.slots if isinstance(self.slots, SharedSlots) else None
        self.history = History()
        self.steps: list[tuple[float, int]] = [(0.0, lowest)]
        self.reasons: list[tuple[float, str]] = []
        self.actions = 0
        self.lanes = [_LaneView(trace, rank, self.slots, limits) for rank in range(len(trace.lanes))]
        self.failing = [lane for lane in self.lanes if lane.failed]
        self.dim = trace.dark is not None or trace.hidden is not None

    def run(self) -> Run:
        rule, slots, seconds = self.rule, self.slots, self.trace.seconds
        tick = rule.tick_s or self.limits.tick_s
        step = CHECK_S if rule.on_arrival else min(tick, seconds)
        number, known, asked = 0, 0, 0.0
        bursts = rule.on_burst and self.limits.unit == 1
        if math.isinf(tick):
            self._apply(self._decide(0.0), 0.0)
        while (now := (number + 1) * step) < seconds:
            number += 1
            if bursts and is_burst(self._waiting(now), slots.have):
                self._watch(now - step, now)
            slots.advance(now)
            if rule.on_arrival:
                arrived = sum(slots.arrived(rank, now) for rank in range(len(self.lanes)))
                if arrived == known and now - asked < tick:
                    continue
                known, asked = arrived, now
            decision = self._decide(now)
            if decision.target != decision.have:
                self._apply(decision, now)
            else:
                self.history = decision.history
        slots.advance(seconds)
        slots.pay(seconds)
        return self._report()

    def _watch(self, since: float, until: float) -> None:
        """Between two ticks, decide as soon as the burst has come that will be there at the next."""
        if is_burst(self._waiting(since), self.slots.have):
            return  # it was there at the last tick
        at, slots = since, self.slots
        while (at := at + BURST_CHECK_S) < until - 1e-9:
            if self.shared is None and not is_burst(self._waiting(at), slots.have):
                continue  # there is none even if none of them started
            slots.advance(at)
            if is_burst(self._waiting(at), slots.have):
                self._apply(self._decide(at), at)
                return

    def _waiting(self, at: float) -> int:
        lanes = self.lanes
        return lanes[0].waiting(at) if len(lanes) == 1 else sum([lane.waiting(at) for lane in lanes])

    def _apply(self, decision: Decision, now: float) -> None:
        self.history = decision.history
        before = self.slots.have
        self.slots.resize(decision.target, now)
        if decision.target != before:
            self.actions += now > 0
            self.steps.append((now, decision.target))
            if self.explain:
                self.reasons.append((now, decision.text))

    def _decide(self, now: float) -> Decision:
        return self.rule.decide(self._see(now), self.history, self.limits)

    def _see(self, now: float) -> Observation:
        slots, lanes = self.slots, self.lanes
        running, starting = slots.look(now)
        age_s, ages = self._sight(now) if self.dim else (0.0, True)
        views = (lanes[0].view(now, ages),) if len(lanes) == 1 else tuple([lane.view(now, ages) for lane in lanes])
        finished = failed = 0
        for lane in self.failing:
            some, bad = lane.ended()
            finished, failed = finished + some, failed + bad
        return Observation(
            at=now, have=slots.have, starting=starting, running=running, queues=views, age_s=age_s,
            local=views if self.limits.unit == 1 else None, machine=self._machine() if self.shared else None,
            due=self._due(now) if self.trace.schedule else (), finished=finished, failed=failed,
        )  # fmt: skip

    def _sight(self, now: float) -> tuple[float, bool]:
        """How old the queue signals are, and whether they tell how long messages have waited."""
        dark, hidden, reads = self.trace.dark, self.trace.hidden, self.rule.reads
        age_s, ages = 0.0, True
        if reads != "local" and dark is not None and dark[0] <= now < dark[1]:
            age_s = now - dark[0]
        if hidden is not None and hidden[0] <= now < hidden[1]:
            ages = reads == "local"
            age_s = now - hidden[0] if reads == "broker" else age_s
        return age_s, ages

    def _machine(self) -> Machine:
        trace, shared = self.trace, self.shared
        assert shared is not None
        used = trace.parent_bytes + shared.have * trace.child_bytes
        return Machine(
            cpu_share=trace.cpu_share, cores=trace.cores, cpu_busy=None, parent_bytes=trace.parent_bytes,
            child_bytes=trace.child_bytes or None, memory_limit=trace.memory_limit, memory_used=used,
            oom_kills=shared.kills,
        )  # fmt: skip

    def _due(self, now: float) -> tuple[Due, ...]:
        """The next time the schedule sends, with the number of tasks that the last time brought."""
        place = bisect_right(self.trace.schedule, now)
        if place >= len(self.trace.schedule):
            return ()
        tasks = None
        if place:
            last = self.trace.schedule[place - 1]
            if now < last + BROUGHT_S:
                return ()
            arrivals = self.trace.lanes[0].arrivals
            tasks = float(bisect_right(arrivals, last + BROUGHT_S) - bisect_right(arrivals, last))
        return (Due(name="schedule", in_s=self.trace.schedule[place] - now, tasks=tasks),)

    def _report(self) -> Run:
        late, tasks, worst = 0, self.trace.tasks, 0.0
        for lane, waits in zip(self.trace.lanes, self.slots.waits, strict=True):
            slo_s = self.limits.target(lane.name).slo_s
            late += late_tasks(lane.arrivals, waits, slo_s, self.trace.seconds)
            worst = max(worst, quantile(waits, 0.95))
        if self.shared is not None:
            work = self.shared.busy_seconds
        else:
            work = sum(
                sum(lane.service[: len(waits)]) for lane, waits in zip(self.trace.lanes, self.slots.waits, strict=True)
            )
        return Run(
            trace=self.trace.name, policy=self.rule.name, tasks=tasks, slot_hours=self.slots.slot_seconds / 3600,
            late=late / tasks if tasks else 0.0, p95_wait_s=worst, actions=self.actions,
            used=work / self.slots.slot_seconds if self.slots.slot_seconds else 0.0, kills=self.slots.kills,
            most_slots=max(size for _, size in self.steps), steps=tuple(self.steps), reasons=tuple(self.reasons),
        )  # fmt: skip


def peak_load(trace: Trace, window_s: float = 60.0) -> float:
    """Slots that the busiest window's work keeps busy."""
    work = [0.0] * (int(trace.seconds / window_s) + 1)
    for lane in trace.lanes:
        for at, need in zip(lane.arrivals, lane.service, strict=True):
            work[int(at / window_s)] += need
    return max(work) / window_s


def late_tasks(arrivals: Sequence[float], waits: Sequence[float], slo_s: float, seconds: float) -> int:
    """Count those that waited longer than ``slo_s``; one that never started is late when its target has passed."""
    unserved = sum(1 for at in arrivals[len(waits) :] if seconds - at > slo_s)
    return unserved + len([1 for wait in waits if wait > slo_s])


def quantile(values: Sequence[float], part: float) -> float:
    """The value, none of them negative, below which ``part`` of ``values`` lie; 0 for none."""
    if not values:
        return 0.0
    above = len(values) - min(len(values) - 1, int(part * len(values)))
    # A sample tells which are high enough to be worth sorting.
    sample = sorted(values[:: max(1, len(values) // SAMPLE)])
    least = sample[int(0.9 * part * len(sample))]
    ordered = sorted([value for value in values if value > least])
    return ordered[-above] if above <= len(ordered) else sorted(values)[-above]


class _LaneView:
    """One lane as a policy may see it."""

    def __init__(self, trace: Trace, rank: int, slots: Slots, limits: Limits) -> None:
        lane = trace.lanes[rank]
        self.name, self.rank, self.slots = lane.name, rank, slots
        self.arrivals, self.waits, self.ledger = lane.arrivals, slots.waits[rank], slots.ledgers[rank]
        self.shared = slots if isinstance(slots, SharedSlots) else None
        self.failed = sorted(lane.failed)
        self.retried = sorted(lane.retried)
        seconds = [float(second) for second in range(int(trace.seconds) + 3)]
        none = [0] * LONG_S
        #: How many have come up to each whole second, from a minute before the first; and the squares of how many
        #: came within each second before it.
        self._upto = none + [bisect_right(lane.arrivals, second) for second in seconds]
        before = [0] + [
            bisect_left(lane.arrivals, second, *counts)
            for second, counts in zip(seconds[1:], pairwise(self._upto[LONG_S:]), strict=True)
        ]
        squares = [(more - some) ** 2 for some, more in pairwise(before)]
        self._squares = none + list(accumulate(squares, initial=0))

    def waiting(self, at: float) -> int:
        """How many would wait at ``at`` if none of those that wait now had started."""
        second = int(at)
        arrived = self._upto[second + LONG_S] if second == at else bisect_right(self.arrivals, at)
        return arrived - (len(self.waits) if self.shared is None else self.shared.started)

    def view(self, now: float, ages: bool) -> QueueView:
        started = len(self.waits) if self.shared is None else self.shared.started
        second = int(now)
        if second == now:
            counts = self._upto
            arrived, before, lately = counts[second + LONG_S], counts[second], counts[second + LONG_S - SHORT_S]
        else:
            arrived, before, lately = [bisect_right(self.arrivals, now - ago) for ago in (0, LONG_S, SHORT_S)]
        depth, long, short = arrived - started, arrived - before, arrived - lately
        window = LONG_S if now >= LONG_S else now or 1.0
        totals = self.ledger.upto(second)
        service, variation = self._service(totals)
        recent, recently = self._recent(totals)
        again = 0.0
        if self.retried:
            place = bisect_right(self.retried, arrived)
            again = (place - bisect_right(self.retried, arrived - long)) / window
        return QueueView(
            name=self.name, depth=float(depth), ages=self._ages(now, started, depth) if depth and ages else (),
            rate=long / window, rate_now=short / (window if window < SHORT_S else SHORT_S), retry_rate=again,
            dispersion=self._dispersion(second, long, window), service_s=service, service_cv2=variation,
            service_now_s=recent, service_now_count=recently,
            occupied=float(self.ledger.occupied(now)) if self.ledger.long else 0.0,
        )  # fmt: skip

    def _ages(self, now: float, started: int, depth: int) -> tuple[float, ...]:
        places, arrivals = min(PLACES, depth), self.arrivals
        return tuple([now - arrivals[started + depth * place // places] for place in range(places)])

    def _dispersion(self, second: int, count: int, window: float) -> float:
        if count == 0 or window < 2:
            return 1.0
        mean, squares = count / window, self._squares
        variance = (squares[second + LONG_S] - squares[second]) / window - mean * mean
        return variance / mean if variance > 0 else 0.0

    def _service(self, totals: Sequence[tuple[int, float, float]]) -> tuple[float | None, float]:
        last, second = totals[-1], len(totals) - 1
        for window in (LONG_S, RARE_S):
            before = totals[second - window if second > window else 0]
            count = last[0] - before[0]
            if count >= ENOUGH:
                break
        if not count:
            return None, 1.0
        mean = (last[1] - before[1]) / count
        if count < 2 or mean <= 0:
            return mean, 1.0
        variance = (last[2] - before[2]) / count - mean * mean
        return mean, variance / (mean * mean) if variance > 0 else 0.0

    def _recent(self, totals: Sequence[tuple[int, float, float]]) -> tuple[float | None, int]:
        last, before = totals[-1], totals[-1 - SHORT_S if len(totals) > SHORT_S else 0]
        count = last[0] - before[0]
        return ((last[1] - before[1]) / count, count) if count else (None, 0)

    def ended(self) -> tuple[int, int]:
        """The tasks that ended last, and how many of them failed; they end as soon as they start."""
        started = len(self.waits)
        since = max(0, started - LAST)
        failed = bisect_right(self.failed, started - 1) - bisect_right(self.failed, since - 1)
        return started - since, failed
