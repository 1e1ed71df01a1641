"""Signatures: calls as data that can be passed on, linked, chained, grouped, and published.

A signature is a dict of Celery's six keys, so it travels inside messages as it is. What to publish for
a workflow is decided by ``core/canvas.py``; this module builds the dicts and hands plans to the app.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from opsq.core.canvas import merge_options
from opsq.core.registry import PROCESS
from opsq.errors import UsageError
from opsq.wire.saferepr import saferepr

if TYPE_CHECKING:
    from opsq.core.app import Opsq
    from opsq.core.task import Task


class Signature(dict[str, Any]):
    """One call as data. Thread: one at a time; ``clone`` to change a copy."""

    _app: Opsq | None = None
    _task: Task[..., Any] | None = None
    subtask_kind: str | None = None

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        app: Opsq | None = None,
        immutable: bool = False,
        **call: Any,
    ) -> None:
        super().__init__()
        if isinstance(task, Mapping):
            self.update((key, _copied(part)) for key, part in task.items())
        else:
            self["task"] = task if isinstance(task, str) else getattr(task, "name", task)
            self.update(
                args=tuple(args or ()),
                kwargs=dict(kwargs or {}),
                options={**(options or {}), **call},
                subtask_type=self.subtask_kind,
                immutable=immutable,
            )
        for key, empty in (("args", ()), ("kwargs", {}), ("options", {}), ("subtask_type", None), ("immutable", False)):
            self.setdefault(key, empty)
        self._app = app

    def __repr__(self) -> str:
        return self.reprcall()

    def __reduce__(self) -> tuple[Any, ...]:
        return (signature, (dict(self),))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.clone()

    def __hash__(self) -> int:  # type: ignore[override]  # dicts have none; handles in sets want one
        return id(self)

    def of_task(self, task: Task[..., Any]) -> Self:
        """Remember the task object, so that it need not be looked up; returns this signature."""
        self._task = task
        self._app = self._app or task.bound_app
        return self

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self["task"])

    name = task

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments."""
        return tuple(self["args"])

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments; the dict itself."""
        return self["kwargs"]  # type: ignore[no-any-return]  # set by __init__

    @property
    def options(self) -> dict[str, Any]:
        """Call options; the dict itself."""
        return self["options"]  # type: ignore[no-any-return]  # set by __init__

    @property
    def immutable(self) -> bool:
        """Whether a parent's result is left out."""
        return bool(self["immutable"])

    @property
    def subtask_type(self) -> str | None:
        """``chain``, ``group``, ``chord`` or none."""
        return self["subtask_type"]  # type: ignore[no-any-return]  # set by __init__

    @property
    def id(self) -> str | None:
        """The id it will have, when it was fixed."""
        return self.options.get("task_id")

    @property
    def app(self) -> Opsq:
        """The app it is published through. Raises: UsageError when there is none."""
        return self._app or PROCESS.current()

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """A copy, with ``args`` before its own and the rest merged in."""
        new: Self = _copied(self)
        if args or kwargs or options:
            new["args"], new["kwargs"], new["options"] = self._merged(args, kwargs, options)
        return new

    partial = clone

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Self:
        """A copy with these parts instead of its own."""
        new = self.clone()
        for key, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                new[key] = value
        return new

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Change options of this signature and return it."""
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Leave a parent's result out, or not."""
        self["immutable"] = immutable

    def link(self, callback: Any) -> Any:
        """Call ``callback`` with the result when this one succeeds; returns ``callback``."""
        return self._append("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Call ``errback`` when this one fails; returns ``errback``."""
        return self._append("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """As ``link_error``, but returns this signature."""
        self.link_error(errback)
        return self

    def freeze(self, _id: str | None = None, **options: Any) -> Any:
        """Fix the id and return the handle that the call will have."""
        self.options.update({key: value for key, value in options.items() if value is not None})
        self.options["task_id"] = _id or self.id or self.app.new_id()
        return self.app.AsyncResult(self.options["task_id"])

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Publish it, with ``args`` before its own."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Publish it, with ``args`` before its own and ``options`` over its own; returns the handle."""
        args, kwargs, merged = self._merged(args or (), kwargs, options)
        task = self._task or self.app.tasks.get(self.task)
        if task is not None:
            return task.apply_async(args, kwargs, **merged)
        return self.app.send_task(self.task, args, kwargs, **merged)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it right here; returns an EagerResult."""
        args, kwargs, merged = self._merged(args or (), kwargs, options)
        return (self._task or self.app.tasks[self.task]).apply(args, kwargs, **merged)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function right here, without any message."""
        args, kwargs, _options = self._merged(args, kwargs, {})
        return (self._task or self.app.tasks[self.task])(*args, **kwargs)

    def __invert__(self) -> Any:
        """Publish it and wait for the result."""
        return self.apply_async().get()

    def __or__(self, other: Any) -> Any:
        """Chain: run ``other`` with the result of this one."""
        if not isinstance(other, Signature):
            return NotImplemented
        return chain(*_steps_of(self), *_steps_of(other), app=self._app)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as text, ``name(1, x=2)``."""
        shown = [saferepr(arg) for arg in (*args, *self.args)]
        shown += [f"{key}={saferepr(value)}" for key, value in {**self.kwargs, **kwargs}.items()]
        return f"{self.task}({', '.join(shown)})"

    def _append(self, key: str, value: Any) -> Any:
        links = self.options.setdefault(key, [])
        if not isinstance(links, list):
            links = self.options[key] = [links]
        if value not in links:
            links.append(value)
        return value

    def _merged(
        self, args: Sequence[Any], kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        merged = merge_options(self.options, options)
        if self.immutable:
            return self.args, dict(self.kwargs), merged
        return (*args, *self.args), {**self.kwargs, **(kwargs or {})}, merged


class _Workflow(Signature):
    """What chains and groups have in common: members, and being planned instead of sent."""

    task_name: str

    def __init__(self, *tasks: Any, app: Opsq | None = None, **options: Any) -> None:
        if len(tasks) == 1 and isinstance(tasks[0], Mapping) and tasks[0].get("subtask_type") == self.subtask_kind:
            super().__init__(tasks[0], app=app)
        else:
            if len(tasks) == 1 and not isinstance(tasks[0], Mapping) and isinstance(tasks[0], Iterable):
                tasks = tuple(tasks[0])
            members = [maybe_signature(task) for task in tasks]
            super().__init__(self.task_name, (), {"tasks": members}, options, app=app)
        self.kwargs["tasks"] = [maybe_signature(task) for task in self.kwargs.get("tasks", ())]

    @property
    def tasks(self) -> list[Signature]:
        """The members, in order."""
        return self.kwargs["tasks"]  # type: ignore[no-any-return]  # set by __init__

    @property
    def app(self) -> Opsq:
        """The app of the first member that has one."""
        bound = self._app or next((task._app for task in self.tasks if task._app is not None), None)
        return bound or PROCESS.current()

    def __bool__(self) -> bool:
        return bool(self.tasks)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Publish it."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Publish it, with ``args`` before those of its first task (or of all); returns the handle."""
        if self.app.settings.task_always_eager:
            return self.apply(args, kwargs, **options)
        return self.app.run_workflow(dict(self), () if self.immutable else (args or ()), options)


class chain(_Workflow):  # Celery's name
    """Tasks one after the other, each with the result of the one before as first argument."""

    subtask_kind = "chain"
    task_name = "celery.chain"

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks))

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the steps right here, stopping at the first failure; returns the last EagerResult."""
        result: Any = None
        for step in self.tasks:
            given = (args or ()) if result is None else (result.result,)
            done = step.apply(given, kwargs if result is None else None, **options)
            done.parent = result
            result = done
            if not result.successful():
                break
        return result


class group(_Workflow):  # Celery's name
    """Tasks side by side."""

    subtask_kind = "group"
    task_name = "celery.group"

    def __repr__(self) -> str:
        return f"group([{', '.join(map(repr, self.tasks))}])"

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Start the members one after the other: countdowns from ``start`` by ``step``, below ``stop``."""
        at = start
        for task in self.tasks:
            task.set(countdown=at)
            at = start if stop is not None and at + step >= stop else at + step
        return self

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the members right here, one after the other; returns a GroupResult."""
        results = [task.apply(args, kwargs, **options) for task in self.tasks]
        return self.app.GroupResult(self.id or self.app.new_id(), results)


_KINDS: Final[Mapping[str, type[Signature]]] = {"chain": chain, "group": group}


def signature(
    task: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    app: Opsq | None = None,
    immutable: bool = False,
    **more: Any,
) -> Signature:
    """Make a signature of a task or its name, or read one back from its dict. more: call options."""
    if isinstance(task, Signature):
        return task.clone()
    if isinstance(task, Mapping):
        if not task.get("task"):
            raise UsageError(f"a signature needs a task, got {saferepr(task, 80)}")
        return _KINDS.get(str(task.get("subtask_type")), Signature)(task, app=app)
    new = Signature(task, args, kwargs, {**(options or {}), **more}, app=app, immutable=immutable)
    return new if isinstance(task, str) else new.of_task(task)


def maybe_signature(value: Any, app: Opsq | None = None) -> Any:
    """Turn a plain dict into a signature; leave a signature as it is.

    Raises: UsageError for anything else.
    """
    if isinstance(value, Signature):
        return value
    if isinstance(value, Mapping):
        return signature(value, app=app)
    raise UsageError(f"expected a signature such as add.s(1), got {saferepr(value, 80)}")


subtask = signature
maybe_subtask = maybe_signature


def _steps_of(sig: Signature) -> list[Signature]:
    return sig.tasks if isinstance(sig, chain) and not sig.options else [sig]


def _copied(value: Any) -> Any:
    """Copy dicts and lists all the way down; members of workflows are signatures again."""
    if isinstance(value, Signature):
        # Not through the constructor: it copies as well, and so would double the work at each level.
        new = type(value).__new__(type(value))
        new.update((key, _copied(part)) for key, part in value.items())
        new._app, new._task = value._app, value._task
        return new
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_copied(part) for part in value]
    return value
