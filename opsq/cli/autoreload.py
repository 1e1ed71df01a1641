"""``opsq worker --autoreload``: become the keeper of the worker's generations, or be one of them.

See ``core/worker/reload.py``. Two decorators, so that the command itself knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click

from opsq import logs
from opsq.cli.detach import ONCE
from opsq.cli.relaunch import LIBRARIES, interpreter_options
from opsq.cli.state import CliState, setting_flag
from opsq.core.pools.greenlets import patched_by
from opsq.core.worker.naming import node_name
from opsq.core.worker.pidfile import NodeName, PidFile
from opsq.core.worker.reload import Reloader, messages_die_with_the_process
from opsq.core.worker.reload_link import Standby
from opsq.errors import ConfigError, ExitCode, Fault
from opsq.settings import Settings

Command = Callable[..., int]


def reload_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--autoreload``, and the hidden option by which a generation is told who it is."""
    flag = setting_flag("worker_autoreload", "--autoreload/--no-autoreload", default=None)
    return flag(click.option("--standby-fd", type=int, hidden=True)(command))


def generations(command: Command) -> Command:
    """Run ``command`` in a process of its own, again after each edit, when that was asked for."""

    @wraps(command)
    def with_generations(state: CliState, *, standby_fd: int | None, **options: Any) -> int:
        if standby_fd is not None:
            return _be_generation(command, state, standby_fd, options)
        if state.overrides.get("worker_autoreload"):
            sys.dont_write_bytecode = True  # the keeper loads the app too, see ``_Words``
        if not options.get("explain"):
            settings = _reload_settings(state, options["background"] is not None)
            if settings is not None:
                return _keep(state, settings, options)
        return command(state, **options)

    return with_generations


def _be_generation(command: Command, state: CliState, fd: int, options: dict[str, Any]) -> int:
    line = Standby(fd)
    if not line.wait():
        return ExitCode.OK
    # The line is used up: a worker that starts itself again (SIGHUP) goes on as one without a keeper's line.
    sys.orig_argv[-2:] = ["--no-autoreload"]
    with _failure_told(line):
        app = state.load_app(needed_by="worker")
        line.report_when_ready(_roots(state.app_spec or app.main or ""))
        return command(state, **options)


@contextmanager
def _failure_told(line: Standby) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        line.report_failure(error)
        raise


def _roots(spec: str) -> list[Path]:
    """The folders whose modules are the user's own: the present one, and the one of the app."""
    module = sys.modules.get(spec.partition(":")[0].partition(".")[0])
    file = getattr(module, "__file__", None)
    return [Path.cwd(), *([Path(file).resolve().parent] if file else [])]


def _reload_settings(state: CliState, detach: bool) -> Settings | None:
    """The settings, when they ask for autoreload. Raises: ConfigError."""
    settings = state.load_app(needed_by="worker").conf.load().settings
    if not settings.worker_autoreload:
        return None
    for wrong, why, remedy in (
        (detach, "a worker in the background has nobody to watch its edits", "leave --detach out"),
        (patched_by() is not None, f"{patched_by()} has patched this process", "give --autoreload on the command line"),
        (state.started_in is None, "it starts the opsq command again", "use opsq worker --autoreload"),
        (
            messages_die_with_the_process(settings),
            "the memory broker keeps its messages in the worker's own process",
            "leave broker_url out: the SQLite broker needs no server either",
        ),
    ):
        if wrong:
            raise ConfigError([Fault(f"autoreload cannot work here: {why}", "worker_autoreload", remedy)])
    return settings


def _keep(state: CliState, settings: Settings, options: dict[str, Any]) -> int:
    node = node_name(options.get("hostname") or settings.worker_hostname)
    logs.setup(logs.config_from(settings, worker=node))
    reloader = Reloader(
        _Words(settings),
        state.started_in or os.getcwd(),
        settings.worker_autoreload_paths,
        (settings.data_dir,),
        signal.SIGINT if settings.worker_remap_sigterm == "SIGQUIT" else signal.SIGTERM,
    )
    # Held here, where they are not let go of between one generation and the next.
    with PidFile(settings.worker_pidfile, node), NodeName(node, settings.resolved_broker_url("read")):
        return reloader.run()


class _Words:
    """The command line of a generation: this one's, with who it is at the end."""

    def __init__(self, settings: Settings) -> None:
        words = sys.argv[1:]
        # No .pyc: its age is kept in whole seconds, so a second edit within one second would not be seen.
        self._head = [sys.executable, "-B", *interpreter_options(sys.orig_argv, len(words)), "-m", "opsq"]
        self._words = words
        pool = str(settings.worker_pool)
        self._tail = [*(["--pool", pool] if pool in LIBRARIES else []), "--set", "worker_pidfile="]

    def __call__(self, fd: int) -> list[str]:
        words, self._words = self._words, [word for word in self._words if word not in ONCE]
        return [*self._head, *words, *self._tail, "--parent-pid", str(os.getpid()), "--standby-fd", str(fd)]
