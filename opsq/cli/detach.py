"""Run a worker without its terminal: ``--detach``, ``--uid``, ``--gid``, ``--umask``, and starting again in place."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from opsq.cli.processes import die_with
from opsq.cli.relaunch import patch_for
from opsq.cli.state import CliState
from opsq.errors import ConfigError, ExitCode, Fault
from opsq.settings import Settings
from opsq.settings_load import load

DETACHED_FLAG = "--detached"
ONCE = frozenset({"--purge", "--discard"})
"""Words that only the first start may hear."""
_STARTED = b"ok"


class Background:
    """The process that goes on in the background. Thread: main, before any other thread starts.

    tell: where the parent listens; negative when nobody does. The parent waits until this one says
    ``started``, so that whoever typed the command sees what kept the worker from starting, and its
    exit code.
    """

    def __init__(self, tell: int) -> None:
        self._tell = tell

    def words(self) -> list[str]:
        """What to add to the command line when this process is replaced: it is in the background already."""
        if self._tell >= 0:
            os.set_inheritable(self._tell, True)
        return [DETACHED_FLAG, str(self._tell)]

    def started(self) -> None:
        """Let go of the terminal and of the parent."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.close(nothing)
        if self._tell >= 0:
            os.write(self._tell, _STARTED)
            os.close(self._tell)


def in_background(command: Callable[..., int]) -> Callable[..., int]:
    """Run ``command`` as the user and in the place that its options name; before the app is loaded.

    Threads that the app's modules start would not survive the fork, and its code must not run as root.
    """

    @wraps(command)
    def with_background(state: CliState, **options: Any) -> int:
        settings = load(cli=state.overrides).settings
        if options["standby_fd"] is not None or not settings.worker_autoreload:
            patch_for(settings.worker_pool, state)  # not the keeper of generations, which has threads of its own
        if options["parent_pid"] is not None:
            die_with(int(options["parent_pid"]))
        background = None if options["explain"] else _background(state, options["detach"], options["detached"])
        return command(state, background=background, **options)

    return with_background


def _background(state: CliState, wanted: bool, tell: int | None) -> Background | None:
    settings = load(cli=state.overrides).settings
    become(settings)
    if not wanted:
        return None
    log_file = settings.worker_logfile
    if log_file is None:
        os.makedirs(settings.data_dir, exist_ok=True)
        log_file = state.overrides["worker_logfile"] = os.path.join(settings.data_dir, "%n.log")
    if tell is not None:
        return Background(tell)
    return go_to_background(settings.worker_executable, str(log_file))


def go_to_background(executable: str | None, log_file: str) -> Background:
    """Return in a child process, in a session of its own; the parent ends when that has started or failed."""
    listen, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        _wait_for(pid, listen, log_file)
    os.close(listen)
    os.setsid()
    if executable and os.path.realpath(executable) != os.path.realpath(sys.executable):
        os.set_inheritable(tell, True)
        os.execv(executable, [executable, *sys.orig_argv[1:], DETACHED_FLAG, str(tell)])
    return Background(tell)


def _wait_for(pid: int, listen: int, log_file: str) -> NoReturn:
    if os.read(listen, len(_STARTED)) == _STARTED:
        click.echo(f"opsq: the worker runs in the background as process {pid}, log in {log_file}")
        sys.stdout.flush()
        os._exit(ExitCode.OK)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else ExitCode.FAILURE)


def start_again(state: CliState, detached: bool) -> NoReturn:
    """Become a new process of the same command, with the same process id."""
    if state.started_in is not None:
        os.chdir(state.started_in)  # --workdir is among the words, and would be taken from where it leads
    words = [word for word in sys.orig_argv[1:] if word not in ONCE]
    if detached and DETACHED_FLAG not in words:
        words += [DETACHED_FLAG, "-1"]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *words])


def become(settings: Settings) -> None:
    """Take on the user, group and file mask that the settings name; what is so already stays.

    Raises: ConfigError when there is no such user, or this process may not become it.
    """
    faults: list[Fault] = []
    if settings.worker_umask is not None:
        try:
            os.umask(int(settings.worker_umask, 8))
        except ValueError:
            faults.append(
                Fault(f"expected an octal file mask such as 027, got {settings.worker_umask!r}", "worker_umask")
            )
    try:
        _become(settings.worker_uid, settings.worker_gid)
    except (LookupError, OSError) as error:
        faults.append(Fault(f"cannot become the user and group of worker_uid and worker_gid: {error}", "worker_uid"))
    if faults:
        raise ConfigError(faults)


def _become(user: int | str | None, group: int | str | None) -> None:
    account = _account(user) if user is not None else None
    wanted_group = _group(group) if group is not None else account.pw_gid if account is not None else None
    if wanted_group is not None and wanted_group != os.getegid():
        os.setgid(wanted_group)
    if account is None or account.pw_uid == os.geteuid():
        return
    # The extra groups of root would stay with the new user otherwise.
    os.initgroups(account.pw_name, account.pw_gid if wanted_group is None else wanted_group)
    os.setuid(account.pw_uid)


def _account(user: int | str) -> pwd.struct_passwd:
    return pwd.getpwuid(int(user)) if str(user).isdigit() else pwd.getpwnam(str(user))


def _group(group: int | str) -> int:
    return int(group) if str(group).isdigit() else grp.getgrnam(str(group)).gr_gid
