"""How a child process of the worker gets its runner: find the app again, by name, and build on it."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from opsq import plugins
from opsq.broker.connection import open_connection
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY
from opsq.clock import LamportClock, SystemClock
from opsq.core.backends.registry import SCHEMES, scheme_of
from opsq.core.worker.emit import EVENTS_DEADLINE_S, Emitter
from opsq.core.worker.execute import Executor
from opsq.core.worker.level_file import apply_file
from opsq.core.worker.log_setup import set_up_logs
from opsq.core.worker.posix import CHILD_DUMPS_ON, show_stacks_at
from opsq.core.worker.stack_file import listen
from opsq.core.worker.voice import Voice
from opsq.errors import ConfigError, Fault
from opsq.log_output import take_output
from opsq.settings import Settings
from opsq.signals import worker_process_init

log = logging.getLogger(__name__)


class ChildSetup:
    """Builds the runner of a child process, in the child. Picklable.

    app: ``module:attribute``. cli: settings given on the command line. levels: file of log levels that remote
    control has set, see ``level_file.py``.
    """

    _app: Any = None

    def __init__(self, app: str, hostname: str, cli: Mapping[str, object], levels: str = "") -> None:
        self.app = app
        self.hostname = hostname
        self.cli = dict(cli)
        self.levels = levels

    def preload(self) -> None:
        """Load the app once, in the fork server: the children start with it, and share its memory.

        The result store's module too, but not the store: what it connects must not be shared.
        """
        self._app = self._load()
        settings = self._app.settings
        store = SCHEMES.get(scheme_of(settings.resolved_result_backend() or "disabled"))
        if store is not None:
            plugins.resolve(store)

    def __call__(self) -> Executor:
        """Set up the logs of this child and return the app's executor."""
        app = self._app or self._load()
        settings = app.settings
        if set_up_logs(settings, self.hostname):
            take_output(settings.worker_redirect_stdouts_level)
        show_stacks_at(CHILD_DUMPS_ON)
        apply_file(self.levels)
        listen(lambda: apply_file(self.levels))
        worker_process_init.send(sender=self.hostname)
        executor = Executor(app, self.hostname)
        if settings.worker_send_task_events:
            executor.speak(voice_of_child(app, self.hostname))
        return executor

    def _load(self) -> Any:
        """Find the app and put the command line's settings on it."""
        app: Any = plugins.resolve(self.app)
        if self.cli and not app.is_finalized:
            app.apply_cli(self.cli)
        app.import_task_modules()
        app.finalize()
        return app


class _Announcer:
    """An emitter that connects when there is first something to say. Thread: any."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        self._settings = settings
        self._hostname = hostname
        self._lock = threading.Lock()
        self._emitter: Emitter | None = None
        self.on_flush: Callable[[], None] | None = None

    def emit(self, kind: str, fields: dict[str, Any]) -> None:
        """Queue an event."""
        self._running().emit(kind, fields)

    def wake(self) -> None:
        """Have ``on_flush`` called soon."""
        self._running().wake()

    def stop(self) -> None:
        """Send what is left, for a second at most."""
        if self._emitter is not None:
            self._emitter.stop(time.monotonic() + 1.0)

    def _running(self) -> Emitter:
        with self._lock:
            if self._emitter is None:
                connect = partial(open_connection, self._settings, purpose="write")
                publisher = Publisher(connect, NO_RETRY, deadline_s=EVENTS_DEADLINE_S, confirm="async")
                clock = SystemClock()
                made = Emitter(self._hostname, publisher, self._settings, None, clock, LamportClock())
                made.on_flush = self.on_flush
                made.start()
                self._emitter = made
            return self._emitter


def voice_of_child(app: Any, hostname: str) -> Voice:
    """The voice of a process whose worker's emitter is elsewhere; connects nothing yet."""
    announcer = _Announcer(app.settings, hostname)
    voice = Voice(announcer.emit, announcer.wake, app.settings.event_log_lines_max, SystemClock())
    voice.on_stop = announcer.stop
    announcer.on_flush = voice.heard
    return voice


def address_of(app: Any, named: str | None) -> str:
    """Where other processes find ``app``: what ``-A`` said, or a module that holds it.

    Raises: ConfigError when no importable module holds it under a name.
    """
    if named:
        module, _, attribute = named.partition(":")
        found = attribute or _attribute_of(module, app)
        if found:
            return f"{module}:{found}"
    likely = [app.main, *(getattr(task.run, "__module__", None) for task in app.tasks.values()), "__main__"]
    # Of a project whose tasks are all shared ones, none of these may hold the app.
    modules = [*likely, *(name for name in tuple(sys.modules) if name.partition(".")[0] != "opsq")]
    for module in dict.fromkeys(name for name in modules if name):
        found = _attribute_of(module, app)
        if found:
            return f"{module}:{found}"
    raise ConfigError(
        [
            Fault(
                "the prefork pool cannot find your app again in its child processes: no module holds it under a name",
                "worker_pool",
                "assign the app to a name at the top level of a module, or choose -P threads",
            )
        ]
    )


def _attribute_of(module: str, app: Any) -> str | None:
    names: dict[str, Any] = getattr(sys.modules.get(module), "__dict__", {})
    for name, value in tuple(names.items()):
        if value is app and not name.startswith("_"):
            return name
    return None
