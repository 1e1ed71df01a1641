"""The three events of an ordinary run as records: what is announced most, made and written fastest.

A record costs a third of a dict to build and to encode, and is built by position, which takes a fifth of
what keywords take. Field names are those of ``EVENT_KINDS`` (a test compares them); ours are left out of
the JSON when they are None. ``clock`` and ``seq`` are set when the record is sent.
"""

from __future__ import annotations

import msgspec

from opsq.core.pools.base import Outcome
from opsq.core.worker.ledger import Entry
from opsq.wire.content import JSON_MIME


class Sender(msgspec.Struct, frozen=True):
    """Who announces: the fields that every event of one emitter shares. version: of the code that runs there."""

    hostname: str
    pid: int
    utcoffset: float
    emitter: str
    version: str | None = None


NOT_YET = 0
"""A number that is given when the event is sent."""


class TaskEvent(msgspec.Struct, gc=False, omit_defaults=True, tag_field="type"):
    """What every event has. Times in epoch seconds."""

    uuid: str
    timestamp: float
    hostname: str
    pid: int
    utcoffset: float
    emitter: str
    clock: int
    seq: int


class TaskReceived(TaskEvent, tag="task-received", gc=False):
    """``task-received``."""

    name: str
    args: str | None
    kwargs: str | None
    root_id: str | None
    parent_id: str | None
    retries: int
    eta: str | None
    expires: str | None
    queue: str | None = None
    routing_key: str | None = None
    published_at: float | None = None
    delivered_at: float | None = None
    attempt: int | None = None
    payload: str | None = None
    complete: bool | None = None


class TaskStarted(TaskEvent, tag="task-started", gc=False):
    """``task-started``."""

    name: str | None = None
    queue: str | None = None
    slot_at: float | None = None
    attempt: int | None = None
    pool: str | None = None
    child_pid: int | None = None
    version: str | None = None


class TaskSucceeded(TaskEvent, tag="task-succeeded", gc=False):
    """``task-succeeded``."""

    result: str | None
    runtime: float
    name: str | None = None
    queue: str | None = None
    routing_key: str | None = None
    attempt: int | None = None
    published_at: float | None = None
    delivered_at: float | None = None
    slot_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    acked_at: float | None = None
    cpu_s: float | None = None
    rss_bytes: int | None = None
    pool: str | None = None
    child_pid: int | None = None


def received(entry: Entry, by: Sender) -> TaskReceived:
    """Say that the worker took a delivery."""
    headers, job = entry.headers, entry.job
    readable = job.content_type == JSON_MIME and headers.compression is None and headers.task == job.task
    shown = entry.policy.payload.shown(headers.argsrepr, headers.kwargsrepr, job.body if readable else None)
    return TaskReceived(
        headers.id,
        entry.received_at,
        by.hostname,
        by.pid,
        by.utcoffset,
        by.emitter,
        NOT_YET,
        NOT_YET,
        headers.shadow or headers.task,  # name
        shown.args,
        shown.kwargs,
        headers.root_id,
        headers.parent_id,
        headers.retries,
        headers.eta,
        headers.expires,
        entry.queue,
        entry.job.delivery_info["routing_key"],
        published_at(entry),
        entry.received_at,  # delivered_at
        headers.retries + 1,  # attempt
        shown.payload,
        shown.complete,
    )


def started(entry: Entry, at: float, pool: str, by: Sender) -> TaskStarted:
    """Say that a slot took a job at ``at``."""
    headers = entry.headers
    return TaskStarted(
        headers.id,
        at,
        by.hostname,
        by.pid,
        by.utcoffset,
        by.emitter,
        NOT_YET,
        NOT_YET,
        headers.shadow or headers.task,  # name
        entry.queue,
        at,  # slot_at
        headers.retries + 1,  # attempt
        pool,
        entry.pid,  # child_pid
        by.version,
    )


def succeeded(
    entry: Entry, outcome: Outcome, acked_at: float | None, now: float, pool: str, by: Sender
) -> TaskSucceeded:
    """Say that a run succeeded, once that is settled."""
    headers = entry.headers
    return TaskSucceeded(
        headers.id,
        now,
        by.hostname,
        by.pid,
        by.utcoffset,
        by.emitter,
        NOT_YET,
        NOT_YET,
        outcome.result_repr,  # result
        outcome.runtime_s,  # runtime
        headers.shadow or headers.task,  # name
        entry.queue,
        entry.job.delivery_info["routing_key"],
        headers.retries + 1,  # attempt
        published_at(entry),
        entry.received_at,  # delivered_at
        entry.started_at,  # slot_at
        outcome.started_at,
        outcome.finished_at,
        acked_at,
        outcome.cpu_s,
        outcome.rss_bytes,
        pool,
        outcome.pid,  # child_pid
    )


def published_at(entry: Entry) -> float | None:
    """When the client published it, by its own header; None when that is not a time."""
    value = entry.headers.user.get("opsq_published_at")
    return value if type(value) is float else None
