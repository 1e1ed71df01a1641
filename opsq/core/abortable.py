"""Tasks that can be asked to stop: the request is a state in the result store, and the task looks for it.

For work that must clean up after itself; ``revoke(terminate=True)`` ends a process instead.
"""

from __future__ import annotations

from typing import Any, Final

from opsq.core.result import AsyncResult
from opsq.core.task import Task
from opsq.wire.result import ResultMeta

ABORTED: Final = "ABORTED"


class AbortableAsyncResult(AsyncResult[Any]):
    """The handle of an abortable call."""

    def is_aborted(self) -> bool:
        """Whether somebody asked it to stop."""
        return self.state == ABORTED

    def abort(self) -> bool:
        """Ask it to stop; false when it has ended well already. Raises: BackendUnavailable."""
        return self.backend.store(ResultMeta(task_id=self.id, status=ABORTED))


class AbortableTask(Task[..., Any]):
    """A task that looks whether it is to stop: ``@app.task(base=AbortableTask, bind=True)``."""

    abstract = True

    def AsyncResult(self, task_id: str, **arguments: Any) -> AbortableAsyncResult:
        """The handle of a call of this task."""
        return AbortableAsyncResult(task_id, app=self.app, task_name=self.name, **arguments)

    def is_aborted(self, task_id: str | None = None) -> bool:
        """Whether the running call, or call ``task_id``, was asked to stop. Raises: BackendUnavailable."""
        wanted = task_id or self.request.id
        return wanted is not None and self.AsyncResult(wanted).is_aborted()
