"""A task over many items: ``xmap``, ``xstarmap`` in one call, ``chunks`` in several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from opsq.core.signature import Signature, signature
from opsq.core.workflows import group
from opsq.errors import UsageError

if TYPE_CHECKING:
    from opsq.core.app import Opsq


class _OverItems(Signature):
    """A task and the items it is called with."""

    task_name: str

    def __init__(self, task: Any, it: Iterable[Any] = (), app: Opsq | None = None, **more: Any) -> None:
        if isinstance(task, Mapping) and task.get("task") == self.task_name:
            super().__init__(task, app=app)
            return
        each = task if isinstance(task, Signature) else signature(task)
        parts = {"task": each.clone(), "it": list(it), **more}
        super().__init__(self.task_name, (), parts, immutable=True, app=app or each._app)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kwargs['task']['task']}, {len(self.kwargs['it'])} items)"


class xmap(_OverItems):  # Celery's name
    """One call that runs a task's function with each item."""

    task_name = "celery.map"


class xstarmap(_OverItems):  # Celery's name
    """One call that runs a task's function with each item's parts."""

    task_name = "celery.starmap"


class chunks(_OverItems):  # Celery's name
    """A list in parts of ``n``, each of them one call."""

    task_name = "celery.chunks"

    def __init__(self, task: Any, it: Iterable[Any] = (), n: int = 1, app: Opsq | None = None) -> None:
        if not isinstance(n, int) or n < 1:
            raise UsageError(f"chunks are of 1 item or more each, got {n!r}")
        super().__init__(task, it, app, n=n)

    def group(self) -> Any:
        """The calls, as a group."""
        items, each = iter(self.kwargs["it"]), self.kwargs["task"]
        parts = iter(lambda: list(islice(items, self.kwargs["n"])), [])
        return group([xstarmap(each, part, app=self._app) for part in parts], app=self._app)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Any:
        """The calls, starting one after the other."""
        return self.group().skew(start, stop, step)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Publish them."""
        return self.apply_async(args, {}, **options)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Publish the calls; returns a GroupResult."""
        return self.group().apply_async((), kwargs, **options)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the calls right here."""
        return self.group().apply((), kwargs, **options)
