"""What there is to say of a task that no cause holds back: it ended, it runs, it is about to start, or nobody knows."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from opsq import words
from opsq.events.diagnosis.case import BROKER, ENDED, SETTLES_S, SLOT, WORKER, Case
from opsq.events.diagnosis.queue_causes import UNKNOWN_NAME, queue_named
from opsq.events.diagnosis.records import UNKNOWN, Proof, Said, Verdict, the_worker
from opsq.events.diagnosis.slot_causes import rows_of
from opsq.wire import states

#: Between its publishing and its delivery: events and depths may not have caught up.
FRESH_S: Final = 2.0


class Told(Struct, frozen=True, kw_only=True):
    """What is said of a case that no cause of the table explains. waits: there is something to be explained after all.

    cause: of the table, where it is one that has had its effect.
    """

    said: Said
    lead: Said = ()
    proofs: tuple[Proof, ...] = ()
    waits: bool = False
    cause: str = ""


def ended(case: Case) -> Told:
    """How it ended, plainly."""
    assert case.task is not None
    item, name = case.task.item, case.task.item.worker
    where: Said = (" on ", the_worker(name)) if name else ()
    when = f" {words.ago(case.now - item.finished_at)}" if item.finished_at else ""
    if item.state == states.FAILURE and (item.exception or "").startswith("NotRegistered"):
        return _unknown_there(case)
    if item.state == states.SUCCESS:
        ran = f", after {words.duration(item.runtime_s)} of run time" if item.runtime_s is not None else ""
        return Told(said=("It ran: it succeeded", *where, f"{when}{ran}."))
    if item.state == states.FAILURE:
        error = (item.exception or "").partition("(")[0]
        tries = f", on the {words.ordinal(item.tries)} try" if item.tries > 1 else ""
        return Told(said=("It ran: it failed", *where, when, f" with {error}" if error else "", f"{tries}."))
    if item.state == states.REVOKED:
        return Told(said=_how_revoked(case))
    if item.state == states.REJECTED:
        return Told(said=("It was rejected", *where, f"{when}: it does not run again by itself."))
    return Told(said=("It ran, and was told to be ignored", *where, f"{when}."))


def _how_revoked(case: Case) -> Said:
    assert case.task is not None
    item, details = case.task.item, {key: value for one in case.task.tries for key, value in one.details.items()}
    where: Said = (" on ", the_worker(item.worker)) if item.worker else ()
    if details.get("expired"):
        return ("It did not run: it had expired when a worker came to it", *where, ".")
    if details.get("terminated") or item.started_at is not None:
        return ("It was terminated while it ran", *where, ".")
    return ("It was revoked before it ran, and was dropped", *where, ".")


def _unknown_there(case: Case) -> Told:
    assert case.task is not None
    item = case.task.item
    worker = the_worker(item.worker) if item.worker else "the worker that took it"
    said: Said = ("It did not run: ", worker, f" knows no task named {item.type or 'so'}.")
    lead: Said = (
        "An opsq worker sets such a message aside, in quarantine, until it is released; Celery's throws it away.",
    )
    proof = Proof(f"{words.short_host(item.worker or 'a worker')} answered NotRegistered", item.exception or "")
    return Told(said=said, lead=lead, proofs=(proof,), waits=True, cause=UNKNOWN_NAME)


def runs(case: Case) -> Told:
    """It has a slot: for how long, against what is usual."""
    assert case.task is not None
    if _let_go(case):
        return _no_longer(case)
    item, node, usual = case.task.item, case.holder, case.usual_of(case.type)
    since_at = next(
        (one.since_at for one in (node.running or () if node else ()) if one.id == case.id), item.started_at
    )
    lasts_s = max(0.0, case.now - since_at) if since_at is not None else None
    where: Said = (" on ", the_worker(node.name)) if node is not None else ()
    lasts = f", for {words.duration(lasts_s)}" if lasts_s is not None else ""
    if usual is None or lasts_s is None:
        return Told(
            said=(
                "It runs",
                *where,
                f"{lasts}. How long its type usually runs is not known.",
            )
        )
    measure = f"usually {words.duration(usual.p50_s)}, 95 % end within {words.duration(usual.p95_s)}"
    rows = tuple(row for row in rows_of(case, (node,)) if row.task == case.id) if node is not None else ()
    if lasts_s <= usual.p95_s:
        return Told(
            said=(
                "It runs",
                *where,
                f"{lasts}; {measure}.",
            )
        )
    late = Proof("It runs longer than 95 % of its type", f"{words.duration(lasts_s)}, {measure}.", rows)
    lead: Said = ("`opsq inspect stack` shows in which line of its code it is.",)
    return Told(
        said=(
            "It runs",
            *where,
            f"{lasts}, longer than it should: {measure}.",
        ),
        lead=lead,
        proofs=(late,),
    )


def _let_go(case: Case) -> bool:
    """Whether the worker that has it by its events answers that it has it no longer."""
    node = case.holder
    if node is None or node.running is None or not node.answered or case.answered_after_s < SETTLES_S:
        return False
    return not node.lists(case.id)


def _no_longer(case: Case) -> Told:
    assert case.holder is not None
    said: Said = ("By its events ", the_worker(case.holder.name), " has it, but it answers that it has it no longer.")
    return Told(
        said=said,
        lead=("What became of it has not been heard: the next event is on its way, or was lost.",),
        waits=True,
    )


def open_question(case: Case, verdicts: tuple[Verdict, ...]) -> Told:
    """No cause holds: it is about to start, it is nowhere, or too little is known."""
    if case.task is None:
        return _of_queue(case)
    if case.where == WORKER and _let_go(case):
        return _no_longer(case)
    unknown = [each for each in verdicts if each.found.answer == UNKNOWN]
    age_s = case.now - case.task.item.at
    if case.stored is not None and case.stored in states.READY_STATES:
        return Told(said=(f"It has ended: the result store says {case.stored}, though no event told so.",))
    if case.where == BROKER and age_s > FRESH_S and case.line is not None and case.line.ready == 0 and not unknown:
        said: Said = ("Where it is, is not known: ", queue_named(case), " is empty, and no worker has it.")
        lead: Said = ("It may have been purged, or taken by a worker that tells nobody. Events of it may be missing.",)
        return Told(said=said, lead=lead, waits=True)
    if unknown:
        names = ", ".join(each.title[:1].lower() + each.title[1:] for each in unknown)
        lead = (f"Could not be checked: {names}.",)
        return Told(said=("Why it waits is not known.",), lead=lead, waits=True)
    free = sum(max(0, (node.slots or 0) - (node.busy_slots or 0)) for node in case.consumers)
    if free:
        said = (f"Nothing holds it: {words.plural(free, 'slot')} of ", queue_named(case),
                f" {'is' if free == 1 else 'are'} free, so it should start at once.")  # fmt: skip
        return Told(said=said, waits=age_s > FRESH_S)
    return Told(said=("Nothing that was checked holds it.",), lead=(f"Published {words.ago(age_s)}.",), waits=True)


def _of_queue(case: Case) -> Told:
    line = case.line
    assert line is not None
    if line.ready == 0:
        return Told(said=("Nothing waits in ", queue_named(case), "."))
    if line.ready is None:
        return Told(said=("How much waits in ", queue_named(case), " is not known."), waits=True)
    waits = f"{words.plural(line.ready, 'task')} {'waits' if line.ready == 1 else 'wait'} in "
    return Told(said=(waits, queue_named(case), " and nothing holds them back."))


def story_of(case: Case, verdicts: tuple[Verdict, ...]) -> Told:
    """The sentence for a case that no cause explains."""
    if case.where == ENDED:
        return ended(case)
    return runs(case) if case.where == SLOT else open_question(case, verdicts)
