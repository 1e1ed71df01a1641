"""From a case to a diagnosis. Pure: the same case gives the same answer."""

from __future__ import annotations

from opsq import words
from opsq.events.diagnosis.case import ENDED, SLOT, Case
from opsq.events.diagnosis.causes import checked, decisive, shown
from opsq.events.diagnosis.endings import Told, story_of
from opsq.events.diagnosis.forecast import about, forecast
from opsq.events.diagnosis.queue_causes import NO_CONSUMER, PAUSED, REVOKED, UNKNOWN_NAME
from opsq.events.diagnosis.records import Diagnosis, Forecast, Proof, Said, Verdict
from opsq.events.diagnosis.remedies import remedies_for
from opsq.events.diagnosis.slot_causes import SLOTS_BUSY, slots_proof
from opsq.events.diagnosis.worker_causes import PREFETCHED

MOST_SILENT = 3
LEAST_RANGE = 0.2
"""A narrower range than this share of the length is not told: it would claim to be exact."""
LINED = frozenset({SLOTS_BUSY, PREFETCHED, NO_CONSUMER, ""})
"""Causes under which a task moves up in a line, so that a forecast means something."""


def diagnose(case: Case) -> Diagnosis:
    """Check every cause, and say which one holds, on what evidence, until when, and what would help."""
    verdicts = checked(case)
    told = _told(case, verdicts)
    waiting = forecast(case) if told.waits and told.cause in LINED and case.task is not None else None
    return Diagnosis(
        task=case.id,
        type=case.type,
        queue=case.line.name if case.line is not None else None,
        worker=case.holder.name if case.holder is not None else None,
        state=case.state,
        where=case.where,
        waits=told.waits,
        cause=told.cause,
        sentence=told.said,
        lead=(*told.lead, *_outlook(waiting, told)),
        forecast=waiting,
        proofs=(*told.proofs, *_flow(case, told.cause)),
        checks=shown(verdicts, told.cause),
        remedies=remedies_for(case, told.cause, waiting) if told.waits else (),
        as_of=case.now,
        lacks=case.lacks,
    )


def _told(case: Case, verdicts: tuple[Verdict, ...]) -> Told:
    hit = decisive(verdicts) if case.where != ENDED else None
    if hit is None:
        return story_of(case, verdicts)
    found = hit.found
    return Told(said=found.said, lead=found.lead, proofs=found.proofs, waits=True, cause=hit.cause)


def _outlook(expected: Forecast | None, told: Told) -> Said:
    """``187th of 412 in line. It starts in about 7 min …``"""
    if expected is None:
        return ()
    parts = []
    if expected.place is not None and told.cause != PREFETCHED:
        of = f" of {words.count(expected.of)}" if expected.of is not None else ""
        least = "at least " if expected.at_least else ""
        parts.append(f"{least}{words.short_ordinal(expected.place)}{of} in line.")
    if expected.starts_in_s is not None and told.cause != NO_CONSUMER:
        between = _between(expected)
        parts.append(f"It starts in about {words.duration(about(expected.starts_in_s))}{between}, {expected.basis}.")
    elif told.cause != NO_CONSUMER:
        parts.append(f"When it starts cannot be said: {expected.basis}.")
    text = " ".join(parts)
    return (f"{' ' if told.lead else ''}{text[:1].upper()}{text[1:]}",) if text else ()


def _between(expected: Forecast) -> str:
    low, high = expected.low_s, expected.high_s
    if low is None or high is None or high - low < max(1.0, LEAST_RANGE * (expected.starts_in_s or 0.0)):
        return ""
    return f" (between {words.duration(about(low))} and {words.duration(about(high))})"


def _flow(case: Case, cause: str) -> tuple[Proof, ...]:
    """What moves through the queue, and, where it is not the diagnosis, what its slots run."""
    found: list[Proof] = []
    line, slots = case.line, sum(node.slots or 0 for node in case.consumers)
    if case.where in (SLOT, ENDED) or cause in (REVOKED, UNKNOWN_NAME) or line is None:
        return ()
    if cause not in (SLOTS_BUSY, PREFETCHED, PAUSED) and slots and any(node.running for node in case.consumers):
        busy = sum(min(node.slots or 0, node.busy_slots or 0) for node in case.consumers)
        found.append(slots_proof(case, slots, busy))
    for node in case.silent[:MOST_SILENT]:
        since = words.ago(case.now - node.last_seen_at) if node.last_seen_at is not None else "at an unknown time"
        has = f", with {words.plural(node.slots, 'slot')}," if node.slots else ""
        found.append(
            Proof(f"{words.short_host(node.name)}{has} is silent", f"It was heard last {since}, and did not answer.")
        )
    if line.arrived_per_s is not None and (line.arrived_per_s or line.done_per_s):
        waits = (
            ""
            if line.ready is None
            else f"{words.plural(line.ready, 'task')} {'waits' if line.ready == 1 else 'wait'} there now"
        )
        oldest = (
            f", the oldest for {words.duration(line.oldest_age_s)}"
            if line.oldest_age_s is not None and line.ready
            else ""
        )
        heading = (
            f"{words.rate(line.arrived_per_s)} arrive, {words.rate(line.done_per_s)} are done, over the last minute"
        )
        found.append(Proof(heading, f"{waits}{oldest}." if waits else ""))
    return tuple(found)
