"""From a function or class to a task: its class, its name, its checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opsq import plugins
from opsq.core.arguments import with_pydantic
from opsq.core.framework import default_task_class
from opsq.core.task import Task
from opsq.core.task_options import check_task_options
from opsq.errors import UsageError

if TYPE_CHECKING:
    from opsq.core.app import Opsq


def task_name(function: Any, main: str | None) -> str:
    """The default name of a task: ``module.function``.

    main: name of the app, which stands for ``__main__``: a worker imports that module under its real
    name, and would not know a task called ``__main__.add``.
    """
    module = getattr(function, "__module__", None) or "__main__"
    if module == "__mp_main__":  # the same script, run again by a process that cannot import __main__
        module = "__main__"
    if module == "__main__" and main:
        module = main
    return f"{module}.{getattr(function, '__name__', type(function).__name__)}"


def build_task(
    function: Callable[..., Any], options: Mapping[str, Any], main: str | None, base: type
) -> Task[..., Any]:
    """Make a task of a function; not yet bound to an app.

    Raises: UsageError for an unknown option or an unusable base.
    """
    wanted = dict(options)
    base = wanted.pop("base", None) or base
    if not isinstance(base, type) or not issubclass(base, Task):
        raise UsageError(f"base= is a subclass of opsq.Task, got {base!r}")
    name = wanted.pop("name", None) or task_name(function, main)
    if not isinstance(name, str):
        raise UsageError(f"name= is text, got {name!r}")
    check_task_options(f"task {name!r}", wanted, base)
    bind = bool(wanted.pop("bind", False))
    if wanted.get("pydantic"):
        function = with_pydantic(function, bind, wanted)
    for ours_not_theirs in ("lazy", "shared"):
        wanted.pop(ours_not_theirs, None)
    made = type(
        getattr(function, "__name__", "task"),
        (base,),
        {
            **wanted,
            "name": name,
            "bind": bind,
            "run": function if bind else staticmethod(function),
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__wrapped__": function,
        },
    )
    task: Task[..., Any] = made()
    return task


def base_for(app: Opsq, chosen: type[Task[..., Any]] | str | None) -> type[Task[..., Any]]:
    """The base class of an app's tasks. chosen: a class or its path instead of ``Task``."""
    named = plugins.resolve(chosen, origin="task_cls") if isinstance(chosen, str) else chosen
    base: Any = named or default_task_class()
    return type("Task", (base,), {"_app": app, "abstract": True, "__module__": base.__module__})


def instance_for(app: Opsq, task: Any) -> Task[..., Any]:
    """Make a class-based task ready for ``register_task``: an instance with a name.

    Raises: UsageError when it is no task.
    """
    if isinstance(task, type) and issubclass(task, Task):
        task = task()
    if not isinstance(task, Task):
        raise UsageError(f"register_task takes a Task or a subclass of it, got {task!r}")
    if task.name is None:
        task.name = task_name(type(task), app.main)
    return task


def copy_for(task: Task[..., Any]) -> Task[..., Any]:
    """An app's own copy of a shared task: the same class, nothing filled in yet."""
    copy: Task[..., Any] = type(task).__new__(type(task))
    copy.__dict__.update({key: value for key, value in vars(task).items() if key != "_app"})
    return copy


def annotate(task: Task[..., Any], annotations: Any) -> None:
    """Override attributes of ``task`` as ``task_annotations`` says, by name or ``*``, or by ``annotate(task)``.

    Raises: UsageError for an annotation that is neither a table nor an object with ``annotate``.
    """
    if not annotations:
        return
    for each in annotations if isinstance(annotations, (list, tuple)) else (annotations,):
        each = each() if inspect.isclass(each) else each
        if isinstance(each, Mapping):
            found = {**(each.get("*") or {}), **(each.get(task.name) or {})}
        elif hasattr(each, "annotate"):
            found = {
                **(each.annotate_any() or {} if hasattr(each, "annotate_any") else {}),
                **(each.annotate(task) or {}),
            }
        else:
            raise UsageError(f"task_annotations: expected a table or an object with annotate(), got {each!r}")
        for key, value in found.items():
            setattr(task, key.removeprefix("@"), value)
