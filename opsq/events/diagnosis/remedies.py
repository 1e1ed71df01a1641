"""What would help, by cause, each with the effect it is predicted to have. Pure; every figure is an estimate.

A remedy names the command to type, and the act of the pages that does the same.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from opsq import words
from opsq.events.diagnosis import queue_causes, slot_causes, worker_causes
from opsq.events.diagnosis.answers import per_s
from opsq.events.diagnosis.case import Case
from opsq.events.diagnosis.forecast import NOTHING, Change, about, free_times, place_in_line, serving, starts_in
from opsq.events.diagnosis.records import Effect, Forecast, Remedy

MOST: Final = 4
DRAINED: Final = "Queue drained"
STARTS: Final = "This task starts"
#: Pools that have one slot and cannot be given another.
FIXED_POOLS: Final = frozenset({"solo"})
_Maker = Callable[[Case, Forecast | None], "list[Remedy]"]


def remedies_for(case: Case, cause: str, expected: Forecast | None) -> tuple[Remedy, ...]:
    """What would help against a cause, the fastest first as far as that can be said."""
    made = [each for each in _BY_CAUSE.get(cause, _nothing)(case, expected) if _gains(each, expected)]
    return tuple(sorted(made, key=lambda each: each.starts_in_s if each.starts_in_s is not None else 1e12)[:MOST])


def _gains(remedy: Remedy, expected: Forecast | None) -> bool:
    """Whether the task would start clearly earlier than it does by itself, as far as both are known."""
    if remedy.starts_in_s is None or expected is None or expected.starts_in_s is None:
        return True
    return remedy.starts_in_s < expected.starts_in_s * 0.9


def _start(case: Case, change: Change, expected: Forecast | None) -> tuple[tuple[Effect, ...], float | None]:
    """The effect of a change on this task: ``in ≈ 3 s instead of 40 s``."""
    if case.task is None:
        return (), None
    after_s = starts_in(case, change)
    if after_s is None:
        return (Effect(STARTS, "sooner; when cannot be said", strong=True),), None
    before_s = expected.starts_in_s if expected is not None else starts_in(case)
    instead = f" instead of {words.duration(about(before_s))}" if before_s is not None and change != NOTHING else ""
    when = "at once" if after_s < 0.5 else f"in ≈{words.NBSP}{words.duration(about(after_s))}"
    return (Effect(STARTS, when + instead, strong=True),), after_s


def _drained(case: Case, slots: int) -> tuple[Effect, ...]:
    """When the queue would be empty with so many slots at work, if as much arrives as now."""
    line, arrived = case.line, case.line.arrived_per_s if case.line is not None else None
    weights = [(usual.mean_s, count) for type, count in (line.mix.items() if line is not None else ())
               if (usual := case.pace_of(type)) is not None]  # fmt: skip
    total = sum(count for _, count in weights)
    if line is None or not line.ready or not total or arrived is None:
        return ()
    mean_s = sum(mean * count for mean, count in weights) / total
    gain = slots / mean_s - arrived if mean_s > 0 else 0.0
    text = (
        f"in ≈{words.NBSP}{words.duration(about(line.ready / gain))}"
        if gain > 0
        else "never: more arrives than they do"
    )
    return (Effect(DRAINED, text),)


# -- more slots --------------------------------------------------------------------------------------------------------


def _busy(case: Case, expected: Forecast | None) -> list[Remedy]:
    return [
        *_grow(case, expected),
        *_more_workers(case, expected),
        *_hold_type(case, expected),
        *_stop_longest(case, expected),
    ]


def _prefetched(case: Case, expected: Forecast | None) -> list[Remedy]:
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
    effects, starts_in_s = _start(case, Change(slots=more), expected)
    all_slots = sum(each.slots or 0 for each in case.consumers) + more
    return [
        Remedy(
            title=f"Give {words.short_host(node.name)} {words.plural(more, 'more slot')}",
            command=f"opsq control -d {shlex.quote(node.name)} pool_grow {more}",
            effects=(*effects, *_drained(case, all_slots), Effect("Costs", "memory and CPU, until it is shrunk")),
            act="worker-grow", target=node.name, starts_in_s=starts_in_s,
        )
    ]  # fmt: skip


def _more_workers(case: Case, expected: Forecast | None) -> list[Remedy]:
    if case.line is None:
        return []
    slots = max((node.slots or 1 for node in case.consumers), default=4)
    effects, starts_in_s = _start(case, Change(slots=slots), expected)
    all_slots = sum(each.slots or 0 for each in case.consumers) + slots
    return [
        Remedy(
            title=f"Start another worker with {words.plural(slots, 'slot')}",
            command=f"opsq worker -A your_app -Q {shlex.quote(case.line.name)} -c {slots}",
            note="Counted from when it is up.",
            effects=(*effects, *_drained(case, all_slots), Effect("Costs", "memory and CPU of them")),
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
        told, starts_in_s = _start(case, Change(without=most), expected)
        effects = (*told, waits_on)
    title = f"Hold {words.short_name(most)} back, let the {'others' if most == case.type else 'rest'} through"
    return [
        Remedy(title=title, command=command, effects=effects, act="type-pause", target=most, starts_in_s=starts_in_s)
    ]


def _stop_longest(case: Case, expected: Forecast | None) -> list[Remedy]:
    """Stop the task that has outlived its usual length most; none where all are within it."""
    rows = [
        row for row in slot_causes.rows_of(case, serving(case))
        if row.for_s is not None and (row.usual_s is None or row.for_s > row.usual_s)
    ]  # fmt: skip
    if not rows:
        return []
    row = rows[0]
    effects, starts_in_s = _start(case, Change(freed=row.task), expected)
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


# -- nobody takes it ---------------------------------------------------------------------------------------------------


def _nobody(case: Case, expected: Forecast | None) -> list[Remedy]:
    assert case.line is not None
    found = _more_workers(case, None)
    there = [node for node in case.nodes if node.alive and node.consumes is False]
    if there:
        node = min(there, key=lambda each: (each.busy_slots or 0) / max(1, each.slots or 1))
        served = Change(slots=max(0, (node.slots or 0) - (node.busy_slots or 0)))
        effects, starts_in_s = _start(case, served, None) if served.slots else ((), None)
        found.append(
            Remedy(
                title=f"Have {words.short_host(node.name)} take from it, too",
                command=f"opsq control -d {shlex.quote(node.name)} add_consumer {shlex.quote(case.line.name)}",
                note="Only where its code knows these tasks.",
                effects=(*effects, Effect("Costs", f"slots of what {words.short_host(node.name)} does now")),
                act="worker-add-queue", target=node.name, starts_in_s=starts_in_s,
            )
        )  # fmt: skip
    return found


def _died(case: Case, expected: Forecast | None) -> list[Remedy]:
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


# -- it is held back on purpose ----------------------------------------------------------------------------------------


def _eta(case: Case, expected: Forecast | None) -> list[Remedy]:
    return _call_again(case, "Call it again without waiting, and revoke this one", "at once, as a new task")


def _revoked(case: Case, expected: Forecast | None) -> list[Remedy]:
    return _call_again(
        case, "Call it again: a revocation is not taken back", "as a new task, from the end of the line", revoke=False
    )


def _call_again(case: Case, title: str, when: str, *, revoke: bool = True) -> list[Remedy]:
    id = shlex.quote(case.id)
    return [
        Remedy(
            title=title, command=f"opsq control revoke {id}" if revoke else "",
            note="Sending it again is the button, or `opsq call` with its arguments.",
            effects=(Effect("It starts", when, strong=True),), act="task-resend", target=case.id, starts_in_s=0.0,
        )
    ]  # fmt: skip


def _paused(case: Case, expected: Forecast | None) -> list[Remedy]:
    by_queue = case.orders.queue_paused is not None or case.orders.type_paused is None
    name = case.line.name if by_queue and case.line is not None else case.type
    if name is None:
        return []
    kind = "queue" if by_queue else "task"
    effects, starts_in_s = _start(case, NOTHING, None) if free_times(case) else ((), None)
    return [
        Remedy(
            title=f"Resume {name}", command=f"opsq control resume {kind}={shlex.quote(name)}", effects=effects,
            act="queue-resume" if by_queue else "type-resume", target=name, starts_in_s=starts_in_s,
        )
    ]  # fmt: skip


def _rated(case: Case, expected: Forecast | None) -> list[Remedy]:
    node, name = case.holder, case.type
    if node is None or name is None:
        return []
    limit = (node.registered or {}).get(name)
    pace, mine = per_s(limit), [one.id for one in node.waiting or () if one.eta_at is None and one.type == name]
    place = mine.index(case.id) + 1 if case.id in mine else 1
    free = (node.slots or 0) > (node.busy_slots or 0)
    now = "at once" if free and place <= (node.slots or 1) else "when it has a slot"
    instead = f" instead of in {words.duration(about(place / pace))}" if pace else ""
    on = f"opsq control -d {shlex.quote(node.name)} rate_limit {shlex.quote(name)}"
    found = [
        Remedy(
            title="Lift the limit there for an hour", command=f"{on} 0 --for 1h",
            effects=(Effect(STARTS, now + instead, strong=True), Effect("Costs", "what the limit protects")),
            act="worker-rate-limit", target=node.name, starts_in_s=0.0,
        )
    ]  # fmt: skip
    if pace:
        twice = f"{words.significant(pace * 2 * 60)}/m".replace(",", "")
        effect = Effect(STARTS, f"in ≈{words.NBSP}{words.duration(about(place / pace / 2))}{instead}", strong=True)
        found.append(
            Remedy(title="Let it start twice as often", command=f"{on} {twice} --for 1h", effects=(effect,),
                   act="worker-rate-limit", target=node.name, starts_in_s=place / pace / 2)
        )  # fmt: skip
    return found


def _strange(case: Case, expected: Forecast | None) -> list[Remedy]:
    queue, ended = case.line.name if case.line is not None else "the queue", case.state == "FAILURE"
    found = [
        Remedy(
            title="Start a worker whose code has the task",
            command=f"opsq worker -A your_app -Q {shlex.quote(queue)}",
            note="Workers that do not know it still take some; deploy the code to all, or give it a queue of its own.",
        )
    ]
    if ended:
        effect = Effect("It runs", "when a worker that knows it takes it", strong=True)
        found.append(
            Remedy(title="Then release it from quarantine", command=f"opsq quarantine release {shlex.quote(case.id)}",
                   effects=(effect,), act="quarantine-release", target=case.id)
        )  # fmt: skip
    return found


def _nothing(case: Case, expected: Forecast | None) -> list[Remedy]:
    return []


_BY_CAUSE: Final[Mapping[str, _Maker]] = {
    slot_causes.SLOTS_BUSY: _busy,
    queue_causes.NO_CONSUMER: _nobody,
    queue_causes.PAUSED: _paused,
    queue_causes.REVOKED: _revoked,
    queue_causes.UNKNOWN_NAME: _strange,
    worker_causes.PREFETCHED: _prefetched,
    worker_causes.ETA: _eta,
    worker_causes.RATE: _rated,
    worker_causes.DIED: _died,
}
