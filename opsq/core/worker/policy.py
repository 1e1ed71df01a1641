"""What this worker promises for each task: acknowledgement, limits, rate; worked out once per task.

A task's own attribute wins over the setting, and a message's own time limit over both. At boot the
promises are compared with what the pool can do, and printed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec

from opsq.core.pools.base import PoolCapabilities
from opsq.core.telling import payload_rule
from opsq.core.worker.hold import parse_rate
from opsq.errors import ConfigError, Fault
from opsq.settings import Settings
from opsq.wire.payload import AS_REPR, Rule
from opsq.wire.task import TaskHeaders


class Policy(msgspec.Struct, frozen=True):
    """The promises for one task. Limits in seconds, None for none; rate_per_s 0.0 for none."""

    task: str
    acks_late: bool
    acks_on_failure: bool
    acks_on_timeout: bool
    reject_on_worker_lost: bool
    soft_limit_s: float | None
    hard_limit_s: float | None
    rate_per_s: float
    send_events: bool
    ignore_result: bool
    payload: Rule = AS_REPR
    is_async: bool = False

    def limits(self, headers: TaskHeaders) -> tuple[float | None, float | None]:
        """Soft and hard limit of one message, in this order."""
        hard, soft = headers.timelimit
        return (soft or self.soft_limit_s, hard or self.hard_limit_s)


class Policies:
    """Looks up promises by task name; made when first asked for. Thread: any."""

    def __init__(self, tasks: Mapping[str, Any], settings: Settings) -> None:
        self._tasks = tasks
        self._settings = settings
        self._made: dict[str, Policy] = {}

    def __call__(self, name: str) -> Policy | None:
        """The promises for the task ``name``; None when no such task is registered."""
        made = self._made.get(name)
        if made is None:
            task = self._tasks.get(name)
            if task is None:
                return None
            made = self._made[name] = policy_of(task, self._settings)
        return made

    def forget(self, name: str) -> None:
        """Work it out anew at the next look, after somebody changed the task's attributes."""
        self._made.pop(name, None)


def policy_of(task: Any, settings: Settings) -> Policy:
    """Work out the promises for ``task``. Raises: ConfigError for an unreadable rate."""
    both = _first(task.acks_on_failure_or_timeout, settings.task_acks_on_failure_or_timeout)
    rate = None if settings.worker_disable_rate_limits else _first(task.rate_limit, settings.task_default_rate_limit)
    return Policy(
        task=task.name,
        acks_late=bool(_first(task.acks_late, settings.task_acks_late)),
        acks_on_failure=bool(_first(task.acks_on_failure, settings.task_acks_on_failure, both)),
        acks_on_timeout=bool(_first(task.acks_on_timeout, settings.task_acks_on_timeout, both)),
        reject_on_worker_lost=bool(_first(task.reject_on_worker_lost, settings.task_reject_on_worker_lost)),
        soft_limit_s=_first(task.soft_time_limit, settings.task_soft_time_limit) or None,
        hard_limit_s=_first(task.time_limit, settings.task_time_limit) or None,
        rate_per_s=parse_rate(rate),
        send_events=bool(task.send_events),
        ignore_result=bool(_first(task.ignore_result, settings.task_ignore_result)),
        payload=payload_rule(task, settings),
        is_async=bool(task.is_async),
    )


def check_pool(
    pool: str,
    capabilities: PoolCapabilities,
    policies: Iterable[Policy],
    broker_is_memory: bool,
    shared: Container[str] = (),
) -> None:
    """Refuse what the pool cannot do, in one sentence each.

    shared: names of tasks that other packages declared for any app, and that may never be sent to this one.
    Raises: ConfigError.
    """
    made = list(policies)
    faults = []
    hard = sorted(policy.task for policy in made if policy.hard_limit_s is not None)
    soft = sorted(policy.task for policy in made if policy.soft_limit_s is not None)
    if hard and not capabilities.hard_limit:
        faults.append(_cannot(pool, "hard time limit", "cannot stop a running task", hard, "time_limit"))
    if soft and not capabilities.soft_limit:
        faults.append(_cannot(pool, "soft time limit", "cannot interrupt a running task", soft, "soft_time_limit"))
    coroutines = sorted(policy.task for policy in made if policy.is_async and policy.task not in shared)
    if coroutines and not capabilities.coroutines:
        faults.append(
            Fault(
                f"the {pool} pool has no event loop for coroutines, and {_some(coroutines)} is async def",
                "worker_pool",
                "choose -P asyncio, or write it as an ordinary function",
            )
        )
    if broker_is_memory and capabilities.isolates_crash:
        faults.append(
            Fault(
                f"the {pool} pool cannot work with the memory broker, whose queues other processes do not see",
                "worker_pool",
                "choose -P threads, or another broker",
            )
        )
    if faults:
        raise ConfigError(faults)


def _cannot(pool: str, what: str, why: str, tasks: list[str], option: str) -> Fault:
    return Fault(
        f"the {pool} pool {why}, so it has no {what}, which is set for {_some(tasks)}",
        "worker_pool",
        f"choose -P prefork or -P asyncio, or remove {option}",
    )


def _some(tasks: list[str]) -> str:
    return ", ".join(tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")


def _first(*values: Any) -> Any:
    for value in values:
        if value is not None:
            return value
    return None
