"""Outcomes that a pool itself has to write, because no runner lived to do so."""

from __future__ import annotations

import os
from typing import Any

from opsq.core.pools.base import Job, Outcome


def cancelled_before_start(job: Job, now: float) -> Outcome:
    """Say that ``job`` was taken back while it waited for a slot."""
    return _ended(job, now, now, os.getpid(), "cancelled", "TaskRevokedError('revoked')", state="REVOKED")


def terminated(job: Job, started_at: float, now: float, pid: int, signum: int | None = None) -> Outcome:
    """Say that ``job`` was stopped while it ran, because somebody asked for it."""
    said = f"Terminated({signum})"
    return _ended(job, started_at, now, pid, "terminated", said, state="REVOKED", signum=signum)


def hard_limit_passed(job: Job, started_at: float, now: float, pid: int) -> Outcome:
    """Say that ``job`` was stopped because its hard time limit had passed."""
    return _ended(job, started_at, now, pid, "hard_limit", f"TimeLimitExceeded({job.hard_limit_s})")


def soft_limit_passed(job: Job, started_at: float, now: float) -> Outcome:
    """Say that the soft time limit struck before the task's own code was reached."""
    said = f"SoftTimeLimitExceeded({job.soft_limit_s})"
    return _ended(job, started_at, now, os.getpid(), "soft_limit", said)


def process_died(job: Job, started_at: float, now: float, pid: int, how: str, code: int | None) -> Outcome:
    """Say that the process under ``job`` died; ``how`` is a sentence, ``code`` its exit code or minus a signal."""
    return _ended(
        job,
        started_at,
        now,
        pid,
        "lost",
        f"WorkerLostError({how!r})",
        signum=None if code is None else abs(code),
        exit_code=code if code is not None and code >= 0 else None,
    )


def runner_broke(job: Job, started_at: float, now: float, exc: BaseException) -> Outcome:
    """Say that the runner raised, which it promises not to: a bug of ours, not of the task."""
    said = f"{type(exc).__name__}: internal error while the task was run"
    return _ended(job, started_at, now, os.getpid(), "internal", said, settle="reject")


def _ended(job: Job, started_at: float, now: float, pid: int, cause: str, said: str, **more: Any) -> Outcome:
    return Outcome(
        key=job.key,
        id=job.id,
        started_at=started_at,
        finished_at=now,
        runtime_s=now - started_at,
        pid=pid,
        exception_repr=said,
        cause=cause,
        **{"state": "FAILURE", "settle": "ack", **more},
    )
