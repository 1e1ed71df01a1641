"""What ``django.tasks`` wants to know of a call that its result alone does not say: when, with what, by whom.

A document of its own in the app's result store, beside the call's result: written before the call is published, and
again when an attempt begins. The result itself stays as any client of Celery's expects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from opsq.contrib.django.versions import InvalidTask, InvalidTaskBackend, TaskError, TaskResult, TaskResultStatus
from opsq.core.result_store import ResultStore
from opsq.errors import MalformedMessage
from opsq.wire.result import ResultMeta
from opsq.wire.states import FAILURE, PENDING, REJECTED, REVOKED, STARTED, SUCCESS

HEADER: Final = "opsq_django"
"""The header of a message that carries what was known when it was published."""
_KEY: Final = "opsq-django-"
_ENDS: Final[Mapping[str, Any]] = {
    SUCCESS: TaskResultStatus.SUCCESSFUL,
    FAILURE: TaskResultStatus.FAILED,
    REVOKED: TaskResultStatus.FAILED,
    REJECTED: TaskResultStatus.FAILED,
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one call. task: its name. workers: node names, one per attempt."""

    task: str
    backend: str
    queue: str
    priority: int
    run_after: datetime | None
    enqueued_at: datetime
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    started_at: datetime | None = None
    last_attempted_at: datetime | None = None
    workers: list[str] = []


def facts_of(result: Any) -> Facts:
    """What is to be kept of a call, from its ``TaskResult``."""
    task = result.task
    return Facts(
        task=task.module_path,
        backend=result.backend,
        queue=task.queue_name,
        priority=task.priority,
        run_after=task.run_after,
        enqueued_at=result.enqueued_at,
        args=result.args,
        kwargs=result.kwargs,
        started_at=result.started_at,
        last_attempted_at=result.last_attempted_at,
        workers=result.worker_ids,
    )


def header_of(facts: Facts) -> dict[str, Any]:
    """The facts as a header; the arguments are in the message already."""
    found: dict[str, Any] = msgspec.to_builtins(facts)
    return {name: value for name, value in found.items() if name not in ("args", "kwargs")}


def facts_from(found: object) -> Facts:
    """Read facts back. Raises: MalformedMessage."""
    try:
        return msgspec.convert(found, Facts)
    except msgspec.ValidationError as error:
        raise MalformedMessage(f"what is kept of a call of django.tasks cannot be read: {error}") from error


def can_keep(store: ResultStore) -> bool:
    """Whether this store can be asked by others than the one who called."""
    return store.enabled and store.backend.capabilities.cross_process


def write(store: ResultStore, id: str, facts: Facts) -> None:
    """Keep the facts, as long as a result is kept. Raises: BackendUnavailable."""
    if not can_keep(store):
        return
    status = STARTED if facts.workers else PENDING
    store.store(ResultMeta(task_id=_KEY + id, status=status, result=msgspec.to_builtins(facts)))


def forget(store: ResultStore, id: str) -> None:
    """Keep them no longer. Raises: BackendUnavailable."""
    if can_keep(store):
        store.forget([_KEY + id])


def read(store: ResultStore, id: str) -> tuple[Facts, ResultMeta | None] | None:
    """The facts of a call, and its result as far as there is one; None for an id that nobody knows.

    Raises: MalformedMessage, BackendUnavailable.
    """
    if not can_keep(store):
        return None
    found = store.load_many([_KEY + id, id])
    kept = found.get(_KEY + id)
    return (facts_from(kept.result), found.get(id)) if kept is not None else None


def result_from(id: str, task: Any, facts: Facts, meta: ResultMeta | None) -> Any:
    """Build the ``TaskResult`` of a call. task: the one it calls, as declared."""
    end = _ENDS.get(meta.status) if meta is not None else None
    result = TaskResult(
        task=_as_called(task, facts),
        id=id,
        status=end or (TaskResultStatus.RUNNING if facts.workers else TaskResultStatus.READY),
        enqueued_at=facts.enqueued_at,
        started_at=facts.started_at,
        finished_at=datetime.fromisoformat(meta.date_done) if meta is not None and meta.date_done else None,
        last_attempted_at=facts.last_attempted_at,
        args=facts.args,
        kwargs=facts.kwargs,
        backend=facts.backend,
        errors=[_error(meta)] if meta is not None and end == TaskResultStatus.FAILED else [],
        worker_ids=list(facts.workers),
    )
    if meta is not None and end == TaskResultStatus.SUCCESSFUL:
        change(result, _return_value=meta.result)
    return result


def change(result: Any, **fields: Any) -> None:
    """Set fields of a ``TaskResult``, which is frozen for everybody but backends."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)


def _as_called(task: Any, facts: Facts) -> Any:
    """The variant of ``task`` that was called; as declared, when the settings know its queue or backend no more."""
    try:
        return task.using(
            queue_name=facts.queue, priority=facts.priority, run_after=facts.run_after, backend=facts.backend
        )
    except (InvalidTask, InvalidTaskBackend):
        return task


def _error(meta: ResultMeta) -> Any:
    if isinstance(meta.result, BaseException):
        kind = type(meta.result)
        return TaskError(exception_class_path=f"{kind.__module__}.{kind.__qualname__}", traceback=meta.traceback or "")
    found = meta.result if isinstance(meta.result, Mapping) else {}
    path = f"{found.get('exc_module') or 'builtins'}.{found.get('exc_type') or 'Exception'}"
    return TaskError(exception_class_path=path, traceback=meta.traceback or "")
