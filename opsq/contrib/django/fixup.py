"""What a Django project needs of whoever runs its tasks: set up, checked, its connections kept fit.

Django closes and checks its database connections at the edges of a web request; a worker has none, so each attempt
of a task is treated as one. How long a connection lives is what Django's ``CONN_MAX_AGE`` says.
Source: ``celery.fixups.django``, whose ``CELERY_DB_REUSE_MAX`` this replaces.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Final, TypeVar

import django
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.apps import apps
from django.core import checks
from django.core.cache import caches, close_caches
from django.db import close_old_connections, connections, reset_queries

from opsq.contrib.django.task import DjangoTask
from opsq.core.framework import Async, Framework
from opsq.errors import ConfigError, Fault
from opsq.settings import Settings

log = logging.getLogger(__name__)

R = TypeVar("R")


class Django:
    """Does for opsq what a Django project needs; see ``Framework``. Holds nothing."""

    task_class = DjangoTask

    def packages(self) -> Sequence[str]:
        """The installed apps."""
        return [config.name for config in apps.get_app_configs()]

    def prepare(self, settings: Settings) -> None:
        """Set Django up and run its system checks, unless that was done. Raises: ConfigError with every fault."""
        if apps.ready or apps.loading:
            return  # by manage.py, by a web server, or by the module that makes the app: it has checked, if it wanted
        try:
            django.setup()
        except Exception as error:  # boundary: the project's settings and models may raise anything
            problem = f"Django could not be set up: {type(error).__name__}: {error}"
            raise ConfigError([Fault(problem, "DJANGO_SETTINGS_MODULE")]) from error
        if not settings.django_skip_checks:
            run_checks()

    def let_go(self) -> None:
        """Close the connections of this thread, their pools and its caches."""
        for connection in connections.all(initialized_only=True):
            _quietly(connection.close)
            _quietly(getattr(connection, "close_pool", _nothing))
        _quietly(caches.close_all)

    def begin(self) -> None:
        """Drop connections that are too old or broken, and the log of queries that DEBUG keeps."""
        _quietly(reset_queries)
        _quietly(close_old_connections)

    def end(self) -> None:
        """Close connections that have reached their age, and the caches."""
        _quietly(close_old_connections)
        _quietly(close_caches)

    def on_loop(self, function: Async[R]) -> Async[R]:
        """Let the coroutine's database work have a thread of its own, which closes its connections at the end.

        Without it all coroutines of the process would share one thread, and its connection would never be looked at.
        A coroutine that does not use the database costs no thread.
        """

        @wraps(function)
        async def call(*args: Any, **kwargs: Any) -> R:
            async with ThreadSensitiveContext() as context:
                try:
                    return await function(*args, **kwargs)
                finally:
                    if context in SyncToAsync.context_to_thread_executor:
                        await sync_to_async(self.let_go)()

        return call


DJANGO: Final[Framework] = Django()


def run_checks() -> None:
    """Run Django's system checks: errors stop whoever starts, warnings are logged. Raises: ConfigError."""
    found = [message for message in checks.run_checks() if not message.is_silenced()]
    serious = [message for message in found if message.is_serious()]
    if serious:
        raise ConfigError([Fault(_text(each), "Django's system checks", each.hint or "") for each in serious])
    for message in found:
        log.warning("Django's system checks", extra={"said": _text(message), "hint": message.hint})


def _text(message: Any) -> str:
    about = f"{message.obj}: " if message.obj is not None else ""
    return f"{about}{message.msg} ({message.id})"


def _nothing() -> None:
    pass


def _quietly(work: Callable[[], object]) -> None:
    """Do ``work``; a connection that cannot even be closed is no reason for a task to fail."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  # boundary: database drivers raise what they like when the other side has gone
        log.warning("a connection of Django could not be closed", extra={"error": repr(error)})
