"""``current_app`` and ``current_task``: names that mean another object at each moment.

The only two forwarding objects in opsq: they are imported once and must answer for whatever app or
task is current when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opsq.core.app import Opsq
from opsq.core.registry import PROCESS
from opsq.core.request import current_frame

if TYPE_CHECKING:
    from opsq.core.task import Task


class CurrentApp:
    """Forwards to the app of the running task, else to the chosen one, else to the newest."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._get_current_object(), name, value)

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def _get_current_object(self) -> Opsq:
        return PROCESS.current(lambda: Opsq("opsq"))


class CurrentTask:
    """Forwards to the task that runs in this thread; false when none does."""

    def __getattr__(self, name: str) -> Any:
        task = self._get_current_object()
        if task is None:
            raise AttributeError(f"no task runs here, so current_task has no {name!r}")
        return getattr(task, name)

    def __bool__(self) -> bool:
        return self._get_current_object() is not None

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def _get_current_object(self) -> Task[..., Any] | None:
        frame = current_frame()
        return frame.task if frame is not None else None


current_app: Final = CurrentApp()
current_task: Final = CurrentTask()
