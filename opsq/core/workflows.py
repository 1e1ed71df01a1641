"""Signatures made of signatures: ``chain``, ``group``, ``chord``.

They only hold their members; what is published when is decided by ``core/canvas.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from opsq.core.canvas import Planner, handle_of
from opsq.core.canvas_options import Fitter
from opsq.core.lazy_tasks import LazyTasks, is_lazy
from opsq.core.registry import PROCESS
from opsq.core.signature import Signature, copied, maybe_signature, signature
from opsq.errors import UsageError
from opsq.wire.signature import parse_signature, signature_to_wire

if TYPE_CHECKING:
    from opsq.core.app import Opsq


class Workflow(Signature):
    """What chains, groups and chords have in common: being planned instead of sent."""

    @property
    def members(self) -> list[Signature]:
        """All calls of the first level."""
        return []

    @property
    def app(self) -> Opsq:
        """The app of the first member that has one."""
        return self._app or next(filter(None, map(_app_of, self.members)), None) or PROCESS.current()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Publish it."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Publish it, with ``args`` before those of its first task (or of all); returns the handle.

        options: of the call; ``progress`` as of ``Sender.send_stream``.
        """
        app = self.app
        if app.settings.task_always_eager:
            options.pop("progress", None)
            return self.apply(args, kwargs, **options)
        return app.run_workflow(copied(dict(self)), args or (), options, kwargs)

    def freeze(self, _id: str | None = None, **options: Any) -> Any:
        """Fix the ids of everything in it, and return the handle it will have."""
        app = self.app
        planner = Planner(app.new_id, app.origin.thread_oid, app.settings.task_allow_error_cb_on_chord_header)
        given = {**options, **({"task_id": _id} if _id else {})}
        node = planner.fix(Fitter(False).give(parse_signature(copied(dict(self))), given))
        fixed = signature(signature_to_wire(node), app=self._app)
        self["kwargs"], self["options"] = fixed["kwargs"], {**self.options, **fixed["options"]}
        return app.result_from_ref(handle_of(node))


class _Several(Workflow):
    """Chains and groups: a list of tasks."""

    task_name: str

    def __init__(self, *tasks: Any, app: Opsq | None = None, **options: Any) -> None:
        if len(tasks) == 1 and isinstance(tasks[0], Mapping) and tasks[0].get("subtask_type") == self.subtask_kind:
            super().__init__(tasks[0], app=app)
            self.kwargs["tasks"] = [maybe_signature(task) for task in self.kwargs.get("tasks", ())]
            return
        if len(tasks) == 1 and not isinstance(tasks[0], Mapping) and isinstance(tasks[0], Iterable):
            several: Iterable[Any] = tasks[0]
        else:
            several = tasks
        super().__init__(self.task_name, (), {}, options, app=app)
        self.kwargs["tasks"] = self._listed(several)

    def _listed(self, tasks: Iterable[Any]) -> Any:
        return [maybe_signature(task) for task in tasks]

    @property
    def tasks(self) -> list[Signature]:
        """The members, in order."""
        tasks = self.kwargs["tasks"]
        if isinstance(tasks, LazyTasks):
            tasks = self.kwargs["tasks"] = tasks.as_list_of_tasks()
        return tasks  # type: ignore[no-any-return]  # set by __init__

    @tasks.setter
    def tasks(self, tasks: Iterable[Any]) -> None:
        self.kwargs["tasks"] = [maybe_signature(task) for task in tasks]

    @property
    def members(self) -> list[Signature]:
        """As ``tasks``."""
        return self.tasks

    def __bool__(self) -> bool:
        return bool(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def set_immutable(self, immutable: bool) -> None:
        """Leave a parent's result out of every member, or not."""
        for task in self.tasks:
            task.set_immutable(immutable)


class chain(_Several):  # Celery's name
    """Tasks one after the other, each with the result of the one before as first argument."""

    subtask_kind = "chain"
    task_name = "celery.chain"

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        """A chain; of one task, that task itself."""
        if len(tasks) == 1 and not options and isinstance(tasks[0], (list, tuple)):
            tasks = tuple(tasks[0])
        if len(tasks) == 1 and not options and isinstance(tasks[0], Signature) and not isinstance(tasks[0], cls):
            return tasks[0].clone()
        return super().__new__(cls)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks))

    def unchain_tasks(self) -> list[Signature]:
        """Copies of the tasks, with the chain's callbacks at the last and its error callbacks at all."""
        tasks = [task.clone() for task in self.tasks]
        for errback in _listed(self.options.get("link_error")):
            for task in tasks:
                task.link_error(maybe_signature(errback))
        for callback in _listed(self.options.get("link")) if tasks else ():
            tasks[-1].link(maybe_signature(callback))
        return tasks

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the steps right here, stopping at the first failure; returns the last EagerResult."""
        result: Any = None
        for step in self.tasks:
            given = (args or ()) if result is None else (result.get(),)
            done = step.apply(given, kwargs if result is None else None, **options)
            done.parent = result
            result = done
            if not result.successful():
                break
        return result


class group(_Several):  # Celery's name
    """Tasks side by side. A generator of tasks is used up while it is published, a batch at a time."""

    subtask_kind = "group"
    task_name = "celery.group"

    def __repr__(self) -> str:
        if isinstance(self.kwargs.get("tasks"), LazyTasks):
            return "group(<generator>)"
        return f"group([{', '.join(map(repr, self.tasks))}])"

    def _listed(self, tasks: Iterable[Any]) -> Any:
        return LazyTasks(tasks, maybe_signature) if is_lazy(tasks) else super()._listed(tasks)

    @property
    def app(self) -> Opsq:
        """The app of the first member that has one."""
        tasks = self.kwargs["tasks"]
        if isinstance(tasks, LazyTasks):
            first = tasks.peek()
            return self._app or (_app_of(first) if first is not None else None) or PROCESS.current()
        return super().app

    def link(self, callback: Any) -> Any:
        """Call ``callback`` when the first member succeeds, without its result."""
        if not self.tasks:
            raise UsageError("a group without tasks cannot have a callback")
        return self.tasks[0].link(maybe_signature(callback).clone().set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Call ``errback`` for every member that fails."""
        return tuple(task.link_error(maybe_signature(errback).clone()) for task in self.tasks)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Start the members one after the other: countdowns from ``start`` by ``step``, below ``stop``."""
        at = start
        for task in self.tasks:
            task.set(countdown=at)
            at = start if stop is not None and at + step >= stop else at + step
        return self

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Publish all members; returns a GroupResult.

        Raises: UsageError for ``link=``, which could be called for no single result.
        """
        tasks = self.kwargs["tasks"]
        if options.get("link"):
            raise UsageError("link= cannot be given to a group as a whole; link a task of it, or follow it by a chord")
        app = self.app
        if isinstance(tasks, LazyTasks) and not app.settings.task_always_eager:
            own = {key: value for key, value in self.kwargs.items() if key != "tasks"}
            return app.sender.send_stream(
                tasks, self.args, args, {**own, **(kwargs or {})}, {**self.options, **options}
            )
        return super().apply_async(args, kwargs, **options)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the members right here, one after the other; returns a GroupResult."""
        results = [task.apply(args, kwargs, **options) for task in self.tasks]
        return self.app.GroupResult(self.id or self.app.new_id(), results)


class chord(Workflow):  # Celery's name
    """A header of tasks side by side, then a body with the list of their results, in order."""

    subtask_kind = "chord"

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Opsq | None = None,
        **options: Any,
    ) -> None:
        if isinstance(header, Mapping) and header.get("subtask_type") == "chord" and body is None:
            super().__init__(header, app=app)
            header, body = self.kwargs.get("header") or (), self.kwargs.get("body")
        else:
            super().__init__(task, args, {"kwargs": dict(kwargs or {})}, options, app=app)
        self.kwargs["header"] = header if isinstance(header, group) else group(header)
        self.kwargs["body"] = maybe_signature(body) if body is not None else None

    def __repr__(self) -> str:
        return f"chord({self.tasks!r}, {self.body!r})"

    @property
    def tasks(self) -> group:
        """The header."""
        return self.kwargs["header"]  # type: ignore[no-any-return]  # set by __init__

    @property
    def body(self) -> Any:
        """The body, none while it is open."""
        return self.kwargs["body"]

    @body.setter
    def body(self, body: Any) -> None:
        self.kwargs["body"] = maybe_signature(body)

    @property
    def members(self) -> list[Signature]:
        """The header's tasks and the body."""
        lazily = isinstance(self.tasks.kwargs["tasks"], LazyTasks)
        first = [self.tasks] if lazily else self.tasks.tasks
        return [*first, *([self.body] if self.body is not None else [])]

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Publish it, with ``body`` as the body."""
        return self.with_body(body).apply_async((), {}, **options)

    def with_body(self, body: Any) -> chord:
        """This, or a copy with another body."""
        if body is None:
            return self
        lazily = self.tasks
        new = self if isinstance(lazily.kwargs["tasks"], LazyTasks) else self.clone()
        new.body = maybe_signature(body).clone()
        return new

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Publish the header; returns the handle of the body's result, whose parent is the header's."""
        kwargs = dict(kwargs or {})
        whole = self.with_body(kwargs.pop("body", None))
        if whole.body is None:
            raise UsageError("a chord needs a body: chord(header, body), or chord(header)(body)")
        tasks, app = whole.tasks.kwargs["tasks"], whole.app
        if isinstance(tasks, LazyTasks) and not app.settings.task_always_eager:
            merged = {**whole.options, **options}
            return app.sender.send_stream(tasks, whole.args, args, kwargs, merged, copied(dict(whole.body)))
        return super(chord, whole).apply_async(args, kwargs, **options)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the header and then the body right here; returns the body's EagerResult."""
        header = self.tasks.apply(args, kwargs)
        result = self.body.apply((header.get(),), **options)
        result.parent = header
        return result

    def link(self, callback: Any) -> Any:
        """Call ``callback`` with the result of the body."""
        self.body = self.body.clone()
        return self.body.link(callback)

    def link_error(self, errback: Any) -> Any:
        """Call ``errback`` when the body cannot run or fails; the header's tasks by setting only."""
        if self.app.settings.task_allow_error_cb_on_chord_header:
            self.tasks.link_error(errback)
        self.body = self.body.clone()
        return self.body.link_error(errback)

    def set_immutable(self, immutable: bool) -> None:
        """Leave a parent's result out of the body, or not."""
        self.body.set_immutable(immutable)


def join(one: Signature, other: Signature) -> Signature:
    """``one | other``: the tasks of both, one after the other; a group that something follows is a chord."""
    if isinstance(one, group) and not isinstance(one, chain):
        members = one.tasks
        if len(members) != 1:
            return chord(one.clone(), other.clone(), app=one._app) if members else other.clone()
        one = members[0]
    if isinstance(one, chord) and one.body is not None:
        new = one.clone()
        new.body = one.body | other
        return new
    new_chain: Signature = chain(*_steps_of(one), *_steps_of(other), app=one._app)
    return new_chain


def _steps_of(sig: Signature) -> list[Signature]:
    return sig.tasks if isinstance(sig, chain) and not sig.options else [sig]


def _app_of(sig: Signature) -> Opsq | None:
    if sig._app is not None or not isinstance(sig, Workflow):
        return sig._app
    return next(filter(None, map(_app_of, sig.members)), None)


def _listed(value: Any) -> list[Any]:
    if not value:
        return []
    return [value] if isinstance(value, Mapping) else list(value)
