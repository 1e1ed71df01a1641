"""Retries: when the next attempt is due, and which errors are retried by themselves. Pure."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from opsq.errors import Ignore, Reject, Retry

if TYPE_CHECKING:
    from opsq.core.task import Task


def backoff_s(retries: int, factor_s: float = 1.0, maximum_s: float = 600.0, full_jitter: bool = False) -> float:
    """Seconds to wait before retry number ``retries`` + 1: factor · 2^retries, at most ``maximum_s``.

    full_jitter: draw evenly between 0 and that, so that a crowd of failures does not return as a crowd.
    """
    # 2 ** 64 already exceeds any sensible maximum; larger powers would overflow a float.
    wait_s: float = min(maximum_s, factor_s * 2 ** min(retries, 64))
    if full_jitter:
        wait_s = random.uniform(0, wait_s)
    return max(0.0, wait_s)


def retry_if_wanted(task: Task[..., Any], error: BaseException) -> None:
    """Retry the running attempt of ``task`` when its ``autoretry_for`` covers ``error``; else do nothing.

    Whoever runs tasks calls this with what an attempt raised, in the attempt's frame.
    Raises: Retry when another attempt was published; ``error`` itself or MaxRetriesExceededError when
    there were enough; Reject when the broker did not take the next attempt.
    """
    covered = tuple(task.autoretry_for or ())
    if not covered or isinstance(error, (Retry, Ignore, Reject)) or not isinstance(error, covered):
        return
    if isinstance(error, tuple(task.dont_autoretry_for or ())):
        return
    arguments: dict[str, Any] = dict(task.retry_kwargs or {})
    if task.retry_backoff:
        factor_s = 1.0 if task.retry_backoff is True else float(task.retry_backoff)
        arguments["countdown"] = backoff_s(
            task.request.retries, factor_s, float(task.retry_backoff_max), bool(task.retry_jitter)
        )
    arguments.setdefault("exc", error)
    task.retry(**arguments)
