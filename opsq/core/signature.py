"""Signatures: calls as data that can be passed on, linked, chained, grouped, and published.

A signature is a dict of Celery's six keys, so it travels inside messages as it is. What to publish for
a workflow is decided by ``core/canvas.py``; this module builds the dicts and hands plans to the app.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from opsq import plugins
from opsq.core.canvas_options import merge_options
from opsq.core.registry import PROCESS
from opsq.errors import UsageError
from opsq.wire.saferepr import saferepr

if TYPE_CHECKING:
    from opsq.core.app import Opsq
    from opsq.core.task import Task


_KINDS: Final = frozenset({"chain", "group", "chord"})
_BY_TASK: Final[Mapping[str, str]] = {"celery.map": "xmap", "celery.starmap": "xstarmap", "celery.chunks": "chunks"}


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
            self.update((key, copied(part)) for key, part in task.items())
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
        return (signature, (copied(dict(self)),))

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
        new: Self = copied(self)
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
        join: Any = plugins.resolve("opsq.core.workflows:join")
        return join(self, other)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp this call, and all in it: with ``headers``, or as ``visitor`` says; returns this signature.

        append_stamps: values that are there are kept, in a list, rather than winning.
        """
        stamp: Any = plugins.resolve("opsq.core.stamping:stamp")
        stamp(self, visitor, append_stamps, headers)
        return self

    def stamp_links(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        """Stamp the callbacks and error callbacks of this call."""
        stamp: Any = plugins.resolve("opsq.core.stamping:stamp_links")
        stamp(self, visitor, append_stamps, headers)

    def flatten_links(self) -> list[Signature]:
        """This and all its callbacks, theirs included."""
        links = self.options.get("link") or ()
        several = [links] if isinstance(links, Mapping) else links
        return [self, *(each for link in several for each in maybe_signature(link, self._app).flatten_links())]

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
        return _class_of(task)(task, app=app)
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


def _class_of(plain: Mapping[str, Any]) -> type[Signature]:
    kind = plain.get("subtask_type")
    name = kind if isinstance(kind, str) and kind in _KINDS else _BY_TASK.get(str(plain.get("task")))
    if name is None:
        return Signature
    # By name: workflows are signatures of signatures, and are defined on top of this module.
    found: Any = plugins.resolve(f"opsq.core.{'workflows' if name in _KINDS else 'over_items'}:{name}")
    return found  # type: ignore[no-any-return]  # a subclass of Signature


def copied(value: Any) -> Any:
    """Copy dicts and lists all the way down; members of workflows are signatures again."""
    if isinstance(value, Signature):
        # Not through the constructor: it copies as well, and so would double the work at each level.
        new = type(value).__new__(type(value))
        new.update((key, copied(part)) for key, part in value.items())
        new._app, new._task = value._app, value._task
        return new
    if isinstance(value, Mapping):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [copied(part) for part in value]
    as_list = getattr(value, "as_list_of_tasks", None)
    return copied(as_list()) if as_list is not None else value
