"""What is announced about a run that ended in any other way than success, as fields. Pure."""

from __future__ import annotations

from typing import Any

from opsq.core.pools.base import Outcome
from opsq.core.worker.event_records import published_at
from opsq.core.worker.ledger import Entry

Announcement = tuple[str, dict[str, Any]]


def ending_events(
    entry: Entry, outcome: Outcome, acked_at: float | None, now: float, pool: str
) -> tuple[Announcement, ...]:
    """What to announce about an attempt that has been settled and is no success, in order.

    acked_at: when the broker took the settlement; None when there was none to give.
    """
    headers, state = entry.headers, outcome.state
    fields: dict[str, Any] = {
        "uuid": headers.id,
        "timestamp": now,
        "name": headers.shadow or headers.task,
        "queue": entry.queue,
        "routing_key": entry.job.delivery_info["routing_key"],
        "attempt": headers.retries + 1,
        "published_at": published_at(entry),
        "delivered_at": entry.received_at,
        "slot_at": entry.started_at,
        "started_at": outcome.started_at,
        "finished_at": outcome.finished_at,
        "acked_at": acked_at,
        "cpu_s": outcome.cpu_s,
        "rss_bytes": outcome.rss_bytes,
        "pool": pool,
        "child_pid": outcome.pid,
    }
    if state == "REVOKED":
        fields.update(terminated=outcome.cause == "terminated", signum=outcome.signum, expired=outcome.expired)
        return (("task-revoked", fields),)
    if state == "IGNORED":
        return (("task-ignored", fields),)
    if state == "UNVERIFIED":  # another call may be running under this id
        return (("task-rejected", {**fields, "requeue": False, "exception": outcome.exception_repr}),)
    if outcome.requeue or outcome.settle == "requeue":  # here again, or elsewhere
        return (("task-rejected", {**fields, "requeue": True, "exception": outcome.exception_repr}),)
    fields.update(exception=outcome.exception_repr, traceback=outcome.traceback, fingerprint=outcome.fingerprint)
    if state == "RETRY":
        return (("task-retried", fields),)
    if entry.set_aside:
        rejected = {**fields, "requeue": False, "quarantined": entry.set_aside}
        return (("task-failed", fields), ("task-rejected", rejected))
    if outcome.settle == "reject" and state != "FAILURE":
        return (("task-failed", fields), ("task-rejected", {**fields, "requeue": False}))
    return (("task-failed", fields),)
