"""Causes that hold a task in its queue: nobody takes from it, everybody is busy, somebody said no. Pure.

Each check looks at a case and gives its verdict; what it would need and does not know makes it ``unknown``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opsq import words
from opsq.broker.standing import StandingOrder
from opsq.events.diagnosis.case import BROKER, ENDED, GONE, SLOT, WORKER, Case, Node
from opsq.events.diagnosis.records import (
    NO,
    UNKNOWN,
    YES,
    Finding,
    Proof,
    Ref,
    Said,
    the_queue,
    the_type,
)

REVOKED: Final = "revoked"
PAUSED: Final = "paused"
UNKNOWN_NAME: Final = "unknown-name"
NO_CONSUMER: Final = "no-consumer"


def queue_named(case: Case) -> str | Ref:
    """The queue in a sentence."""
    return the_queue(case.line.name) if case.line is not None else "its queue"


def named(nodes: Sequence[Node]) -> str:
    """Workers by name, at most three of them."""
    names = [words.short_host(node.name) for node in nodes]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# -- somebody said no --------------------------------------------------------------------------------------------------


def revoked(case: Case) -> Finding:
    """Has somebody revoked it, or has its time passed?"""
    order = case.orders.revoked
    knowing = [node for node in case.nodes if node.revoked]
    if case.state == "REVOKED":
        return Finding(YES, "by the worker that dropped it")
    if case.where in (SLOT, ENDED):
        return Finding(NO, f"no: it {'runs' if case.where == SLOT else 'has ended'}")
    if order is not None or knowing:
        by = f"the broker keeps the order{_until(order, case.now)}" if order is not None else named(knowing)
        said: Said = ("It was revoked: the worker that comes to it will drop it.",)
        proof = Proof("A revocation of this id holds", by if order is not None else f"Known to {by}.")
        return Finding(YES, by if order is not None else f"known to {by}", said=said, proofs=(proof,))
    if case.expires_at is not None and case.expires_at <= case.now:
        at = words.clock_seconds(case.expires_at)
        return Finding(YES, f"it expired at {at} UTC",
            said=("It expired ", words.ago(case.now - case.expires_at), ": the worker that comes to it will drop it.",),
            proofs=(Proof(f"It was to run before {at} UTC", "The sender said so (expires)."),),
        )  # fmt: skip
    if not case.orders.known and not any(node.revoked is False for node in case.nodes):
        return Finding(UNKNOWN, f"unknown: {case.orders.reason}")
    return Finding(NO, "no")


def paused(case: Case) -> Finding:
    """Does a standing order hold its queue or its type back?"""
    if case.where in (SLOT, ENDED):
        return Finding(NO, "no: it was not held back")
    type_name, queue = case.type, case.line.name if case.line is not None else None
    by_type = case.orders.type_paused is not None or _heard(case, "task", type_name)
    by_queue = case.where == BROKER and (case.orders.queue_paused is not None or _heard(case, "queue", queue))
    if by_queue and queue is not None:
        until = _until(case.orders.queue_paused, case.now)
        said: Said = ("Queue ", the_queue(queue), f" is paused{until}: no worker takes from it.")
        return Finding(YES, f"queue {queue}{until}", said=said, proofs=(_pause_proof(case),))
    if by_type and type_name is not None:
        until = _until(case.orders.type_paused, case.now)
        said = (the_type(type_name), f" is paused{until}: workers begin no task of this type.")
        return Finding(YES, f"this type{until}", said=said, proofs=(_pause_proof(case),))
    if not case.orders.known and not case.nodes:
        return Finding(UNKNOWN, f"unknown: {case.orders.reason}")
    return Finding(NO, "no: neither its queue nor its type" if case.task is not None else "no")


def _heard(case: Case, kind: str, name: str | None) -> bool:
    """Whether a live worker says in its heartbeats that this is paused."""
    return name is not None and any(f"{kind} {name}" in node.paused for node in case.nodes if node.alive)


def _pause_proof(case: Case) -> Proof:
    obeying = [node for node in case.nodes if node.paused and node.alive]
    kept = case.orders.queue_paused is not None or case.orders.type_paused is not None
    keeps = "The broker keeps the order, for workers that start later too." if kept else ""
    told = f"{named(obeying)} {'obeys' if len(obeying) == 1 else 'obey'} it." if obeying else ""
    return Proof("A standing order says pause", " ".join(part for part in (keeps, told) if part))


def _until(order: StandingOrder | None, now: float) -> str:
    if order is None or order.until is None:
        return ""
    return f" for {words.duration(order.until - now)} more"


# -- nobody knows it ---------------------------------------------------------------------------------------------------


def unknown_name(case: Case) -> Finding:
    """Do the workers of its queue know a task of its name?"""
    name = case.type
    if case.where in (SLOT, WORKER):
        return Finding(NO, "no: its worker took it")
    if name is None:
        return Finding(UNKNOWN, "unknown: no event told its name")
    told = [node for node in case.consumers if node.registered is not None]
    strange = [node for node in told if name not in (node.registered or {})]
    if case.where == BROKER and told and len(strange) == len(case.consumers):
        said: Said = (
            "No worker of ", queue_named(case), " knows a task named ", the_type(name),
            ": the one that takes it will refuse it.",
        )  # fmt: skip
        proof = Proof(
            f"{words.plural(len(told), 'worker')} of the queue answered, none has it registered",
            f"{named(strange)}: {words.plural(max(len(node.registered or {}) for node in told), 'task')} registered.",
        )
        return Finding(YES, f"none of {len(told)} has it registered", said=said, proofs=(proof,))
    if strange:
        return Finding(NO, f"no, but {named(strange)} would refuse it")
    if case.where == BROKER and not told:
        reason = "no worker of its queue answered" if case.consumers else "its queue has no worker"
        return Finding(UNKNOWN, f"unknown: {reason}")
    return Finding(NO, "no: it has run" if case.where == ENDED else _all_know(told))


def _all_know(told: list[Node]) -> str:
    return f"no: {'it knows' if len(told) == 1 else 'both know' if len(told) == 2 else f'all {len(told)} know'} it"


# -- nobody takes it ---------------------------------------------------------------------------------------------------


def no_consumer(case: Case) -> Finding:
    """Does any live worker take from its queue?"""
    if case.line is None:
        return Finding(UNKNOWN, "unknown: its queue is not known")
    consumers = case.consumers
    if consumers:
        text = f"no: {words.plural(len(consumers), 'worker')} {'takes' if len(consumers) == 1 else 'take'} from it"
        return Finding(NO, text)
    if case.line.consumers:
        return Finding(NO, f"no: the broker counts {words.plural(case.line.consumers, 'consumer')}")
    silent = [node for node in case.nodes if node.alive and node.consumes is None]
    if silent:
        return Finding(UNKNOWN, f"unknown: {named(silent)} did not say what it takes from")
    if not any(node.answered for node in case.nodes) and any("asked" in each for each in case.lacks):
        return Finding(UNKNOWN, "unknown: no worker is known, and none could be asked")
    if case.where in (SLOT, ENDED):
        return Finding(NO, "no worker now, but it was taken")
    said: Said = ("No worker takes tasks from ", queue_named(case), ".")
    return Finding(YES, "nobody takes from it", said=said, proofs=_who_else(case))


def _who_else(case: Case) -> tuple[Proof, ...]:
    assert case.line is not None
    there = [node for node in case.nodes if node.alive]
    gone = [node for node in case.nodes if node.consumes and node.status in GONE]
    found = []
    if there:
        heading = f"{words.plural(len(there), 'worker')} {'is' if len(there) == 1 else 'are'} up, none takes from it"
        found.append(Proof(heading, f"{named(there)}."))
    else:
        found.append(Proof("No worker answers", "None is heard, and none answered when everybody was asked."))
    for node in gone[:3]:
        since = words.ago(case.now - node.last_seen_at) if node.last_seen_at is not None else "at an unknown time"
        found.append(
            Proof(f"{words.short_host(node.name)} took from it", f"It was heard last {since}, and is {node.status}.")
        )
    return tuple(found)
