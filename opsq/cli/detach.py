"""Run a worker or a beat without its terminal: ``--detach``, ``--uid``, ``--gid``, ``--umask``; start again in place.

A program is named as its settings are: ``worker`` has ``worker_uid``, ``beat`` has ``beat_uid``.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from opsq.cli.state import CliState, setting_flag
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
    ``started``, so that whoever typed the command sees what kept the program from starting, and its
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


def detach_options(program: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of going to the background."""
    options = (
        click.option("-D", "--detach", is_flag=True, help="Go to the background once it has started."),
        click.option(DETACHED_FLAG, type=int, hidden=True),
        setting_flag(f"{program}_executable", "--executable", metavar="PYTHON"),
        setting_flag(f"{program}_uid", "--uid", metavar="USER"),
        setting_flag(f"{program}_gid", "--gid", metavar="GROUP"),
        setting_flag(f"{program}_umask", "--umask", metavar="OCTAL"),
    )

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return give


def in_background(program: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Run a command as the user and in the place that its options name; before the app is loaded.

    Threads that the app's modules start would not survive the fork, and its code must not run as root. The command
    gets ``background``; none when it stays where it is. Options that only print something keep it there.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def with_background(state: CliState, *, detach: bool, detached: int | None, **options: Any) -> int:
            become(load(cli=state.overrides).settings, program)
            only_prints = options["explain"] or options.get("listed")
            background = _background(state, program, detached) if detach and not only_prints else None
            return command(state, background=background, **options)

        return with_background

    return decorate


def _background(state: CliState, program: str, tell: int | None) -> Background:
    settings = load(cli=state.overrides).settings
    log_file = getattr(settings, f"{program}_logfile")
    if log_file is None:
        os.makedirs(settings.data_dir, exist_ok=True)
        log_file = state.overrides[f"{program}_logfile"] = os.path.join(settings.data_dir, "%n.log")
    if tell is not None:
        return Background(tell)
    return go_to_background(program, getattr(settings, f"{program}_executable"), str(log_file))


def go_to_background(program: str, executable: str | None, log_file: str) -> Background:
    """Return in a child process, in a session of its own; the parent ends when that has started or failed."""
    listen, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        _wait_for(pid, listen, f"the {program} runs in the background as process {pid}, log in {log_file}")
    os.close(listen)
    os.setsid()
    if executable and os.path.realpath(executable) != os.path.realpath(sys.executable):
        os.set_inheritable(tell, True)
        os.execv(executable, [executable, *sys.orig_argv[1:], DETACHED_FLAG, str(tell)])
    return Background(tell)


def _wait_for(pid: int, listen: int, success: str) -> NoReturn:
    if os.read(listen, len(_STARTED)) == _STARTED:
        click.echo(f"opsq: {success}")
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


def become(settings: Settings, program: str) -> None:
    """Take on the user, group and file mask that the settings name; what is so already stays.

    Raises: ConfigError when there is no such user, or this process may not become it.
    """
    uid, gid, mask = (getattr(settings, f"{program}_{name}") for name in ("uid", "gid", "umask"))
    faults: list[Fault] = []
    if mask is not None:
        try:
            os.umask(int(mask, 8))
        except ValueError:
            faults.append(Fault(f"expected an octal file mask such as 027, got {mask!r}", f"{program}_umask"))
    try:
        _become(uid, gid)
    except (LookupError, OSError) as error:
        problem = f"cannot become the user and group of {program}_uid and {program}_gid: {error}"
        faults.append(Fault(problem, f"{program}_uid"))
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
