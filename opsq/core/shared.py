"""``shared_task``: declare a task without knowing the app."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from opsq.core.declare import build_task
from opsq.core.framework import default_task_class
from opsq.core.registry import PROCESS
from opsq.core.task import Task
from opsq.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")


@overload
def shared_task(fun: Callable[P, Coroutine[Any, Any, A]], /) -> Task[P, A]: ...
@overload
def shared_task(fun: Callable[P, R], /, *, bind: Literal[False] = False, **options: Any) -> Task[P, R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: Any) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
@overload
def shared_task(*, bind: Literal[False] = False, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def shared_task(fun: Any = None, /, **options: Any) -> Any:
    """Declare a task of every app that is finalised in this process; a decorator like ``app.task``.

    Calling the task means the app of the running task, or the only app there is; with several apps
    UsageError names them, unless one was chosen with ``app.set_default()``.
    """
    if fun is None:
        return lambda function: _declare(function, options)
    if not callable(fun):
        raise UsageError(f"@shared_task takes options by name only, got {fun!r}")
    return _declare(fun, options)


def _declare(function: Callable[..., Any], options: dict[str, Any]) -> Task[..., Any]:
    task = build_task(function, options, None, default_task_class())
    PROCESS.share(task)
    return task
