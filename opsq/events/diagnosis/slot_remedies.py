"""What helps a task that waits for a slot: more slots, other workers, less before it. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Final

from msgspec import structs

from opsq import words
from opsq.events.diagnosis.case import Case, Usual
from opsq.events.diagnosis.effects import STARTS, drained, starting
from opsq.events.diagnosis.forecast import NOTHING, Change, about, place_in_line, serving
from opsq.events.diagnosis.records import Effect, Forecast, Remedy
from opsq.events.diagnosis.slot_causes import rows_of

#: Pools that have one slot and cannot be given another.
FIXED_POOLS: Final = frozenset({"solo"})


def busy(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps where all slots are taken: more of them, or less before it."""
    return [
        *_grow(case, expected),
        *_more_workers(case, expected),
        *_hold_type(case, expected),
        *_stop_longest(case, expected),
        *_roll_back(case, expected),
    ]


def prefetched(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps a task that a worker holds behind others."""
    found = [*_grow(case, expected), *_stop_longest(case, expected)]
    if case.holder is not None:
        found.append(
            Remedy(
                title="Have workers take no more than they have slots for",
                command="opsq worker … --set worker_prefetch_multiplier=1",
                note="For tasks that run long. It needs a restart, after which others may take what this worker held.",
                effects=(Effect("From then on", "a task waits in its queue, for the first slot that is free"),),
            )
        )
    return found


def _grow(case: Case, expected: Forecast | None) -> list[Remedy]:
    """The worker with the most slots gets as many again, at least so many that the line is worked off."""
    able = [node for node in serving(case) if node.pool not in FIXED_POOLS and node.slots]
    if not able:
        return []
    node = max(able, key=lambda each: each.slots or 0)
    place, _ = place_in_line(case)
    more = max(1, min(node.slots or 1, place or 1))
    effects, starts_in_s = starting(case, Change(slots=more), expected)
    all_slots = sum(each.slots or 0 for each in case.consumers) + more
    return [
        Remedy(
            title=f"Give {words.short_host(node.name)} {words.plural(more, 'more slot')}",
            command=f"opsq control -d {shlex.quote(node.name)} pool_grow {more}",
            effects=(*effects, *drained(case, all_slots), Effect("Costs", "memory and CPU, until it is shrunk")),
            act="worker-grow", target=node.name, values={"n": str(more)}, starts_in_s=starts_in_s,
        )
    ]  # fmt: skip


def _more_workers(case: Case, expected: Forecast | None) -> list[Remedy]:
    if case.line is None:
        return []
    slots = max((node.slots or 1 for node in case.consumers), default=4)
    effects, starts_in_s = starting(case, Change(slots=slots), expected)
    all_slots = sum(each.slots or 0 for each in case.consumers) + slots
    return [
        Remedy(
            title=f"Start another worker with {words.plural(slots, 'slot')}",
            command=f"opsq worker -A your_app -Q {shlex.quote(case.line.name)} -c {slots}",
            note="Counted from when it is up.",
            effects=(*effects, *drained(case, all_slots), Effect("Costs", "memory and CPU of them")),
            starts_in_s=starts_in_s,
        )
    ]  # fmt: skip


def _hold_type(case: Case, expected: Forecast | None) -> list[Remedy]:
    """Where another type fills slots and line, hold that back; where its own does, let the others through."""
    mix = Counter(case.line.mix if case.line is not None else {})
    if len(mix) < 2:
        return []
    most, count = mix.most_common(1)[0]
    others = sum(mix.values()) - count
    command = f"opsq control pause task={shlex.quote(most)} --for 1h"
    waits_on = Effect("Costs", f"{words.count(count)} of them {'waits' if count == 1 else 'wait'} on")
    if most == case.type:
        effects: tuple[Effect, ...] = (
            Effect(STARTS, "when you resume", strong=True),
            Effect("Of the others", f"{words.count(others)} can start"),
            waits_on,
        )
        starts_in_s = None
    else:
        told, starts_in_s = starting(case, Change(without=most), expected)
        effects = (*told, waits_on)
    title = f"Hold {words.short_name(most)} back, let the {'others' if most == case.type else 'rest'} through"
    return [
        Remedy(
            title=title,
            command=command,
            effects=effects,
            act="type-pause",
            target=most,
            values={"for_s": "1h"},
            starts_in_s=starts_in_s,
        )
    ]


def _stop_longest(case: Case, expected: Forecast | None) -> list[Remedy]:
    """Stop the task that has outlived its usual length most; none where all are within it."""
    rows = [
        row for row in rows_of(case, serving(case))
        if row.for_s is not None and (row.usual_s is None or row.for_s > row.usual_s)
    ]  # fmt: skip
    if not rows:
        return []
    row = rows[0]
    effects, starts_in_s = starting(case, Change(freed=row.task), expected)
    measure = f", usually {words.duration(row.usual_s)} at most" if row.usual_s is not None else ""
    name = words.short_name(row.type) if row.type else "the task"
    return [
        Remedy(
            title=f"Stop {name} {words.short_id(row.task)}, which has run for {words.duration(row.for_s)}{measure}",
            command=f"opsq control terminate SIGTERM {shlex.quote(row.task)}",
            effects=(*effects, Effect("Costs", "its work so far; it is not run again")),
            act="task-terminate", target=row.task, starts_in_s=starts_in_s,
        )
    ]  # fmt: skip


def _roll_back(case: Case, expected: Forecast | None) -> list[Remedy]:
    """Where a deploy made the type slower: the pace before it."""
    found = case.slower
    if found is None or not found.deploy:
        return []
    before = Usual(found.before_s, found.before_s, found.usual_s)
    effects, starts_in_s = starting(structs.replace(case, pace={**case.pace, found.type: before}), NOTHING, None)
    slots = sum(node.slots or 0 for node in case.consumers)
    pace = f"at {words.duration(found.before_s)} a run on {words.plural(slots, 'slot')}"
    return [
        Remedy(
            title=f"Roll back {found.deploy}", note=f"Not a command of opsq. Counted from when it is done, {pace}.",
            effects=effects, starts_in_s=starts_in_s,
        )
    ]  # fmt: skip


def nobody(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps where no worker takes from the queue."""
    assert case.line is not None
    found = _more_workers(case, None)
    there = [node for node in case.nodes if node.alive and node.consumes is False]
    if there:
        node = min(there, key=lambda each: (each.busy_slots or 0) / max(1, each.slots or 1))
        served = Change(slots=max(0, (node.slots or 0) - (node.busy_slots or 0)))
        effects, starts_in_s = starting(case, served, None) if served.slots else ((), None)
        found.append(
            Remedy(
                title=f"Have {words.short_host(node.name)} take from it, too",
                command=f"opsq control -d {shlex.quote(node.name)} add_consumer {shlex.quote(case.line.name)}",
                note="Only where its code knows these tasks.",
                effects=(*effects, Effect("Costs", f"slots of what {words.short_host(node.name)} does now")),
                act="worker-add-queue", target=node.name, values={"queue": case.line.name}, starts_in_s=starts_in_s,
            )
        )  # fmt: skip
    return found


def died(case: Case, expected: Forecast | None) -> list[Remedy]:
    """What helps when nobody else takes from the queue of a dead worker; otherwise it comes back by itself."""
    others = [node for node in case.consumers if case.holder is None or node.name != case.holder.name]
    if others or case.line is None:
        return []
    silent_s = case.now - case.holder.last_seen_at if case.holder is not None and case.holder.last_seen_at else 0.0
    left_s = max(0.0, case.lease_s - silent_s)
    when = f"in ≈{words.NBSP}{words.duration(about(left_s))} at the latest, then it runs" if left_s else "at once"
    return [
        Remedy(
            title="Start a worker on its queue", command=f"opsq worker -A your_app -Q {shlex.quote(case.line.name)}",
            effects=(Effect("It is taken back", when, strong=True),), starts_in_s=left_s,
        )
    ]  # fmt: skip
