"""The fork server: imports the app once, then forks a child on request.

The worker has threads, and a process with threads must not fork: locks that another thread held
stay locked for ever in the child. So a process with one thread does nothing but fork and reap. What
has been allocated before is frozen, and its pages are shared by the children. Two ways to get there:

* ``forked``: the worker forks it before its own first thread (``prefork_early``), and shares its pages too;
* ``main``: a fresh process that imports the app again, when the worker has threads already or when a
  fork server has died. Run as ``python -c 'from opsq.core.pools.prefork_server import main; main(FD)'``.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, cast

from opsq import plugins
from opsq.core.pools.base import Runner
from opsq.core.pools.prefork_child import EXIT_RECYCLED, Child, what_went_wrong
from opsq.core.pools.prefork_frames import INLINE_MAX_BYTES, control_packet, receive_packet, send_packet
from opsq.core.pools.prefork_main import run_main_again
from opsq.core.pools.prefork_orphan import adopt_orphans, die_with_parent, name_process
from opsq.core.pools.prefork_records import (
    ChildOptions,
    Died,
    Fork,
    Forked,
    ForkFailed,
    Loaded,
    LoadFailed,
    Notice,
    Setup,
    decode_request,
)


class ForkServer:
    """Forks and reaps children for one worker."""

    def __init__(self, control: socket.socket, setup: Callable[[], Runner], options: ChildOptions) -> None:
        self._control = control
        self._setup = setup
        self._options = options
        self._numbers: dict[int, int] = {}
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._buffer = bytearray(INLINE_MAX_BYTES)

    def serve(self) -> None:
        """Fork on request and report deaths until the worker closes its end."""
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        poll = select.poll()  # no descriptor of its own that a child would inherit
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_r, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake_r:
                    self._reap()
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        data, fds = receive_packet(self._control, self._buffer)
        if not data:
            return False
        request = decode_request(data)
        if isinstance(request, Fork):
            self._fork(request.number, fds)
        return True

    def _fork(self, number: int, fds: list[int]) -> None:
        server_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as exc:
            self._tell(ForkFailed(number, str(exc)))
        else:
            if pid == 0:
                self._become_child(number, server_pid, fds)
            self._numbers[pid] = number
            self._tell(Forked(number, pid))
        finally:
            for fd in fds:
                os.close(fd)

    def _become_child(self, number: int, server_pid: int, fds: list[int]) -> NoReturn:
        """Run the child and end the process without ever returning into the server's loop."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            die_with_parent(server_pid)
            os.setpgid(0, 0)
            name_process(f"opsq-child-{number}")
            self._control.close()
            os.close(self._wake_r)
            os.close(self._wake_w)
            down, up = (socket.socket(fileno=fd) for fd in fds)
            code = Child(down, up, self._options).live(self._setup)
        except BaseException:  # noqa: BLE001  # boundary: the child must end here, whatever happened, and say why
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 4096)
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            killed = found.si_code != os.CLD_EXITED
            if found.si_pid in self._numbers:
                self._end_group(found.si_pid, orderly=not killed and found.si_status in (0, EXIT_RECYCLED))
            os.waitpid(found.si_pid, 0)
            number = self._numbers.pop(found.si_pid, None)
            if number is not None:
                self._tell(Died(number, found.si_pid, -found.si_status if killed else found.si_status))

    def _end_group(self, pid: int, orderly: bool) -> None:
        """End what the tasks of a dead child had started, unless it has a session or group of its own.

        After a crash at once: it would run on beside the redelivered task. The zombie still holds its
        number, so this cannot hit a stranger's group.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGTERM if orderly else signal.SIGKILL)

    def _tell(self, notice: Notice) -> None:
        send_packet(self._control, control_packet(notice))


def main(fd: int) -> None:
    """Be the fork server of the worker at the other end of descriptor ``fd``."""
    control = socket.socket(fileno=fd)
    control.set_inheritable(False)
    data, _ = receive_packet(control, bytearray(INLINE_MAX_BYTES))
    if not data:
        return
    request = decode_request(data)
    assert isinstance(request, Setup), f"the first packet must be the set-up, got {type(request).__name__}"
    _settle_in(request.parent_pid, request.options)
    begun = time.monotonic()
    _be_like_the_worker(request)
    try:
        fresh = request.options.fresh
        setup = functools.partial(_load_and_build, request) if fresh else _load(request)
    except BaseException as exc:  # noqa: BLE001  # boundary: what an import raises, the worker must show
        _tell_if_heard(control, LoadFailed(what_went_wrong(exc)))
        return
    gc.collect()
    gc.freeze()
    _serve(control, setup, request.options, time.monotonic() - begun)


def forked(control: socket.socket, parent_pid: int, setup: Callable[[], Runner], options: ChildOptions) -> None:
    """Be the fork server in a process that was forked from the worker, and so has the app already."""
    _settle_in(parent_pid, options)
    os.setpgid(0, 0)  # Ctrl-C at the terminal is for the worker alone
    _serve(control, setup, options, 0.0)


def _settle_in(parent_pid: int, options: ChildOptions) -> None:
    die_with_parent(parent_pid)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2) if options.detached else (0,):
        os.dup2(nothing, fd)
    os.close(nothing)
    name_process("opsq-forkserver")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _nothing)
    adopt_orphans()


def _serve(control: socket.socket, setup: Callable[[], Runner], options: ChildOptions, took_s: float) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the worker is gone: so are we
        send_packet(control, control_packet(Loaded(took_s)))
        ForkServer(control, setup, options).serve()


def _be_like_the_worker(request: Setup) -> None:
    os.chdir(request.cwd)
    sys.path[:] = request.sys_path
    sys.argv[:] = request.argv


def _load_and_build(request: Setup) -> Runner:
    """Import everything and build the runner, in a child that shares nothing of the app with others."""
    return _load(request)()


def _load(request: Setup) -> Callable[[], Runner]:
    """Import what the children need and return how each builds its runner.

    A set-up with a ``preload`` method gets it called here, once, before the first fork.
    """
    if request.main is not None:
        run_main_again(request.main)
    setup = plugins.resolve(request.spec) if request.spec else pickle.loads(request.pickled)
    preload = getattr(setup, "preload", None)
    if preload is not None:
        preload()
    return cast("Callable[[], Runner]", setup)


def _tell_if_heard(control: socket.socket, notice: Notice) -> None:
    with contextlib.suppress(OSError):
        send_packet(control, control_packet(notice))


def _nothing(signum: int, at: FrameType | None) -> None:
    """Do nothing, on purpose: the worker decides when its children end."""
