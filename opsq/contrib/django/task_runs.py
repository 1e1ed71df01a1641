"""Running tasks of ``django.tasks`` on an opsq worker: each is a task of opsq's too, under its own name.

So the monitor, limits, rates and annotations know them like any other. They are shared tasks, because they are
declared in modules that know no app.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from traceback import format_exception
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.utils import timezone

from opsq.contrib.django import task_book as book
from opsq.contrib.django.versions import TaskContext, TaskError, TaskResultStatus, task_finished, task_started
from opsq.core.request import Context
from opsq.core.result_store import ResultStore
from opsq.core.shared import shared_task
from opsq.core.task import Task
from opsq.errors import Ignore, Reject, Retry, Unavailable

log = logging.getLogger(__name__)

_MADE: Final = "opsq_task"
"""Attribute of a task's function: the task that opsq made of it. Backends are made anew in each thread."""
_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)


def opsq_task_of(task: Any) -> Task[..., Any]:
    """The task of opsq's that runs ``task``; the same for each of its variants. Thread: any."""
    found: Task[..., Any] | None = vars(task.func).get(_MADE)
    if found is None:
        body = _coroutine if inspect.iscoroutinefunction(task.func) else _function
        found = shared_task(bind=True, name=task.module_path)(_like(body(task), task))
        setattr(task.func, _MADE, found)
        found.django_task = task  # type: ignore[attr-defined]  # see ``django_task_of``
    return found


def django_task_of(task: Task[..., Any] | None) -> Any:
    """The task of ``django.tasks`` that ``task`` runs; None when it runs none."""
    return getattr(task, "django_task", None)


def _function(task: Any) -> Callable[..., Any]:
    def run(self: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = _begin(self, task, args, kwargs)
        try:
            value = task.func(*_context(task, result), *args, **kwargs)
        except BaseException as error:
            _fail(result, error)
            raise
        _succeed(result, value)
        return value

    return run


def _coroutine(task: Any) -> Callable[..., Any]:
    async def run(self: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
        # Receivers of signals and the result store may block.
        result = await sync_to_async(_begin)(self, task, args, kwargs)
        try:
            value = await task.func(*_context(task, result), *args, **kwargs)
        except BaseException as error:
            await sync_to_async(partial(_fail, result, error))()
            raise
        await sync_to_async(_succeed)(result, value)
        return value

    return run


def _like(run: Callable[..., Any], task: Any) -> Callable[..., Any]:
    """Give ``run`` the name and the signature of the task's function, so that a wrong call is refused at once."""
    function = task.func
    run.__name__, run.__qualname__ = function.__name__, function.__qualname__
    run.__module__, run.__doc__ = function.__module__, function.__doc__
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if task.takes_context:
        parameters[0] = parameters[0].replace(name="self", kind=_SELF.kind)
    else:
        parameters.insert(0, _SELF)
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def _context(task: Any, result: Any) -> tuple[Any, ...]:
    return (TaskContext(task_result=result),) if task.takes_context else ()


def _begin(running: Task[..., Any], task: Any, args: Any, kwargs: Any) -> Any:
    """Keep who runs the call since when, and announce it; returns its ``TaskResult``."""
    request, store, now = running.request, running.backend, timezone.now()
    published = (request.headers or {}).get(book.HEADER) or _unannounced(task, now)
    facts = book.facts_from({**published, "args": list(args), "kwargs": dict(kwargs)})
    result = book.result_from(str(request.id), task, _kept_before(store, request) or facts, None)
    result.worker_ids.append(request.hostname or "")
    book.change(
        result,
        status=TaskResultStatus.RUNNING,
        started_at=result.started_at or now,
        last_attempted_at=now,
    )
    if not request.is_eager:
        _keep(store, result)
    task_started.send(sender=_sender(result), task_result=result)
    return result


def _kept_before(store: ResultStore, request: Context) -> book.Facts | None:
    """What earlier attempts have left, for one that is not the first."""
    if not request.retries and not (request.delivery_info or {}).get("redelivered"):
        return None
    try:
        found = book.read(store, str(request.id))
    except Unavailable as error:
        log.warning("earlier attempts of a task could not be looked up", extra={"error": str(error)})
        return None
    return found[0] if found is not None else None


def _keep(store: ResultStore, result: Any) -> None:
    try:
        book.write(store, result.id, book.facts_of(result))
    except Unavailable as error:
        # As with the state STARTED: worth a warning, and no reason for the task to fail.
        log.warning("the start of a task could not be stored", extra={"error": str(error)})


def _unannounced(task: Any, now: Any) -> dict[str, Any]:
    """What is known of a call that was not enqueued through Django, such as one of the schedule."""
    return {
        "task": task.module_path,
        "backend": task.backend,
        "queue": task.queue_name,
        "priority": task.priority,
        "run_after": None,
        "enqueued_at": now.isoformat(),
    }


def _succeed(result: Any, value: Any) -> None:
    book.change(result, status=TaskResultStatus.SUCCESSFUL, finished_at=timezone.now(), _return_value=value)
    task_finished.send(sender=_sender(result), task_result=result)


def _fail(result: Any, error: BaseException) -> None:
    if isinstance(error, (Retry, Ignore, Reject)):
        return  # opsq's own words; it did not fail
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    result.errors.append(TaskError(exception_class_path=path, traceback="".join(format_exception(error))))
    book.change(result, status=TaskResultStatus.FAILED, finished_at=timezone.now())
    task_finished.send(sender=_sender(result), task_result=result)


def _sender(result: Any) -> Any:
    return type(result.task.get_backend())
