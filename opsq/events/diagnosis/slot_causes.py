"""The cause behind most lines: all slots are busy, by what, for how long, and since when that takes longer. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from opsq import words
from opsq.events.diagnosis.case import ENDED, SLOT, Case, Node
from opsq.events.diagnosis.forecast import remaining
from opsq.events.diagnosis.queue_causes import named, queue_named
from opsq.events.diagnosis.records import NO, UNKNOWN, YES, Finding, Proof, Row, Said, the_task, the_type, the_worker
from opsq.events.diagnosis.slower import Slower

SLOTS_BUSY: Final = "slots-busy"
MOST_ROWS: Final = 12


def slots_busy(case: Case) -> Finding:
    """Are all slots of the workers of its queue taken?"""
    if case.where in (SLOT, ENDED):
        return Finding(NO, "no: it was given a slot")
    consumers = case.consumers
    if not consumers:
        known = case.line is not None
        return Finding(
            NO if known else UNKNOWN, "no: there is no slot at all" if known else "unknown: its queue is not known"
        )
    blind = [node for node in consumers if node.slots is None or node.busy_slots is None]
    if blind:
        return Finding(UNKNOWN, f"unknown: {named(blind)} did not tell its slots")
    slots = sum(node.slots or 0 for node in consumers)
    busy = sum(min(node.slots or 0, node.busy_slots or 0) for node in consumers)
    if busy < slots:
        return Finding(NO, f"no: {slots - busy} of {slots} {'is' if slots - busy == 1 else 'are'} free")
    since = () if case.slower is None else (slower_proof(case.slower),)
    proofs = (slots_proof(case, slots, busy), *since)
    silent = f"; {named(case.silent)} not heard" if case.silent else ""
    return Finding(YES, f"{busy} of {slots}{silent}", said=_who_holds(case, slots), proofs=proofs)


def slots_proof(case: Case, slots: int, busy: int) -> Proof:
    """What the slots run, those that last longest first."""
    rows = rows_of(case, case.consumers)
    types = Counter(row.type for row in rows if row.type)
    most = types.most_common(1)
    with_what = f", {most[0][1]} with {words.short_name(most[0][0])}" if most and len(rows) > 1 else ""
    more = f"And {len(rows) - MOST_ROWS} more." if len(rows) > MOST_ROWS else ""
    verb = "slot is" if slots == 1 else "slots are"
    return Proof(f"{busy} of {slots} {verb} busy{with_what}", more, tuple(rows[:MOST_ROWS]))


def rows_of(case: Case, nodes: tuple[Node, ...]) -> list[Row]:
    """What runs on these workers, longest first."""
    found = [
        Row(
            worker=node.name, task=one.id, type=one.type,
            for_s=max(0.0, case.now - one.since_at) if one.since_at is not None else None,
            usual_s=usual.p95_s if (usual := case.usual_of(one.type)) is not None else None,
        )
        for node in nodes for one in node.running or ()
    ]  # fmt: skip
    return sorted(found, key=lambda row: (-(row.for_s or 0.0), row.worker))


def _who_holds(case: Case, slots: int) -> Said:
    """``All 8 slots of reports are busy, 7 with monthly_export, longer than usual.``"""
    rows = rows_of(case, case.consumers)
    head: Said = (f"All {slots} slots of " if slots > 1 else "The only slot of ", queue_named(case),
                  " are busy" if slots > 1 else " is busy")  # fmt: skip
    if not rows:
        return (*head, ".")
    if case.slower is not None:
        return (*head, ", and ", *_runs_longer(case.slower), ".")
    if len(rows) == 1:
        longer: Said = (", longer than 95 % of its runs",) if is_late(rows[0]) else ()
        return (*head, " with ", *running_there(rows[0]), *longer, ".")
    most, count = Counter(row.type or "" for row in rows).most_common(1)[0]
    if not most or count * 2 < len(rows):
        return (*head, ", the longest with ", *running_there(rows[0]), ".")
    late = sum(1 for row in rows if row.type == most and is_late(row))
    longer = (f", {late} of them longer than 95 % of its runs",) if late else ()
    return (*head, f", {'all' if count == len(rows) else count} with ", the_type(most), *longer, ".")


def _runs_longer(found: Slower) -> Said:
    since = f"deploy {found.deploy}" if found.deploy else f"{words.clock(found.since_at)} UTC"
    return (the_type(found.type), f" holds a slot {_times(found.factor)} as long since {since}")


def _times(factor: float) -> str:
    return f"{round(factor) if factor >= 3 else round(factor, 1):g} times"


def slower_proof(found: Slower) -> Proof:
    """The pace of a type before and after the moment at which it changed."""
    name, clock = words.short_name(found.type), words.clock(found.since_at)
    heading = (
        f"{name} runs {words.duration(found.after_s)} in the mean, {words.duration(found.before_s)} before {clock}"
    )
    deployed = f" Code labelled {found.deploy} began to run on its workers then." if found.deploy else ""
    return Proof(heading, f"Of {words.plural(found.runs, 'run')} since {clock} UTC.{deployed}", history=found.type)


def is_late(row: Row) -> bool:
    """Whether it has run longer than 95 % of the runs of its type."""
    return row.for_s is not None and row.usual_s is not None and row.for_s > row.usual_s


def running_there(row: Row, *, on: bool = True) -> Said:
    """Say what a slot runs and for how long. on: also where."""
    what: Said = (the_type(row.type), " ", the_task(row.task)) if row.type else (the_task(row.task),)
    lasts = f" for {words.duration(row.for_s)}" if row.for_s is not None else ""
    return (*what, f"{lasts} on ", the_worker(row.worker)) if on else (*what, lasts)


def soonest(case: Case, node: Node) -> Row | None:
    """What runs on a worker and is taken to end first."""
    running = sorted(node.running or (), key=lambda one: remaining(one, case))
    first = running[0].id if running else ""
    return next((row for row in rows_of(case, (node,)) if row.task == first), None)
