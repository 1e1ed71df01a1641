"""Outcomes that a pool itself has to write, because no runner lived to do so."""

from __future__ import annotations

import os

from opsq.core.pools.base import Job, Outcome


def cancelled_before_start(job: Job, now: float) -> Outcome:
    """Say that ``job`` was taken back while it waited for a slot."""
    return Outcome(
        key=job.key,
        id=job.id,
        state="REVOKED",
        settle="ack",
        started_at=now,
        finished_at=now,
        runtime_s=0.0,
        pid=os.getpid(),
        exception_repr="TaskRevokedError('revoked')",
        cause="cancelled",
    )


def terminated(job: Job, started_at: float, now: float, pid: int, signum: int | None = None) -> Outcome:
    """Say that ``job`` was stopped while it ran, because somebody asked for it."""
    return Outcome(
        key=job.key,
        id=job.id,
        state="REVOKED",
        settle="ack",
        started_at=started_at,
        finished_at=now,
        runtime_s=now - started_at,
        pid=pid,
        exception_repr=f"Terminated({signum})",
        cause="terminated",
        signum=signum,
    )


def hard_limit_passed(job: Job, started_at: float, now: float, pid: int) -> Outcome:
    """Say that ``job`` was stopped because its hard time limit had passed."""
    return Outcome(
        key=job.key,
        id=job.id,
        state="FAILURE",
        settle="ack",
        started_at=started_at,
        finished_at=now,
        runtime_s=now - started_at,
        pid=pid,
        exception_repr=f"TimeLimitExceeded({job.hard_limit_s})",
        cause="hard_limit",
    )


def soft_limit_passed(job: Job, started_at: float, now: float) -> Outcome:
    """Say that the soft time limit struck outside of the task's own code, so that nobody knows how far it came."""
    return Outcome(
        key=job.key,
        id=job.id,
        state="FAILURE",
        settle="ack",
        started_at=started_at,
        finished_at=now,
        runtime_s=now - started_at,
        pid=os.getpid(),
        exception_repr=f"SoftTimeLimitExceeded({job.soft_limit_s})",
        cause="soft_limit",
    )


def process_died(job: Job, started_at: float, now: float, pid: int, how: str, code: int | None) -> Outcome:
    """Say that the process under ``job`` died; ``how`` is a sentence, ``code`` its exit code or minus a signal."""
    return Outcome(
        key=job.key,
        id=job.id,
        state="FAILURE",
        settle="ack",
        started_at=started_at,
        finished_at=now,
        runtime_s=now - started_at,
        pid=pid,
        exception_repr=f"WorkerLostError({how!r})",
        cause="lost",
        signum=None if code is None else abs(code),
        exit_code=code if code is not None and code >= 0 else None,
    )


def runner_broke(job: Job, started_at: float, now: float, exc: BaseException) -> Outcome:
    """Say that the runner raised, which it promises not to: a bug of ours, not of the task."""
    return Outcome(
        key=job.key,
        id=job.id,
        state="FAILURE",
        settle="reject",
        started_at=started_at,
        finished_at=now,
        runtime_s=now - started_at,
        pid=os.getpid(),
        exception_repr=f"{type(exc).__name__}: internal error while the task was run",
        cause="internal",
    )
