"""The tasks that every worker of the Celery protocol knows by name.

Source: celery-protocol A.7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opsq.core.builtin_canvas import add_canvas_tasks
from opsq.core.signature import maybe_signature

if TYPE_CHECKING:
    from opsq.core.app import Opsq


def add_builtin_tasks(app: Opsq) -> None:
    """Register the built-in tasks of ``app``."""

    def backend_cleanup() -> int:
        """Delete expired results."""
        return app.backend.cleanup()

    def accumulate(*args: Any, **kwargs: Any) -> Any:
        """Return the arguments, or one of them."""
        index = kwargs.get("index")
        return args[index] if index is not None else args

    def xmap(task: Any, it: Iterable[Any]) -> list[Any]:
        """Call a task's function with each item."""
        function = maybe_signature(task, app)
        return [function(item) for item in it]

    def xstarmap(task: Any, it: Iterable[Iterable[Any]]) -> list[Any]:
        """Call a task's function with each item's parts."""
        function = maybe_signature(task, app)
        return [function(*items) for items in it]

    add_canvas_tasks(app)
    app.task(backend_cleanup, name="celery.backend_cleanup", ignore_result=True, send_events=True)
    app.task(accumulate, name="celery.accumulate")
    app.task(xmap, name="celery.map")
    app.task(xstarmap, name="celery.starmap")
