"""Tasks by name, and the process-wide state of the client side: known apps and shared tasks.

One of the two modules that hold process-wide state (design.md decision 1). A library declares tasks
with ``shared_task`` without knowing the app; here they wait, and every app that is finalised takes
its own copy of each. A call of a shared task that could mean two apps is an error, never a guess.
"""

from __future__ import annotations

import difflib
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from opsq.core.request import current_frame
from opsq.errors import NotRegistered, UsageError

if TYPE_CHECKING:
    from opsq.core.app import Opsq
    from opsq.core.task import Task


class DuplicateTaskNameWarning(UserWarning):
    """Two different functions were declared as tasks of one name; the later one wins."""


class TaskRegistry(dict[str, "Task[..., Any]"]):
    """The tasks of one app by name."""

    def __missing__(self, name: str) -> Task[..., Any]:
        near = difflib.get_close_matches(str(name), self, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise NotRegistered(f"no task named {name!r} is registered{hint}")

    def register(self, task: Task[..., Any]) -> None:
        """Add a task under its name; warn when another function has it already."""
        if task.name is None:
            raise UsageError(f"task {task!r} has no name; give it one with name=")
        known = self.get(task.name)
        if known is not None and _source_of(known) != _source_of(task):
            warnings.warn(
                f"task name {task.name!r} was declared by {_source_of(known)} and again by {_source_of(task)}; "
                "the later one is used, give one of them a name of its own with name=",
                DuplicateTaskNameWarning,
                stacklevel=4,
            )
        self[task.name] = task

    def unregister(self, task: Task[..., Any] | str) -> None:
        """Remove a task; NotRegistered when it is unknown."""
        name = task if isinstance(task, str) else str(task.name)
        self[name]
        del self[name]

    def regular(self) -> dict[str, Task[..., Any]]:
        """The user's own tasks, without the built-in ``celery.*``."""
        return {name: task for name, task in self.items() if not name.startswith("celery.")}


def _source_of(task: Task[..., Any]) -> str:
    code = getattr(task.run, "__wrapped__", task.run)
    return f"{getattr(code, '__module__', '?')}.{getattr(code, '__qualname__', '?')}"


class Process:
    """Apps and shared tasks of this process. Thread: any."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._apps: list[weakref.ref[Opsq]] = []
        self._default: weakref.ref[Opsq] | None = None
        self._fallback: Opsq | None = None
        self._shared: list[Task[..., Any]] = []
        self.commands: dict[str, Any] = {}
        """Remote commands that ``opsq.worker.control`` declared, by name; see ``own_commands.py``."""

    def add_app(self, app: Opsq) -> None:
        """Make ``app`` one that a shared task may mean."""
        with self._lock:
            if all(ref() is not app for ref in self._apps):
                self._apps.append(weakref.ref(app))

    def remove_app(self, app: Opsq) -> None:
        """Forget ``app``; it was closed."""
        with self._lock:
            self._apps = [ref for ref in self._apps if (other := ref()) is not None and other is not app]
            if self._default is not None and self._default() is app:
                self._default = None

    def set_default(self, app: Opsq | None) -> None:
        """Choose the app that shared tasks and ``current_app`` mean, whatever else exists."""
        with self._lock:
            self._default = weakref.ref(app) if app is not None else None
            if app is not None:
                self.add_app(app)

    def apps(self) -> list[Opsq]:
        """The living apps, oldest first."""
        with self._lock:
            return [app for ref in self._apps if (app := ref()) is not None]

    def share(self, task: Task[..., Any]) -> None:
        """Queue a shared task; apps finalised from now on take a copy, those already so take it at once."""
        with self._lock:
            self._shared.append(task)
            ready = [app for app in self.apps() if app.is_finalized]
        for app in ready:
            app.adopt(task)

    def shared(self) -> Iterator[Task[..., Any]]:
        """The shared tasks declared so far, in order."""
        with self._lock:
            return iter(tuple(self._shared))

    def current(self, make: Callable[[], Opsq] | None = None) -> Opsq:
        """The app of the running task, else the chosen one, else the newest.

        make: builds an app when there is none at all.
        Raises: UsageError without any app.
        """
        found = self._of_running_task() or self._chosen()
        if found is not None:
            return found
        apps = self.apps()
        if apps:
            return apps[-1]
        if make is None:
            raise UsageError("no app exists in this process; create one: app = Opsq('name')")
        with self._lock:
            self._fallback = self._fallback or make()
            return self._fallback

    def meant_by(self, what: str) -> Opsq:
        """The one app that a shared task can mean here.

        Raises: UsageError naming the candidates when there are two, or when there is none.
        """
        found = self._of_running_task() or self._chosen()
        if found is not None:
            return found
        apps = self.apps()
        candidates = [app for app in apps if app.is_finalized] or apps
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise UsageError(f"{what} is a shared task and no app exists yet; create one: app = Opsq('name')")
        names = " and ".join(repr(app) for app in candidates)
        raise UsageError(
            f"{what} is a shared task and could mean {names}; call it through one of them, "
            f"app.tasks[{what!r}].delay(...), or choose with app.set_default()"
        )

    def _of_running_task(self) -> Opsq | None:
        frame = current_frame()
        return frame.task.bound_app if frame is not None else None

    def _chosen(self) -> Opsq | None:
        return self._default() if self._default is not None else None


PROCESS = Process()
