"""The web framework that an app lives in, and what it wants done around opsq's work. Django is the only one known.

A process belongs to a Django project when ``DJANGO_SETTINGS_MODULE`` is set, as for Celery. What is done then is in
``opsq/contrib/django``; nothing of it, and nothing of Django, is imported otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol, TypeVar, cast

from opsq import plugins
from opsq.core.task import Task
from opsq.errors import ConfigError
from opsq.settings import Settings
from opsq.settings_load import variable

log = logging.getLogger(__name__)

R = TypeVar("R")
Async = Callable[..., Coroutine[Any, Any, R]]


class Framework(Protocol):
    """What a framework does for opsq. ``begin``, ``end`` and ``let_go`` never raise."""

    @property
    def task_class(self) -> type[Task[..., Any]]:
        """What tasks are made of, unless an app or a task says otherwise."""
        ...

    def packages(self) -> Sequence[str]:
        """Where tasks are looked for when ``autodiscover_tasks`` was told nothing."""
        ...

    def prepare(self, settings: Settings) -> None:
        """Get ready for the import of task modules. Twice does no harm. Raises: ConfigError with every fault."""
        ...

    def let_go(self) -> None:
        """Close what this thread has opened, pools too: a fork server and its children must not inherit it."""
        ...

    def begin(self) -> None:
        """Drop connections that are too old or broken. Thread: the slot's, before an attempt."""
        ...

    def end(self) -> None:
        """Close connections that are not to be kept. Thread: the slot's, after an attempt."""
        ...

    def on_loop(self, function: Async[R]) -> Async[R]:
        """The same coroutine function, whose connections are its own and closed when it ends."""
        ...


def framework() -> Framework | None:
    """The framework that this process belongs to, or none. Thread: any."""
    return _django() if variable("DJANGO_SETTINGS_MODULE", optional=True) else None


def default_task_class() -> type[Task[..., Any]]:
    """What tasks are made of when nothing else was said."""
    found = framework()
    return found.task_class if found is not None else Task


@contextmanager
def importing_tasks(settings: Settings) -> Iterator[None]:
    """Have the framework ready for the block, and nothing of it open afterwards. Raises: ConfigError."""
    found = framework()
    if found is None:
        yield
        return
    found.prepare(settings)
    try:
        yield
    finally:
        found.let_go()


def around(found: Framework | None, work: Callable[[], R]) -> R:
    """Do ``work`` in this thread, with ``begin`` and ``end`` of the framework, if there is one."""
    if found is None:
        return work()
    found.begin()
    try:
        return work()
    finally:
        found.end()


@cache
def _django() -> Framework | None:
    try:
        plugins.require("django", "DJANGO_SETTINGS_MODULE")
    except ConfigError as error:
        log.warning("going on without Django", extra={"reason": str(error)})
        return None
    return cast(Framework, plugins.resolve("opsq.contrib.django.fixup:DJANGO"))
