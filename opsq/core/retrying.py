"""The next attempt of a running call: whether there is one, when, and as what message. Pure.

Source: celery-protocol A.6 "Retry": the same id, one retry more, everything that follows the call kept.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opsq.core.calls import PUBLISHED_AT
from opsq.core.request import Context
from opsq.core.signature import Signature, signature
from opsq.errors import MaxRetriesExceededError, Retry
from opsq.wire.saferepr import saferepr

if TYPE_CHECKING:
    from opsq.core.task import Task

#: Headers of one delivery, which must not travel on: the broker's death records, marks of redelivery.
_OF_ONE_DELIVERY: Final = ("x-death", "x-first-death", "x-last-death", "x-delivery-count", "redelivered", PUBLISHED_AT)


class NextAttempt(NamedTuple):
    """When the next attempt is due: ``when`` for people, ``due`` as call options."""

    when: Any
    due: dict[str, Any]


def plan_retry(
    task: Task[..., Any],
    request: Context,
    exc: BaseException | None,
    eta: Any,
    countdown: float | None,
    max_retries: int | None,
) -> NextAttempt:
    """Decide on the next attempt.

    Raises: outside a run, ``exc`` or the error being handled; ``exc`` or MaxRetriesExceededError when
    there were enough retries.
    """
    if request.called_directly:
        # Called as a plain function: there is nothing to retry, so the caller gets the error.
        raise exc or sys.exc_info()[1] or Retry("the task asked to be retried", when=countdown)
    most = task.max_retries if max_retries is None else max_retries
    if most is not None and request.retries >= most:
        if exc is not None:
            raise exc
        raise MaxRetriesExceededError(
            f"cannot retry {task.name}[{request.id}] args: {saferepr(request.args)} kwargs: {saferepr(request.kwargs)}",
            task_args=request.args,
            task_kwargs=request.kwargs,
        )
    if eta is not None:
        return NextAttempt(eta, {"eta": eta})
    wait_s = task.default_retry_delay if countdown is None else countdown
    return NextAttempt(wait_s, {"countdown": wait_s})


def signature_of_request(
    task: Task[..., Any],
    request: Context,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Signature:
    """Build the call that repeats the running one, with ``options`` on top."""
    hard, soft = request.timelimit
    same = {
        "task_id": request.id,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group_id": request.group,
        "group_index": request.group_index,
        "shadow": request.shadow,
        "chord": request.chord,
        "chain": request.chain,
        "link": request.callbacks,
        "link_error": request.errbacks,
        "expires": request.expires,
        "time_limit": hard,
        "soft_time_limit": soft,
        "headers": _headers(request.headers or {}),
        "reply_to": request.reply_to,
        "ignore_result": request.ignore_result,
        "replaced_task_nesting": request.replaced_task_nesting or None,
        "stamped_headers": request.stamped_headers,
        "stamps": dict(request.stamps or {}) or None,
        **_place(request.delivery_info or {}, options),
    }
    merged = {key: value for key, value in same.items() if value is not None} | dict(options)
    return signature(
        str(task.name),
        tuple(request.args or ()) if args is None else args,
        dict(request.kwargs or {}) if kwargs is None else kwargs,
        merged,
        app=task.bound_app,
    ).of_task(task)


def _headers(headers: Mapping[str, Any]) -> dict[str, Any] | None:
    kept = {key: value for key, value in headers.items() if not key.startswith(_OF_ONE_DELIVERY)}
    return kept or None


def _place(delivery_info: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Where the running call came from, unless ``options`` name another place."""
    priority = {"priority": delivery_info.get("priority")}
    if any(options.get(key) is not None for key in ("queue", "exchange", "routing_key")):
        return priority
    exchange, routing_key = delivery_info.get("exchange"), delivery_info.get("routing_key")
    if not exchange:
        return {**priority, "queue": routing_key}
    return {**priority, "exchange": exchange, "routing_key": routing_key}
