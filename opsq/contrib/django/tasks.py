"""The backend that has opsq run the tasks of ``django.tasks`` (Django 6.0, or the backport ``django_tasks``).

    TASKS = {"default": {"BACKEND": "opsq.contrib.django.tasks.OpsqBackend", "QUEUES": ["default", "mail"]}}

``OPTIONS``: ``app``, where the app is (``module:attribute``); needed only when there are several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from django.core import checks
from django.utils import timezone

from opsq import plugins
from opsq.broker.registry import find_broker
from opsq.contrib.django import task_book as book
from opsq.contrib.django.task_runs import django_task_of, opsq_task_of
from opsq.contrib.django.versions import (
    DEFAULT_TASK_QUEUE_NAME,
    TASK_MAX_PRIORITY,
    TASK_MIN_PRIORITY,
    BaseTaskBackend,
    InvalidTask,
    InvalidTaskBackend,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_enqueued,
)
from opsq.core.app import Opsq
from opsq.core.eager import EagerResult
from opsq.core.registry import PROCESS
from opsq.core.task_options import did_you_mean
from opsq.errors import OpsqError
from opsq.wire.result import ResultMeta

OPTIONS: Final = frozenset({"app"})
MOST: Final = 9
"""The greatest priority of a message. On Redis 0 goes first, elsewhere this."""
_BACKWARDS: Final = frozenset({"redis", "sentinel"})


class OpsqBackend(BaseTaskBackend):  # type: ignore[misc]  # Django has no types
    """Hands tasks to opsq workers. Thread: Django makes one per thread."""

    supports_defer: ClassVar[bool] = True
    supports_async_task: ClassVar[bool] = True
    supports_priority: ClassVar[bool] = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        for name in self.options:
            if name not in OPTIONS:
                raise InvalidTaskBackend(f"TASKS[{alias!r}] has no option {name!r}{did_you_mean(name, OPTIONS)}")

    @property
    def app(self) -> Opsq:
        """The app whose workers run the tasks. Raises: ConfigError, UsageError when there is none."""
        named = self.options.get("app")
        if named is None:
            return PROCESS.current()
        found = plugins.resolve(str(named), origin=f"TASKS[{self.alias!r}]")
        if not isinstance(found, Opsq):
            raise InvalidTaskBackend(f"TASKS[{self.alias!r}]: expected {named!r} to be an Opsq app, got {found!r}")
        return found

    @property
    def supports_get_result(self) -> bool:
        """Whether there is a result store that others can read."""
        return book.can_keep(self.app.backend)

    def validate_task(self, task: Any) -> None:
        """Check the task, and have opsq know it. Raises: InvalidTask."""
        super().validate_task(task)
        opsq_task_of(task)

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Publish a call; returns its ``TaskResult``. Raises: InvalidTask, TypeError, BrokerUnavailable."""
        self.validate_task(task)
        app = self.app
        app.finalize()
        result = TaskResult(
            task=task,
            id=app.new_id(),
            status=TaskResultStatus.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=dict(kwargs),
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        result = self._publish(app, result)
        task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """What is known of a call. Raises: TaskResultDoesNotExist, BackendUnavailable."""
        if not self.supports_get_result:
            return super().get_result(result_id)
        app = self.app
        found = book.read(app.backend, str(result_id))
        task = self._declared(app, found[0].task) if found is not None else None
        if found is None or task is None:
            raise TaskResultDoesNotExist(str(result_id))
        return book.result_from(str(result_id), task, *found)

    def check(self, **kwargs: Any) -> Iterable[Any]:
        """Tell Django's system checks whether the app can be found."""
        try:
            self.app.conf.load()
        except OpsqError as error:
            hint = "import the app in the project's __init__.py, or name it: OPTIONS = {'app': 'project.app:app'}"
            yield checks.Error(str(error), hint=hint, obj=f"TASKS[{self.alias!r}]", id="opsq.E001")

    def _publish(self, app: Opsq, result: Any) -> Any:
        task, facts = result.task, book.facts_of(result)
        options: dict[str, Any] = {
            "queue": _queue(app, task.queue_name),
            "eta": _aware(task.run_after),
            **_priority(app, task.priority),
        }
        # First, so that whoever asks for it finds it, and a worker's word is never written over.
        book.write(app.backend, result.id, facts)
        try:
            handle = app.tasks[task.module_path].apply_async(
                result.args,
                result.kwargs,
                task_id=result.id,
                headers={book.HEADER: book.header_of(facts)},
                **{name: value for name, value in options.items() if value is not None},
            )
        except BaseException:
            book.forget(app.backend, result.id)
            raise
        if isinstance(handle, EagerResult):
            return book.result_from(result.id, task, facts, _end_of(handle))
        return result

    def _declared(self, app: Opsq, name: str) -> Any:
        """The task of that name; what a stored document says is never imported."""
        app.finalize()
        if name not in app.tasks:
            app.import_task_modules()
        return django_task_of(app.tasks.get(name))


def _end_of(handle: EagerResult[Any]) -> ResultMeta:
    """How a call ended that ran right here, with ``task_always_eager``."""
    return ResultMeta(
        task_id=handle.id,
        status=handle.state,
        result=handle.result,
        traceback=handle.traceback,
        date_done=timezone.now().isoformat(),
    )


def _queue(app: Opsq, name: str) -> str | None:
    """The queue of a task; Django's ``default`` is the app's, unless that declares one of this name."""
    declared = {queue.name for queue in app.queues.declared}
    return name if name != DEFAULT_TASK_QUEUE_NAME or name in declared else None


def _aware(moment: datetime | None) -> datetime | None:
    return moment if moment is None or timezone.is_aware(moment) else timezone.make_aware(moment)


def _priority(app: Opsq, wanted: int) -> dict[str, int]:
    """Django's -100 to 100, greatest first, as a message's.

    Raises: InvalidTask when the broker knows no priorities.
    """
    url = app.settings.resolved_broker_url("write")
    broker = find_broker(url if isinstance(url, str) else url[0])
    share = (wanted - TASK_MIN_PRIORITY) / (TASK_MAX_PRIORITY - TASK_MIN_PRIORITY)
    if broker.name in _BACKWARDS:
        return {"priority": round((1 - share) * MOST)}
    if not broker.features.priorities and wanted == 0:
        return {}
    if not broker.features.priorities:
        raise InvalidTask(f"the broker {broker.name} has no priorities; leave priority={wanted} out")
    return {"priority": round(share * MOST)}
