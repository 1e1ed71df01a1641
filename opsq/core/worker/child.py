"""How a child process of the worker gets its runner: find the app again, by name, and build on it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from opsq import logs, plugins
from opsq.core.backends.registry import SCHEMES, scheme_of
from opsq.core.worker.execute import Executor
from opsq.core.worker.posix import CHILD_DUMPS_ON, show_stacks_at
from opsq.errors import ConfigError, Fault
from opsq.signals import setup_logging, worker_process_init

log = logging.getLogger(__name__)


class ChildSetup:
    """Builds the runner of a child process, in the child. Picklable.

    app: ``module:attribute``. cli: settings given on the command line.
    """

    def __init__(self, app: str, hostname: str, cli: Mapping[str, object]) -> None:
        self.app = app
        self.hostname = hostname
        self.cli = dict(cli)

    def preload(self) -> None:
        """Load the app once, in the fork server: the children start with it, and share its memory.

        The result store's module too, but not the store: what it connects must not be shared.
        """
        settings = self._load().settings
        store = SCHEMES.get(scheme_of(settings.resolved_result_backend() or "disabled"))
        if store is not None:
            plugins.resolve(store)

    def __call__(self) -> Executor:
        """Set up the logs of this child and return the app's executor."""
        app = self._load()
        if setup_logging.receivers:
            setup_logging.send(sender=None, loglevel=app.settings.log_level, logfile=None, format=None, colorize=None)
        else:
            logs.setup(logs.config_from(app.settings, worker=self.hostname))
        show_stacks_at(CHILD_DUMPS_ON)
        worker_process_init.send(sender=self.hostname)
        return Executor(app, self.hostname)

    def _load(self) -> Any:
        """Find the app and put the command line's settings on it."""
        app: Any = plugins.resolve(self.app)
        if self.cli and not app.is_finalized:
            app.apply_cli(self.cli)
        app.import_task_modules()
        app.finalize()
        return app


def address_of(app: Any, named: str | None) -> str:
    """Where other processes find ``app``: what ``-A`` said, or a module that holds it.

    Raises: ConfigError when no importable module holds it under a name.
    """
    if named:
        module, _, attribute = named.partition(":")
        found = attribute or _attribute_of(module, app)
        if found:
            return f"{module}:{found}"
    modules = [app.main, *(getattr(task.run, "__module__", None) for task in app.tasks.values()), "__main__"]
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
    loaded = sys.modules.get(module)
    for name, value in vars(loaded).items() if loaded is not None else ():
        if value is app and not name.startswith("_"):
            return name
    return None
