"""Messages set aside with the evidence of what they did: how they are written, and read again. Pure.

A quarantined message is the original one, body and headers untouched, on another queue, with one more
header that says why, when and by whom, where it came from, and each death of a process it cost. So it
can be put back exactly as it was. Whatever is read here may be a peer's: nothing in it is believed
beyond its type, and nothing raises.
"""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from opsq.broker.message import Delivery, OutMessage
from opsq.broker.topology import queue_named
from opsq.core.pools.base import Job, Outcome

DEATHS_HEADER: Final = "opsq_deaths"
"""How many processes a message has cost; counted by the main process, carried by the message."""

DEATH_LOG_HEADER: Final = "opsq_death_log"
"""What is known of each of them, oldest first."""

EVIDENCE_HEADER: Final = "opsq_quarantine"

OURS: Final = frozenset({DEATHS_HEADER, DEATH_LOG_HEADER, EVIDENCE_HEADER})
DEATHS_KEPT: Final = 16
_TEXT_MAX: Final = 1024
_ROUTED_BY: Final = frozenset({"CC", "BCC"})  # RabbitMQ would send copies to these as well
_BROKERS: Final = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
_HOW = re.compile(r"^WorkerLostError\((['\"])(.*)\1\)$", re.DOTALL)


class Death(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process that died while it ran the message. at: epoch seconds. One of signal and exit_code."""

    at: float
    how: str
    pid: int = 0
    signal: int | None = None
    exit_code: int | None = None
    worker: str = ""
    host: str = ""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message was set aside. kind: ``poison``, ``malformed``, ``untrusted`` or ``unknown``.

    id: the task's when it has one. exchange, routing_key, queue: where it came from. expiration: what
    it had, in milliseconds as text; left out meanwhile, or it would vanish. at: epoch seconds.
    """

    id: str
    kind: str
    reason: str
    at: float
    task: str | None = None
    worker: str = ""
    host: str = ""
    exchange: str = ""
    routing_key: str = ""
    queue: str | None = None
    expiration: str | None = None
    deaths: list[Death] = []


def death_of(outcome: Outcome, worker: str) -> Death:
    """Describe the death that a pool reported."""
    text = outcome.exception_repr or "the process that ran the task died"
    said = _HOW.match(text)
    exited = outcome.exit_code is not None
    return Death(
        at=outcome.finished_at,
        how=(said.group(2) if said else text)[:_TEXT_MAX],
        pid=outcome.pid,
        signal=None if exited else outcome.signum,
        exit_code=outcome.exit_code,
        worker=worker,
        host=socket.gethostname(),
    )


def deaths_of(headers: Mapping[str, Any]) -> int:
    """How many processes a message has cost so far, by its own header."""
    deaths = headers.get(DEATHS_HEADER, 0)
    return deaths if type(deaths) is int and deaths >= 0 else 0


def death_log(headers: Mapping[str, Any]) -> list[Death]:
    """What its headers say about them; what is no such record is left out."""
    log = headers.get(DEATH_LOG_HEADER)
    return _deaths(log) if isinstance(log, list) else []


def with_death(headers: Mapping[str, Any], death: Death) -> dict[str, Any]:
    """Headers that count one death more."""
    log = [*death_log(headers), death][-DEATHS_KEPT:]
    return {
        **headers,
        DEATHS_HEADER: deaths_of(headers) + 1,
        DEATH_LOG_HEADER: [msgspec.to_builtins(each) for each in log],
    }


def evidence_for(
    message: Job | Delivery, kind: str, reason: str, worker: str, queue: str | None, id: str | None, task: str | None
) -> Evidence:
    """Collect the evidence about ``message``."""
    source = message.delivery_info if isinstance(message, Job) else None
    expiration = message.properties.get("expiration")
    return Evidence(
        id=id or str(uuid.uuid4()),
        kind=kind,
        reason=reason[:_TEXT_MAX],
        at=time.time(),
        task=task,
        worker=worker,
        host=socket.gethostname(),
        exchange=str((source["exchange"] if source else getattr(message, "exchange", "")) or ""),
        routing_key=str((source["routing_key"] if source else getattr(message, "routing_key", "")) or ""),
        queue=queue,
        expiration=None if expiration is None else str(expiration),
        deaths=death_log(message.headers),
    )


def set_aside(message: Job | Delivery, evidence: Evidence, queue: str) -> OutMessage:
    """The message as it is put on the quarantine ``queue``."""
    headers = {key: value for key, value in message.headers.items() if key not in _ROUTED_BY}
    headers[EVIDENCE_HEADER] = msgspec.to_builtins(evidence)
    return OutMessage(
        body=message.body,
        content_type=message.content_type or "",
        content_encoding=message.content_encoding or "",
        headers=headers,
        properties={key: value for key, value in message.properties.items() if key != "expiration"},
        routing_key=queue,
        declare=queue_named(queue),
    )


def evidence_in(delivery: Delivery) -> Evidence:
    """Read the evidence of a message from the quarantine; one without any gets what can be seen."""
    raw = delivery.headers.get(EVIDENCE_HEADER)
    try:
        return msgspec.convert(raw, Evidence)
    except msgspec.ValidationError as exc:
        told, task = delivery.headers.get("id"), delivery.headers.get("task")
        return Evidence(
            id=told if isinstance(told, str) and told else f"tag-{delivery.tag}",
            kind="unexplained",
            reason=f"the message carries no readable evidence: {exc}"[:_TEXT_MAX],
            at=0.0,
            task=task if isinstance(task, str) else None,
            deaths=death_log(delivery.headers),
        )


def released(delivery: Delivery, evidence: Evidence) -> OutMessage | None:
    """The message as it was before, its deaths forgotten; None when nothing says where it came from."""
    if not evidence.routing_key and not evidence.exchange and not evidence.queue:
        return None
    properties = dict(delivery.properties)
    if evidence.expiration is not None:
        properties["expiration"] = evidence.expiration
    # By name to the queue it was taken from: by its exchange, others that are bound there would get it again.
    to_queue = evidence.queue is not None
    return OutMessage(
        body=delivery.body,
        content_type=delivery.content_type or "",
        content_encoding=delivery.content_encoding or "",
        headers={key: value for key, value in delivery.headers.items() if key not in OURS and not _is_brokers(key)},
        properties=properties,
        exchange="" if to_queue else evidence.exchange,
        routing_key=evidence.queue if evidence.queue is not None else evidence.routing_key,
    )


def message_again(job: Job, headers: Mapping[str, Any]) -> OutMessage:
    """The message of ``job``, to where it came from, with more ``headers``."""
    info = job.delivery_info
    own = {key: value for key, value in job.headers.items() if not _is_brokers(key)}
    return OutMessage(
        body=job.body,
        content_type=job.content_type,
        content_encoding=job.content_encoding,
        headers={**own, **headers},
        properties=job.properties,
        exchange=info.get("exchange") or "",
        routing_key=info.get("routing_key") or "",
    )


def _is_brokers(header: str) -> bool:
    """Whether a header is the broker's own note about a delivery, such as ``x-death``."""
    return header.startswith(_BROKERS)


def _deaths(log: list[Any]) -> list[Death]:
    found = []
    for raw in log[-DEATHS_KEPT:]:
        try:
            found.append(msgspec.convert(raw, Death))
        except msgspec.ValidationError:
            continue  # a peer's own idea of this header
    return found
