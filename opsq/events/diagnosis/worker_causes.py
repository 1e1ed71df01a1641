"""Causes that hold a task with a worker: it waits for its time, its rate or a slot there, or its worker died. Pure."""

from __future__ import annotations

from typing import Final

from opsq import words
from opsq.events.diagnosis.answers import per_s
from opsq.events.diagnosis.case import BROKER, ENDED, GONE, SETTLES_S, SLOT, Case, Node
from opsq.events.diagnosis.queue_causes import named
from opsq.events.diagnosis.records import NO, UNKNOWN, YES, Finding, Proof, Ref, Said, the_type, the_worker
from opsq.events.diagnosis.slot_causes import MOST_ROWS, rows_of, running_there, soonest
from opsq.events.workers import LATE

DIED: Final = "worker-died"
ETA: Final = "eta"
RATE: Final = "rate-limit"
PREFETCHED: Final = "prefetched"
SOLO: Final = "solo"
CELERY_VISIBILITY_S: Final = 3_600.0


def worker_of(case: Case) -> tuple[Ref, Node] | None:
    """The worker that has it, for a sentence."""
    return None if case.holder is None else (the_worker(case.holder.name), case.holder)


# -- its worker died ---------------------------------------------------------------------------------------------------


def worker_died(case: Case) -> Finding:
    """Is the worker that has it still there, and the same process?"""
    if case.where == BROKER:
        again = case.task is not None and len(case.task.tries) > 1
        return Finding(NO, "no: it is back in its queue" if again else "no: never delivered")
    if case.where == ENDED:
        return Finding(NO, "no: it has ended")
    node = case.holder
    if node is None:
        return Finding(UNKNOWN, "unknown: which worker has it was not told")
    silent_s = case.now - node.last_seen_at if node.last_seen_at is not None else None
    heard = f"heard last {words.ago(silent_s)}" if silent_s is not None else "never heard"
    if node.pool == SOLO and not node.ours and not node.answered and case.where == SLOT:
        return Finding(UNKNOWN, "unknown: Celery's solo pool neither beats nor answers while a task runs")
    if node.status in GONE and not node.answered:
        return _died(case, node, f"{node.status}, {heard}")
    if _replaced(case, node):
        return _died(case, node, f"started anew {words.ago(case.now - (node.replaced_at or case.now))}")
    if node.answered:
        return Finding(NO, f"no: {words.short_host(node.name)} answers")
    if node.answered is False and node.status == LATE:
        return _died(case, node, f"{heard}, and did not answer")
    if node.answered is False:
        return Finding(UNKNOWN, f"unknown: it did not answer, and was {heard}")
    return Finding(UNKNOWN if node.status == LATE else NO, f"{'unknown: ' if node.status == LATE else 'no: '}{heard}")


def _replaced(case: Case, node: Node) -> bool:
    """Whether this process of the worker began after the task was given to the one before."""
    if case.task is None or node.replaced_at is None or node.lists(case.id):
        return False
    tries = case.task.tries
    taken_at = max((one.started_at or one.slot_at or one.delivered_at or 0.0 for one in tries), default=0.0)
    return 0.0 < taken_at < node.replaced_at - 0.5


def _died(case: Case, node: Node, text: str) -> Finding:
    doing = "ran" if case.where == SLOT else "held"
    said: Said = ("The worker that ", f"{doing} it, ", the_worker(node.name), ", died or hangs: ", text, ".")
    return Finding(YES, f"{words.short_host(node.name)}: {text}", said=said, lead=_what_next(case, node),
        proofs=(
            Proof(f"{words.short_host(node.name)} {doing} it, and is silent", _first_upper(text) + "."),
            Proof("What happens next", "".join(_comes_back(case, node))),
        ),
    )  # fmt: skip


def _what_next(case: Case, node: Node) -> Said:
    others = [each for each in case.consumers if each.name != node.name]
    if others:
        return (_comes_back(case, node), " ", the_worker(others[0].name), " takes from the queue, too.")
    return (_comes_back(case, node), " No other worker takes from its queue, so somebody has to start one.")


def _comes_back(case: Case, node: Node) -> str:
    """When the broker gives the message to somebody else."""
    early = "" if case.where != SLOT else (
        " If it is acknowledged before it runs (task_acks_late off, Celery's default), it is lost instead."
    )  # fmt: skip
    if case.driver == "amqp":
        return "The broker gives it back as soon as the worker's connection ends." + early
    if node.ours is False:
        whole = words.duration(CELERY_VISIBILITY_S)
        return f"It comes back to its queue after the visibility time-out, {whole} by default." + early
    if case.driver in ("redis", "sqlite", ""):
        silent_s = case.now - node.last_seen_at if node.last_seen_at is not None else 0.0
        left_s = max(0.0, case.lease_s - silent_s)
        when = f"in {words.duration(left_s)} at the latest" if left_s else "now: its lease is over"
        soon = {
            "redis": "when Redis misses its connection for 5 s",
            "sqlite": "when its process is gone from this host",
        }
        sooner = f", sooner {soon[case.driver]}" if case.driver in soon and left_s else ""
        return f"A worker of its queue takes it back {when}{sooner}." + early
    return "It comes back to its queue when the broker gives the dead worker's messages up." + early


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


# -- it waits for its time ---------------------------------------------------------------------------------------------


def held_for_eta(case: Case) -> Finding:
    """Is it too early for it?"""
    if case.where in (SLOT, ENDED):
        return Finding(NO, "no: it was not too early")
    eta_at = case.eta_at
    if eta_at is None:
        return Finding(NO, "no: it has none")
    left_s = eta_at - case.now
    if left_s <= 0:
        return Finding(NO, f"no: its time came {words.ago(-left_s)}")
    found = worker_of(case)
    clock = f"{words.clock_seconds(eta_at)} UTC"
    by: Said = (" by ", found[0]) if found is not None else (" in its queue",)
    retry = case.state == "RETRY" or (case.task is not None and case.task.item.retries > 0)
    why = "for its next try" if retry else "for its ETA"
    said: Said = (f"It is held {why}", *by, f": it starts in {words.duration(left_s)}, at {clock} at the earliest.")
    proof = Proof(f"It must not start before {clock}", _kept_by(case, found[1] if found is not None else None))
    return Finding(YES, f"until {clock}, in {words.duration(left_s)}", said=said, proofs=(proof,))


def _kept_by(case: Case, node: Node | None) -> str:
    if node is None:
        return "No worker has taken it yet; the one that does holds it until then."
    listed = node.waiting is not None and any(one.id == case.id for one in node.waiting)
    name = words.short_host(node.name)
    return f"{name} lists it among those it holds." if listed else f"{name} took it, by its events."


# -- it waits for its rate ---------------------------------------------------------------------------------------------


def rate_limited(case: Case) -> Finding:
    """Does its worker hold it for the rate of its type?"""
    node, type_name = case.holder, case.type
    if case.where in (SLOT, ENDED):
        return Finding(NO, "no: it was not held back")
    limits = {limit for each in case.consumers if (limit := _limit(each, type_name)) is not None}
    if case.where == BROKER:
        if not any(each.registered is not None for each in case.consumers):
            return Finding(UNKNOWN, "unknown: no worker of its queue answered")
        return Finding(NO, f"not yet: {', '.join(sorted(limits))} on this type" if limits else "no: none on this type")
    if node is None or not node.answered:
        return Finding(UNKNOWN, "unknown: its worker did not answer")
    limit, mine = _limit(node, type_name), _rated(case, node)
    if mine is not None and not _paused_type(case):
        return _limited(case, node, limit, *mine)
    nowhere = not node.lists(case.id) and case.answered_after_s > SETTLES_S
    if limit is not None and nowhere and node.ours is False:
        # A Celery worker names those that wait for a rate nowhere.
        return _limited(case, node, limit, None, None)
    return Finding(NO, f"no: {limit} on this type, and it is let through" if limit else "no: none on this type")


def _limit(node: Node, type_name: str | None) -> str | None:
    return (node.registered or {}).get(type_name) if type_name is not None else None


def _rated(case: Case, node: Node) -> tuple[int, int] | None:
    """(place, how many) among those of its type that wait there without a time."""
    mine = [one.id for one in node.waiting or () if one.eta_at is None and one.type == case.type]
    return (mine.index(case.id) + 1, len(mine)) if case.id in mine else None


def _paused_type(case: Case) -> bool:
    return case.orders.type_paused is not None or any(f"task {case.type}" in node.paused for node in case.nodes)


def _limited(case: Case, node: Node, limit: str | None, place: int | None, of: int | None) -> Finding:
    assert case.type is not None
    pace = per_s(limit)
    bound = f" to {limit}" if limit else ""
    said: Said = (
        "Its type ",
        the_type(case.type),
        f" is limited{bound} on ",
        the_worker(node.name),
        ", which holds it back.",
    )
    lead: Said = ()
    if place is not None:
        when = f" It starts in about {words.duration(place / pace)}." if pace else ""
        lead = (f"{words.short_ordinal(place)} of {of} in line for this rate.{when}",)
    told = "It lists it among those it holds, without a time." if place is not None else (
        "It took it and lists it nowhere, as a Celery worker does with what waits for its rate."
    )  # fmt: skip
    proofs = (
        Proof(
            f"{words.short_host(node.name)} starts {words.short_name(case.type)} at most {limit or 'so often'}",
            told,
        ),
    )
    return Finding(YES, limit or "held for a rate", said=said, lead=lead, proofs=proofs)


# -- it waits for a slot of its worker ---------------------------------------------------------------------------------


def prefetched(case: Case) -> Finding:
    """Has a worker taken it that has no slot for it?"""
    node = case.holder
    if case.where == BROKER:
        silent = [*case.silent, *(each for each in case.consumers if each.answered is False)]
        if silent:
            return Finding(UNKNOWN, f"unknown: {named(silent)} {'is' if len(silent) == 1 else 'are'} silent")
        return Finding(NO, "no: no worker has it")
    if case.where in (SLOT, ENDED):
        return Finding(NO, "no: it was given a slot")
    if node is None:
        return Finding(UNKNOWN, "unknown: which worker has it was not told")
    if case.eta_at is not None and case.eta_at > case.now:
        return Finding(NO, "no: it waits for its time")
    if node.reserved is None:
        why = "did not answer" if node.answered is False else "was not asked since it took it"
        return Finding(UNKNOWN, f"unknown: {words.short_host(node.name)} {why}")
    if not any(one.id == case.id for one in node.reserved):
        return Finding(NO, "no: it is not among what its worker has ready")
    return _prefetched(case, node)


def _prefetched(case: Case, node: Node) -> Finding:
    name, rows = words.short_host(node.name), rows_of(case, (node,))
    ids = [one.id for one in node.reserved or ()]
    place = ids.index(case.id) + 1 if case.id in ids else None
    first = soonest(case, node)
    slots = f"its {words.plural(node.slots, 'slot')}" if node.slots and node.slots > 1 else "its only slot"
    behind: Said = (" behind ", *running_there(first, on=False), f" in {slots}.") if first is not None else (".",)
    nth = f"{words.short_ordinal(place)} of {len(ids)}" if place is not None else ""
    heading = f"{name} runs {len(rows)}, and holds {words.plural(len(ids), 'task')} ready"
    return Finding(YES, f"by {name}" + (f", {nth} there" if nth else ""),
        said=("Worker ", the_worker(node.name), " has taken it and holds it", *behind),
        lead=(*((f"{nth} it holds ready.",) if nth else ()), *_idling(case, node)),
        proofs=(Proof(heading, "", tuple(rows[:MOST_ROWS])),),
    )  # fmt: skip


def _idling(case: Case, node: Node) -> Said:
    """The worker that could have taken it instead."""
    idle = next((each for each in case.consumers if each.name != node.name and _free(each)), None)
    if idle is None:
        return ()
    return (" Meanwhile ", the_worker(idle.name), f" has {words.plural(_free(idle), 'free slot')}.")


def _free(node: Node) -> int:
    return max(0, (node.slots or 0) - (node.busy_slots or 0)) if node.slots is not None else 0
