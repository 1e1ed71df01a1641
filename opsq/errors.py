"""Every error opsq raises, in one tree.

Three questions decide the branch: whose fault is it, can it be retried, who must know?

    OpsqError
    ├─ ConfigError                the operator's; raised at boot, all faults together; exit code 2
    ├─ UsageError                 the programmer's; raised at the call site
    ├─ WireError                  the peer's
    │  ├─ MalformedMessage        bytes that are not what the protocol says
    │  ├─ UntrustedContent        a content type that is not accepted
    │  │  └─ UntrustedSignature   signed by nobody we trust, or changed since
    │  └─ NotRegistered           a task name nobody here knows
    ├─ Unavailable                the world's; retryable
    │  ├─ BrokerUnavailable
    │  ├─ BackendUnavailable
    │  └─ StoreUnavailable
    │     └─ StoreTaken            by another monitor
    ├─ RunError                   a task's
    │  ├─ TaskPredicate           raised by a task to steer its own settlement: Retry, Ignore, Reject
    │  ├─ SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError, Terminated
    │  ├─ TaskRevokedError, MaxRetriesExceededError, ChordError, ResultTimeout
    └─ LifecycleError
       ├─ StartError              a bootstep failed to start; what had started was stopped
       └─ StopTimeout             a bootstep did not stop within the deadline

Class names that Celery writes into results (``exc_type``) are Celery's own, because a Celery
client looks them up by that name; ``wire/result.py`` maps their modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the process says when it ends; listed in ``docs/cli.md``."""

    OK = 0
    FAILURE = 1
    CONFIG = 2
    USAGE = 64
    UNAVAILABLE = 69
    CANNOT_CREATE = 73


class OpsqError(Exception):
    """Base of every error that opsq raises on purpose."""

    exit_code: ExitCode = ExitCode.FAILURE


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration.

    problem: what was expected and what was found, one sentence without a final stop.
    origin: where the value came from, for example ``env OPSQ_WORKER_CONCURRENCY``.
    remedy: what to do about it; empty when the problem says it all.
    """

    problem: str
    origin: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = self.problem
        if self.origin:
            text += f" (from {self.origin})"
        if self.remedy:
            text += f"; {self.remedy}"
        return text


class ConfigError(OpsqError):
    """The configuration cannot be used; carries every fault that was found, not the first."""

    exit_code = ExitCode.CONFIG

    def __init__(self, faults: Sequence[Fault] | str) -> None:
        self.faults = (Fault(faults),) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class UsageError(OpsqError):
    """The calling code asked for something that cannot be."""

    exit_code = ExitCode.USAGE


class WireError(OpsqError):
    """A peer sent something that cannot be accepted."""


class MalformedMessage(WireError, ValueError):
    """Bytes or fields that are not what the protocol says.

    reason: what was expected and what was found.
    path: where in the document, for example ``$.embed.chain[2].task``.
    """

    def __init__(self, reason: str, path: str = "$") -> None:
        self.reason = reason
        self.path = path
        super().__init__(reason if path == "$" else f"{reason} at {path}")


class UntrustedContent(WireError):
    """A content type or encoding that this process does not accept."""

    def __init__(self, content_type: str, accepted: Sequence[str]) -> None:
        self.content_type = content_type
        self.accepted = tuple(accepted)
        super().__init__(
            f"content type {content_type!r} is not accepted here, only {', '.join(self.accepted)}; "
            "add it to accept_content if you trust everybody who can publish"
        )


class UntrustedSignature(UntrustedContent):
    """A signed message that nobody trusted has signed like this; the text says why."""

    def __init__(self, reason: str) -> None:
        super().__init__("application/data", ())
        self.reason = reason
        self.args = (reason,)


class NotRegistered(WireError, KeyError):
    """No task of this name is known in this process."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Unavailable(OpsqError):
    """Something outside this process does not answer; trying again later may help."""

    exit_code = ExitCode.UNAVAILABLE


class BrokerUnavailable(Unavailable):
    """The broker refused, dropped or did not answer."""


class BackendUnavailable(Unavailable):
    """The result store refused, dropped or did not answer."""


class StoreUnavailable(Unavailable):
    """The monitor's history store refused, dropped or did not answer."""


class StoreTaken(StoreUnavailable):
    """Another process writes this history; starting again changes nothing."""

    exit_code = ExitCode.CANNOT_CREATE


class RunError(OpsqError):
    """What befell one attempt of a task."""


class TaskPredicate(RunError):
    """Raised by a task to say how its own delivery is to be settled."""


class Retry(TaskPredicate):
    """The task runs again later.

    message: why, for people. exc: the error that caused it. when: seconds from now or an aware
    datetime. is_eager and sig: set when the retry happens in this very process.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: Any = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        self.message = message
        self.exc = exc
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(message, repr(exc) if exc is not None else None, when)

    def humanize(self) -> str:
        """Say when, in words."""
        if isinstance(self.when, (int, float)):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.exc is not None:
            return f"Retry {self.humanize()}: {self.exc!r}"
        return f"Retry {self.humanize()}"


class Ignore(TaskPredicate):
    """The task wants no state recorded; its delivery is acknowledged."""


class Reject(TaskPredicate):
    """The task wants its delivery rejected, and put back when ``requeue`` is true."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class SoftTimeLimitExceeded(RunError):
    """Raised inside a task when its soft time limit (seconds) has passed."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args}"


class TimeLimitExceeded(RunError):
    """The hard time limit (seconds, first argument) passed and the slot was stopped."""

    def __str__(self) -> str:
        return f"TimeLimitExceeded{self.args}"


class WorkerLostError(RunError):
    """The process that ran the task died; the message names the signal or exit code."""


class Terminated(RunError):
    """The task was stopped by a remote ``terminate``; first argument is the signal."""


class TaskRevokedError(RunError):
    """The task was revoked or expired before it ran."""


class MaxRetriesExceededError(RunError):
    """The task asked to be retried more often than it allows."""

    def __init__(self, *args: Any, task_args: Any = (), task_kwargs: Any = None) -> None:
        self.task_args = task_args
        self.task_kwargs = task_kwargs or {}
        super().__init__(*args)


class ChordError(RunError):
    """A member of a chord's header failed, so the body cannot run."""


class ResultTimeout(RunError, TimeoutError):
    """No result arrived within the time allowed."""


class LifecycleError(OpsqError):
    """A component failed to start or to stop."""


class StartError(LifecycleError):
    """A bootstep failed to start.

    step: its name. started: names of the steps that had started and were stopped again.
    """

    def __init__(self, step: str, started: Sequence[str], cause: BaseException) -> None:
        self.step = step
        self.started = tuple(started)
        if isinstance(cause, OpsqError):
            self.exit_code = cause.exit_code
        super().__init__(f"{step} could not start: {cause}")


class StopTimeout(LifecycleError):
    """Bootsteps that had not stopped when the deadline passed."""
