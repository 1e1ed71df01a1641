"""When a task would start, estimated: the tasks before it are given, each to the slot that is free first. Pure.

What runs is taken to last as long as its type usually does, then as long as the slow ones do, and what has outlived
even those as long again as it has lasted. How long what waits will take is the mean of its type.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from opsq import words
from opsq.events.diagnosis.case import BROKER, WORKER, Case, Node, Request, Usual
from opsq.events.diagnosis.records import Forecast

MOST_PLAYED: Final = 5_000
"""A longer line is not played task by task: its work is shared among the slots."""
_STEPS: Final = ((60.0, 1.0), (600.0, 10.0), (7_200.0, 60.0), (86_400.0, 600.0), (math.inf, 3_600.0))
"""Lengths up to here are told in such steps, in seconds."""
Length = Callable[[Usual], float]


def mean(usual: Usual) -> float:
    """The usual length of a run."""
    return usual.mean_s


class Change(Struct, frozen=True):
    """What would be done. slots: more of them at once. without: a type whose waiting tasks are held back. freed: a
    task that is stopped."""

    slots: int = 0
    without: str | None = None
    freed: str | None = None


NOTHING: Final = Change()


def about(seconds: float) -> float:
    """A length as an estimate says it: no finer than it can be known, and no less than a second."""
    step = next(step for most, step in _STEPS if seconds < most)
    return max(1.0, float(round(seconds / step) * step))


def forecast(case: Case) -> Forecast | None:
    """When the task starts if nobody does anything; None when it does not wait in a line."""
    if case.where not in (BROKER, WORKER):
        return None
    place, length = place_in_line(case)
    starts_in_s = starts_in(case)
    if starts_in_s is None:
        return Forecast(starts_in_s=None, place=place, of=length, at_least=_at_least(case), basis=_why_not(case))
    low, high = starts_in(case, length=lambda usual: usual.p50_s), starts_in(case, length=lambda usual: usual.p95_s)
    # The slow ones do not all come together: of n tasks the sum strays by the root of n.
    spread = 1.0 / math.sqrt(max(1, (place or 1) / max(1, len(free_times(case)))))
    return Forecast(
        starts_in_s=starts_in_s,
        low_s=None if low is None else starts_in_s - max(0.0, starts_in_s - low) * spread,
        high_s=None if high is None else starts_in_s + max(0.0, high - starts_in_s) * spread,
        place=place,
        of=length,
        at_least=_at_least(case),
        basis=_basis(case),
    )


def place_in_line(case: Case) -> tuple[int | None, int | None]:
    """(place, 1 is next; length of the line), as far as known: of the queue, or of what its worker has ready."""
    if case.where == WORKER:
        ready = case.holder.reserved if case.holder is not None else None
        ids = [one.id for one in ready or ()]
        return (ids.index(case.id) + 1, len(ids)) if case.id in ids else (None, None)
    if case.line is None or case.line.before is None:
        return None, None
    ready_count = case.line.ready
    before = case.line.before if ready_count is None else min(case.line.before, max(0, ready_count - 1))
    return before + 1, ready_count


def _at_least(case: Case) -> bool:
    return case.where == BROKER and case.line is not None and not case.line.before_exact


def starts_in(case: Case, change: Change = NOTHING, length: Length = mean) -> float | None:
    """Seconds until the task has a slot; None when there is none to wait for, or no length of runs is known."""
    free = free_times(case, change, length)
    ahead = _ahead(case, change, length)
    if not free or ahead is None or (min(free) > 0 and _blind(case)):
        return None
    if len(ahead) > MOST_PLAYED:
        return (sum(free) + sum(ahead)) / len(free)
    heapq.heapify(free)
    for lasts_s in ahead:
        heapq.heapreplace(free, free[0] + lasts_s)
    return free[0]


def free_times(case: Case, change: Change = NOTHING, length: Length = mean) -> list[float]:
    """For each slot that may take the task, in how many seconds it is free."""
    found = [0.0] * change.slots
    for node in serving(case):
        running = [one for one in node.running or () if one.id != change.freed][: node.slots]
        found += [remaining(one, case, length) for one in running]
        unseen = max(0, (node.busy_slots or 0) - len(node.running or ()))
        found += [_mean_run(case, length) or 0.0] * min(unseen, (node.slots or 0) - len(running))
        found += [0.0] * max(0, (node.slots or 0) - len(running) - unseen)
    return found


def _blind(case: Case) -> bool:
    """Whether of nothing that runs there a run has ever been measured: nobody knows when a slot is free."""
    running = [one for node in serving(case) for one in node.running or ()]
    return bool(running) and all(case.pace_of(one.type) is None for one in running)


def serving(case: Case) -> tuple[Node, ...]:
    """The live workers that may give it a slot: the one that has it, else all of its queue."""
    if case.where == WORKER:
        return (case.holder,) if case.holder is not None and case.holder.alive else ()
    return case.consumers


def remaining(one: Request, case: Case, length: Length = mean) -> float:
    """How much longer a running task is taken to last, in seconds."""
    lasted_s = max(0.0, case.now - one.since_at) if one.since_at is not None else 0.0
    usual = case.pace_of(one.type)
    if usual is None:
        return lasted_s
    if lasted_s < length(usual):
        return length(usual) - lasted_s
    return usual.p95_s - lasted_s if lasted_s < usual.p95_s else lasted_s


def _ahead(case: Case, change: Change, length: Length) -> list[float] | None:
    """How long each task that starts before this one lasts, in their order."""
    mean_s = _mean_run(case, length)
    place, _ = place_in_line(case)
    if place is None:
        return None
    if case.where == WORKER:
        ready = (case.holder.reserved if case.holder is not None else None) or ()
        return _lengths(ready[: place - 1], case, change, length, mean_s)
    taken = [one for node in case.consumers for one in node.reserved or ()]
    found = _lengths(taken, case, change, length, mean_s)
    waiting = _waiting(case, place - 1, change, length, mean_s)
    return None if found is None or waiting is None else found + waiting


def _lengths(
    ready: Sequence[Request], case: Case, change: Change, length: Length, mean_s: float | None
) -> list[float] | None:
    found: list[float] = []
    for one in ready:
        usual = case.pace_of(one.type)
        lasts_s = length(usual) if usual is not None else mean_s
        if lasts_s is None:
            return None
        if one.type != change.without:
            found.append(lasts_s)
    return found


def _waiting(case: Case, before: int, change: Change, length: Length, mean_s: float | None) -> list[float] | None:
    """The ``before`` tasks that wait before this one in the broker, of the types that wait there now."""
    if before and mean_s is None:
        return None
    mix = case.line.mix if case.line is not None else {}
    total = sum(mix.values())
    if not total:
        return [mean_s or 0.0] * before
    held = mix.get(change.without, 0) if change.without is not None else 0
    kept = round(before * (total - held) / total)
    kept_mean = _mean_run(case, length, change.without)
    return [kept_mean if kept_mean is not None else mean_s or 0.0] * kept


def _mean_run(case: Case, length: Length, without: str | None = None) -> float | None:
    """The length of a run over the mix that waits, else of what runs, else of this task's own type."""
    mix = dict(case.line.mix) if case.line is not None else {}
    mix.pop(without or "", None)
    for types in (
        mix,
        dict.fromkeys([one.type for node in case.nodes for one in node.running or ()], 1),
        {case.type: 1},
    ):
        known = [(usual, count) for type, count in types.items() if (usual := case.pace_of(type)) is not None]
        weight = sum(count for _, count in known)
        if weight:
            return sum(length(usual) * count for usual, count in known) / weight
    return None


def _basis(case: Case) -> str:
    late = sum(1 for node in serving(case) for one in node.running or () if _outlived(one, case))
    text = f"at the pace of the last minutes on {words.plural(len(free_times(case)), 'slot')}"
    if not late:
        return text
    return f"{text}, if what outlasts its type lasts as long again"


def _outlived(one: Request, case: Case) -> bool:
    usual = case.pace_of(one.type)
    return usual is not None and (one.since_at is not None and case.now - one.since_at > usual.p95_s)


def _why_not(case: Case) -> str:
    if not free_times(case):
        return "no slot is there to wait for"
    if place_in_line(case)[0] is None:
        return "its place in line is not known"
    return "no run of these types has been seen, so how long they last is not known"
