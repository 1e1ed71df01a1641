"""What is the same at every run of one task, worked out once: the hot path then only looks it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from opsq.core.framework import framework
from opsq.core.task import Task
from opsq.core.worker.policy import Policy, policy_of
from opsq.settings import Settings

Hook = Callable[..., Any] | None


class Prepared(msgspec.Struct, frozen=True):
    """One task, ready to be run many times. Hooks are None when the task has not written its own.

    call: the task's own code. in_slot: the same for a plain thread; a coroutine gets an event loop of its own.
    """

    task: Any
    policy: Policy
    call: Callable[..., Any]
    in_slot: Callable[..., Any]
    is_async: bool
    ignore_result: bool
    store_errors: bool
    track_started: bool
    repr_max: int
    throws: tuple[type[BaseException], ...]
    before_start: Hook
    on_success: Hook
    on_failure: Hook
    on_retry: Hook
    after_return: Hook


def on_loop_of_its_own(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Make a coroutine function one that can be called from a plain thread."""

    async def awaited(args: Any, kwargs: Mapping[str, Any]) -> Any:
        return await function(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(awaited(args, kwargs))

    return call


def prepare(task: Any, settings: Settings) -> Prepared:
    """Work out what is the same at every run of ``task``."""
    found = framework() if task.is_async else None
    entry = task.entry if found is None else found.on_loop(task.entry)
    return Prepared(
        task=task,
        policy=policy_of(task, settings),
        call=entry,
        in_slot=on_loop_of_its_own(entry) if task.is_async else entry,
        is_async=bool(task.is_async),
        ignore_result=bool(task.ignore_result),
        store_errors=bool(task.store_errors_even_if_ignored),
        track_started=bool(task.track_started),
        repr_max=task.resultrepr_maxsize or 1024,
        throws=tuple(task.throws or ()),
        before_start=_own(task, "before_start"),
        on_success=_own(task, "on_success"),
        on_failure=_own(task, "on_failure"),
        on_retry=_own(task, "on_retry"),
        after_return=_own(task, "after_return"),
    )


def already_returned(prepared: Prepared, value: Any) -> Prepared:
    """The same task, but calling it does nothing and returns ``value``."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return value

    return msgspec.structs.replace(
        prepared, call=call, in_slot=call, is_async=False, track_started=False, before_start=None
    )


def _own(task: Any, name: str) -> Hook:
    if getattr(type(task), name, None) is getattr(Task, name, None) and name not in vars(task):
        return None
    hook: Hook = getattr(task, name)
    return hook
