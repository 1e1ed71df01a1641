"""Start this very command again with the standard library patched, for the pools of greenlets."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from opsq import plugins
from opsq.cli import early_patch
from opsq.cli.processes import die_with
from opsq.cli.state import CliState
from opsq.core.pools.greenlets import patched_by
from opsq.settings_load import load

LIBRARIES = frozenset({"gevent", "eventlet"})
"""Pools that need their library, of the same name, to patch first."""


def patched_early(command: Callable[..., int]) -> Callable[..., int]:
    """Run the worker's command in a process patched for the pool that file, environment or command line name."""

    @wraps(command)
    def with_patch(state: CliState, *, parent_pid: int | None, **options: Any) -> int:
        settings = load(cli=state.overrides).settings
        if options["standby_fd"] is not None or not settings.worker_autoreload:
            patch_for(settings.worker_pool, state)  # not the keeper of generations, which has threads of its own
        if parent_pid is not None:
            die_with(parent_pid)
        return command(state, **options)

    return with_patch


def patch_for(pool: object, state: CliState, more: Callable[[], Sequence[str]] = tuple) -> None:
    """Replace this process by a patched one when ``pool`` needs that; return when it does not.

    The process id, the environment and the parent stay the same. A command line that was handed over
    by a program (``app.worker_main``) is left alone; the pool then says what is missing.
    more: asked for words to add, just before.
    Raises: ConfigError when the library is not installed.
    """
    library = str(pool)
    if library not in LIBRARIES or patched_by() is not None or state.started_in is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eventlet's authors advise against it, in four lines
        plugins.require(library, f"the {library} pool")
    os.chdir(state.started_in)  # --workdir is among the words, and would be taken from where it leads
    sys.stdout.flush()
    sys.stderr.flush()
    words = sys.argv[1:]
    os.execv(
        sys.executable,
        [
            sys.executable,
            *interpreter_options(sys.orig_argv, len(words)),
            str(early_patch.__file__),
            library,
            sys.path[0],
            *words,
            *more(),
        ],
    )


def interpreter_options(command: Sequence[str], words: int) -> list[str]:
    """The options of Python itself in ``command``, whose last ``words`` are the program's."""
    head = list(command[1 : len(command) - words])
    program = 2 if len(head) > 1 and head[-2] in ("-m", "-c") else 1
    return head[:-program]
