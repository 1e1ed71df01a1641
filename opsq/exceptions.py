"""Errors, under the names that Celery's module of this name has."""

from __future__ import annotations

from opsq.core.eager import AlwaysEagerIgnored
from opsq.core.queues import QueueNotFound
from opsq.core.registry import DuplicateTaskNameWarning
from opsq.core.result_tree import IncompleteStream
from opsq.errors import (
    BackendUnavailable,
    BrokerUnavailable,
    ChordError,
    ConfigError,
    Ignore,
    MalformedMessage,
    MaxRetriesExceededError,
    NotRegistered,
    OpsqError,
    Reject,
    ResultTimeout,
    Retry,
    SoftTimeLimitExceeded,
    TaskPredicate,
    TaskRevokedError,
    Terminated,
    TimeLimitExceeded,
    UntrustedContent,
    UsageError,
    WorkerLostError,
)

CeleryError = OpsqError
TaskError = OpsqError
CeleryWarning = UserWarning
TimeoutError = ResultTimeout
ImproperlyConfigured = ConfigError
OperationalError = BrokerUnavailable
BackendError = BackendUnavailable
BackendGetMetaError = BackendUnavailable
BackendStoreError = BackendUnavailable
InvalidTaskError = MalformedMessage
SecurityError = UntrustedContent
AlreadyRegistered = UsageError


class WorkerTerminate(SystemExit):
    """The worker is to stop at once."""


class WorkerShutdown(SystemExit):
    """The worker is to finish what runs and stop."""


__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "DuplicateTaskNameWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "Retry",
    "SecurityError",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
]
