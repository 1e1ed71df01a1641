"""The rule: work starts within its queue's wait target, at the least slot-hours, for a stated reason.

``decide`` is a pure function. One and the same drives the pool inside a worker, the replicas of a deployment and the
simulator. Three needs are computed and the largest counts: slots for the load as it comes (Erlang), slots for what
already waits (deadlines), the user's own measure. Then caps: no more slots than there is work for, and the guards.
Growth is at once. A slot goes only when it stayed unneeded for the hold time *and* has wasted as much as a change
of size is worth (rent or buy): small surplus stays long, large surplus goes fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

import msgspec

from opsq.autoscale import guards
from opsq.autoscale.decision import Bound, Decision, History
from opsq.autoscale.observation import Observation, QueueView
from opsq.autoscale.presets import Limits
from opsq.autoscale.staffing import MAX_DISPERSION, MAX_VARIATION, drain_slots, steady_slots

#: Growth by less than this part of what there is waits until it is more.
LEAST_GROWTH = 0.1
#: A queue is staffed with the others when it brings at least this part of the load, else for itself too.
PART_OF_LOAD = 0.05
#: Part of a wait target that is allowed for a backlog that is late already.
LEAST_BUDGET = 0.25
#: Standard deviations that a rise of the short rate must exceed.
SURE = 2.0
MAX_HOLD_FACTOR = 8
MOST_TURNS = 64
#: More waiting messages per slot than this are a burst.
BURST = 3.0
_STEADY = "{:.3g} tasks/s of {:.3g} s keep {:.3g} slots busy, and `{}` waits at most {:g} s"
_DRAIN = "{:.0f} tasks wait in `{}`, the oldest {:.1f} s of {:g} s, at {:.2g} s each"
_USEFUL = "{} run and {:.0f} wait: more slots would be idle"
_GAUGE = "the own measure is {:g} and a slot takes {:g}"
_DUE = "`{}` is due in {:.0f} s with {:.0f} tasks"
_DUE_SEVERAL = "`{}` and {} more are due from {:.0f} s on with {:.0f} tasks"


class Load(msgspec.Struct, frozen=True):
    """One queue, cleaned: nothing missing, nothing negative. busy: slots that its short tasks keep busy on average."""

    name: str
    slo_s: float
    depth: float
    ages: tuple[float, ...]
    rate: float
    service_s: float
    spread: float
    occupied: float
    busy: float


class Need(msgspec.Struct, frozen=True):
    """Slots to grow to and slots to keep, between them the dead band; what set it, and what kept it lower."""

    grow: int
    keep: int
    bounds: list[Bound]
    winner: str
    capped_by: str | None


def decide(seen: Observation, history: History, limits: Limits) -> Decision:
    """Return the size to have from now on. Pure; never raises for what an observation holds.

    The answer is within ``limits.fewest … limits.most`` and a multiple of ``limits.unit``; it is never below the slots
    that run tasks, except where that would exceed ``limits.most``. Its ``history`` goes into the next call.
    """
    if not math.isfinite(seen.at) or (history.at is not None and seen.at < history.at):
        # A clock that ran backwards measures nothing: begin anew, keep the size.
        history = History(oom=history.oom and (0.0, history.oom[1], history.oom[2]))
        return _kept(seen, history, limits, "clock", "the clock jumped")
    mode, queues = _visible(seen, limits)
    loads = [] if queues is None else _clean(queues, seen, limits)
    gauge = seen.gauge
    if queues is None or loads is None:
        what = "the queue signals are too old" if queues is None else "a signal is missing"
        return _kept(seen, history, limits, "blind", f"{what}: held until they return")
    if gauge is not None and (_bad(gauge.value) or gauge.age_s > limits.blind_ticks * limits.tick_s):
        return _kept(seen, history, limits, "blind", "the user's own measure is stale: held until it returns")
    if seen.machine is not None:
        history = msgspec.structs.replace(
            history, knee=guards.found_knee(seen, limits, history), oom=guards.found_oom(seen, limits, history)
        )
    need = _need(seen, loads, limits)
    return _settle(seen, history, limits, need, mode)


def is_burst(waiting: float, have: int) -> bool:
    """Whether to decide at once instead of at the next tick: many more messages wait than there are slots."""
    return waiting > BURST * (have or 1)


def _bad(value: float | None) -> bool:
    return value is None or not 0 <= value < math.inf


def _visible(seen: Observation, limits: Limits) -> tuple[str, Sequence[QueueView] | None]:
    if math.isfinite(seen.age_s) and seen.age_s <= limits.blind_ticks * limits.tick_s:
        return "live", seen.queues
    return ("local", seen.local) if seen.local is not None else ("blind", None)


def _clean(queues: Sequence[QueueView], seen: Observation, limits: Limits) -> list[Load] | None:
    """Make loads of what was seen; None when a number that matters is missing, negative or NaN."""
    loads = []
    for queue in queues:
        target = limits.target(queue.name)
        depth, rate, service, ages = queue.depth, queue.rate, queue.service_s, queue.ages
        if depth is None or rate is None:
            return None
        if service is None:
            service = limits.prior_service_s
        parts = (depth, rate, service, queue.service_cv2, queue.dispersion, queue.occupied, queue.retry_rate, *ages)
        if min(parts) < 0 or not math.isfinite(sum(parts)):
            return None
        if limits.preset.fast:
            service, rate = _service_now(queue, service), _rate_now(queue, rate, limits.short_window_s)
        if queue.retry_rate and guards.failing(seen):
            rate = max(0.0, rate - queue.retry_rate)
        spread = min(queue.dispersion, MAX_DISPERSION) + min(queue.service_cv2, MAX_VARIATION)
        if depth and not ages:
            # All are taken to be as old as the oldest can be.
            ages = (min(depth / rate, target.slo_s) if rate > 0 else 0.0,)
        busy = rate * service
        loads.append(Load(queue.name, target.slo_s, depth, ages, rate, service, spread, queue.occupied, busy))
    return loads


def _service_now(queue: QueueView, long: float) -> float:
    """The run time that the short window proves, where that is more than over the long one."""
    mean, count = queue.service_now_s, queue.service_now_count
    if mean is None or count <= 0 or not long < mean < math.inf:
        return long
    return max(long, mean * (1 - SURE * math.sqrt(queue.service_cv2 / count)))


def _rate_now(queue: QueueView, long: float, window_s: float) -> float:
    """The rate that the short window proves, where that is more than over the long one: chance explains the rest."""
    rate = queue.rate_now
    if rate is None or not long < rate < math.inf or window_s <= 0:
        return long
    count = rate * window_s
    return max(long, (count - SURE * math.sqrt(count)) / window_s)


def _need(seen: Observation, loads: list[Load], limits: Limits) -> Need:
    occupied = waiting = 0.0
    strictest_s = math.inf
    for load in loads:
        occupied += load.occupied
        waiting += load.depth
        if load.slo_s < strictest_s:
            strictest_s = load.slo_s
    keep, steady = _steady(loads, limits, occupied)
    bounds, winner, lasting = [steady], steady, keep + occupied
    if waiting:
        bounds.append(_drain(seen, loads, limits, occupied))
    gauge, capped_by = seen.gauge, None
    if gauge is not None and gauge.value is not None:
        slots = gauge.value / max(gauge.per_slot, 1e-9)
        bounds.append(Bound("gauge", "need", slots, _GAUGE, (gauge.value, gauge.per_slot)))
    for bound in bounds:
        if bound.value > winner.value:
            winner = bound
    if winner is not steady:
        lasting = max(lasting, winner.value)
    most = winner.value
    if gauge is None:
        useful = seen.running + waiting
        if limits.startup_s > strictest_s / 2:
            coming = sum([load.rate for load in loads]) * (limits.startup_s + limits.tick_s)
            useful += coming + 2 * math.sqrt(coming)
        bounds.append(Bound("useful", "cap", useful, _USEFUL, (seen.running, waiting)))
        if useful < most:
            most, capped_by = useful, "useful"
        if useful < lasting:
            lasting = useful
    due = _due(seen, loads, limits) if seen.due else None
    if due is not None:
        if due.value > most:
            # What is only due waits in no queue yet: that more slots would be idle now says nothing against it.
            winner, capped_by = due, None
            bounds = [bound for bound in bounds if bound.kind == "need"]
        bounds.append(due)
        most, lasting = max(most, due.value), max(lasting, due.value)
    grow = keep = math.ceil(most - 1e-9)
    if lasting != most:
        keep = math.ceil(lasting - 1e-9)
    return Need(grow, keep, bounds, winner.name, capped_by)


def _steady(loads: list[Load], limits: Limits, occupied: float) -> tuple[int, Bound]:
    """Slots to keep and to have for the load as it comes, of all queues together and of small strict ones alone."""
    total = rate = spread = 0.0
    for load in loads:
        busy = load.busy
        total += busy
        rate += load.rate
        spread += load.spread * busy
    if total <= 0:
        return 0, Bound("steady", "need", occupied, "no work arrives")
    strict = loads[0] if len(loads) == 1 else _strictest(loads, total)
    service_s = total / rate
    grow, keep = _erlang(total, service_s, spread / total, strict.slo_s, limits)
    for load in loads:
        if 0 < load.busy < PART_OF_LOAD * total and load.slo_s < strict.slo_s:
            alone = _erlang(load.busy, load.service_s, load.spread, load.slo_s, limits)
            if alone[0] > grow:
                grow, keep, strict = alone[0], max(keep, alone[1]), load
    facts = (rate, service_s, total, strict.name, strict.slo_s)
    return keep, Bound("steady", "need", grow + occupied, _STEADY, facts)


def _strictest(loads: list[Load], total: float) -> Load:
    """The queue with the shortest target of those that bring a part of the load, else of all."""
    bringing = [load for load in loads if load.busy >= PART_OF_LOAD * total]
    # Of a thousand queues of equal size none does.
    return min(bringing or [load for load in loads if load.busy > 0], key=attrgetter("slo_s"))


def _erlang(busy: float, service_s: float, spread: float, slo_s: float, limits: Limits) -> tuple[int, int]:
    kind = limits.preset
    decay = 2 * kind.patience * slo_s / max(spread * service_s, 1e-9)
    if busy > 4 * limits.most:
        return limits.most, limits.most  # far beyond every bound: the exact number is of no use
    return steady_slots(busy, decay, kind.eps_grow, kind.eps_keep)


def _drain(seen: Observation, loads: list[Load], limits: Limits, occupied: float) -> Bound:
    pieces: list[tuple[float, float]] = []
    least, nearest, worst = math.inf, math.inf, loads[0]
    for load in loads:
        if not load.depth:
            continue
        patience = limits.preset.patience * load.slo_s
        work = load.depth * load.service_s / len(load.ages)
        pieces += [(patience - age, work) for age in load.ages]
        least = min(least, LEAST_BUDGET * load.slo_s)
        if patience - load.ages[0] < nearest:
            nearest, worst = patience - load.ages[0], load
    slots = drain_slots(pieces, max(0, seen.have - seen.starting), limits.startup_s, least)
    facts = (worst.depth, worst.name, worst.ages[0], worst.slo_s, worst.service_s)
    return Bound("drain", "need", slots + occupied, _DRAIN, facts)


def _due(seen: Observation, loads: list[Load], limits: Limits) -> Bound | None:
    """Slots for what a schedule is about to send, just in time for them to have started."""
    soon = [one for one in seen.due if 0 <= one.in_s <= limits.startup_s + 2 * limits.tick_s]
    if not soon:
        return None
    service = max((load.service_s for load in loads), default=limits.prior_service_s)
    slo_s = min((load.slo_s for load in loads), default=limits.slo_s)
    tasks = sum(1.0 if one.tasks is None or _bad(one.tasks) else one.tasks for one in soon)
    slots = min(tasks, seen.running + math.ceil(tasks * service / (limits.preset.patience * slo_s)))
    first, others = soon[0], len({one.name for one in soon}) - 1
    if others:
        return Bound("due", "need", slots, _DUE_SEVERAL, (first.name, others, first.in_s, tasks))
    return Bound("due", "need", slots, _DUE, (first.name, first.in_s, tasks))


def _settle(seen: Observation, history: History, limits: Limits, need: Need, mode: str) -> Decision:
    bounds, winner = need.bounds, need.winner
    floor, capped_by = _floor(seen, history, limits), None
    cap: float = limits.most
    for bound in guards.guard_caps(seen, limits, history):
        bounds.append(bound)
        if bound.value < cap:
            cap, capped_by = bound.value, bound.name
    if need.grow <= cap:
        capped_by = need.capped_by
    elif capped_by is None:
        capped_by = "most"
        bounds.append(Bound("most", "cap", limits.most, "at most {} slots are allowed", (limits.most,)))
    if floor > need.grow:
        winner, capped_by = "min", None
        bounds.append(Bound("min", "floor", floor, "no more is needed, and {} at least are kept", (floor,)))
    # What fails now may need its slots again in a moment: an error spike frees nothing.
    running = seen.have if guards.failing(seen) else seen.running
    span, unit = limits.span, limits.unit
    want = keep = _within(need.grow if need.grow < cap else cap, floor, unit, span)
    if need.keep != need.grow:
        keep = _within(need.keep if need.keep < cap else cap, floor, unit, span)
    sizes = want, keep, _within(running, floor, unit, span)
    idle = not (need.grow or seen.running)
    since = (seen.at if history.idle_since is None else history.idle_since) if idle else None
    target, history, left_s, noisy = _step(seen, history, limits, sizes, since, span)
    return Decision(
        at=seen.at, have=seen.have, target=target, want=want, mode=mode, bounds=tuple(bounds), winner=winner,
        capped_by=capped_by, hold_s=left_s, noisy=noisy, history=history,
    )  # fmt: skip


def _floor(seen: Observation, history: History, limits: Limits) -> int:
    """Fewest slots now: the user's, a time window's, and the last one until the group was idle for long."""
    floor = limits.fewest if limits.fewest > seen.scheduled_min else seen.scheduled_min
    if floor or not seen.have:
        return floor
    near = any(0 <= one.in_s <= limits.startup_s + limits.zero_after_s for one in seen.due)
    since = history.idle_since
    idle = since is not None and seen.at - since >= limits.zero_after_s
    return 0 if idle and not near else 1


def _within(slots: float, floor: int, unit: int, span: tuple[int, int]) -> int:
    """``slots`` as whole units, not below ``floor`` and between the bounds."""
    whole = math.ceil(slots - 1e-9)
    if whole < floor:
        whole = floor
    if unit > 1:
        whole = -(-whole // unit) * unit
    lowest, highest = span
    if whole < lowest:
        return lowest
    return whole if whole < highest else highest


def _step(
    seen: Observation,
    history: History,
    limits: Limits,
    sizes: tuple[int, int, int],
    idle_since: float | None,
    span: tuple[int, int],
) -> tuple[int, History, float, bool]:
    """Grow at once; shrink when the surplus lasted for the hold and wasted what a change is worth."""
    want, keep, busy = sizes
    at, have, kind = seen.at, seen.have, limits.preset
    turns = history.turns
    if turns and at - turns[0] > limits.flap_window_s:
        turns = tuple([turn for turn in turns if at - turn <= limits.flap_window_s])
    factor = _patience_factor(len(turns), limits) if turns else 1
    hold_s, price = (kind.hold_s, kind.idle_price) if limits.unit == 1 else (kind.replica_hold_s, kind.replica_price)
    hold_s, price = hold_s * factor, price * factor
    wants, old = history.wants, 0
    while old < len(wants) and at - wants[old][0] >= hold_s:
        old += 1
    wants = (*wants[old:], (at, keep))
    passed = 0.0 if history.at is None else at - history.at
    waste, direction, grown_at, grown = history.waste, history.direction, history.grown_at, history.grown
    target, left_s = have, 0.0
    fitting = _within(have, 0, limits.unit, span)
    if have != fitting:
        target, waste = fitting, 0.0
    elif want > have and want - have >= max(1, math.floor(LEAST_GROWTH * have)):
        target, waste, grown_at, grown = want, 0.0, at, (at, have, seen.throughput)
    elif keep < have:
        peak = busy
        for _, slots in wants:
            if slots > peak:
                peak = slots
        waste = waste + (have - peak) * passed if peak < have else 0.0
        since = wants[0][0] if grown_at is None or grown_at < wants[0][0] else grown_at
        left_s = max(0.0, hold_s - passed - (at - since))
        if peak < have and waste >= price and left_s <= 0:
            target, waste = peak, 0.0
    else:
        waste = 0.0
    if target != have:
        turned = 1 if target > have else -1
        if direction and turned != direction:
            turns = (*turns[-MOST_TURNS:], at)
        direction = turned
    after = History(
        at=at, wants=wants, waste=waste, direction=direction, turns=turns, grown_at=grown_at, grown=grown,
        knee=history.knee, oom=history.oom, idle_since=idle_since,
    )  # fmt: skip
    return target, after, left_s, factor > 1


def _patience_factor(turns: int, limits: Limits) -> int:
    """1, 2, 4 or 8: how much longer to hold while the size goes up and down."""
    if not limits.flap_turns or turns <= limits.flap_turns:
        return 1
    return min(MAX_HOLD_FACTOR, 1 << min(turns // limits.flap_turns, 8))


def _kept(seen: Observation, history: History, limits: Limits, name: str, text: str) -> Decision:
    """Hold: as many as now, within the bounds."""
    target = _within(seen.have, 0, limits.unit, limits.span)
    at = seen.at if math.isfinite(seen.at) else history.at
    return Decision(
        at=seen.at, have=seen.have, target=target, want=target, mode="blind",
        bounds=(Bound(name, "floor", target, text),), winner=name,
        history=msgspec.structs.replace(history, at=at, waste=0.0),
    )  # fmt: skip
