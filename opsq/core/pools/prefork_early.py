"""Fork the fork server from the worker itself, before the worker has a second thread.

By then the app is loaded: nothing is imported twice, and the main process, the fork server and every
child share the pages of all code. That is only safe while nobody else uses this process: a lock held by
another thread would stay locked in the copy, and a connection would be read by two. So it is looked at
first, and where there is doubt the pool starts a fresh process instead (``prefork_spawn``).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Final

from opsq.core.pools import prefork_server
from opsq.core.pools.base import Runner
from opsq.core.pools.prefork_frames import packet_pair
from opsq.core.pools.prefork_records import ChildOptions
from opsq.core.pools.prefork_spawn import ForkServerLink

log = logging.getLogger(__name__)

_EVENT_LOOP: Final = "anon_inode:[eventpoll]"


def fork_early(setup: Callable[[], Runner], options: ChildOptions) -> ForkServerLink | None:
    """Fork the server, if that is safe; None when a fresh one has to be started later.

    setup: as in ``PoolConfig.child_setup``; its ``preload`` is called here. Raises: what that raises.
    Thread: main, which has to live as long as the process.
    """
    if options.fresh:
        return None
    preload = getattr(setup, "preload", None)
    if preload is not None:
        preload()
    doubt = why_not()
    if doubt:
        log.debug("the fork server is started afresh, because %s", doubt)
        return None
    near, far = packet_pair()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # or every child would write it once more at its end
    gc.collect()
    gc.freeze()
    parent_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_the_server(near, far, parent_pid, setup, options)
    far.close()
    return ForkServerLink(near, _ForkedProcess(pid))


def why_not() -> str:
    """What makes a copy of this process unsafe, in words; empty when nothing does."""
    if sys.platform != "linux":
        return "this system cannot tell how many threads there are"
    if threading.current_thread() is not threading.main_thread():
        return "this is not the main thread"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"the process has {threads} threads"
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and (found := _connection(fd)):
            return f"descriptor {fd} is {found}"
    return ""


def _connection(fd: int) -> str:
    """What kind of connection ``fd`` is; empty for files, pipes, and lines within one family of processes."""
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
    if target == _EVENT_LOOP:
        return "an event loop"
    if not target.startswith("socket:"):
        return ""
    with socket.socket(fileno=os.dup(fd)) as found:
        if found.family != socket.AF_UNIX:
            return "a network connection"
        with contextlib.suppress(OSError):
            if not found.getsockname() and not found.getpeername():
                return ""  # socketpair(): both ends are ours
    return "a connection to another process"


def _be_the_server(
    near: socket.socket, far: socket.socket, parent_pid: int, setup: Callable[[], Runner], options: ChildOptions
) -> None:
    """Serve, and end the process without ever returning into the worker's code."""
    code = 1
    try:
        near.close()
        prefork_server.forked(far, parent_pid, setup, options)
        code = 0
    finally:
        os._exit(code)


class _ForkedProcess:
    """A child process by its number, with what ``subprocess.Popen`` offers of use here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._code: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code, or minus a signal. Raises: subprocess.TimeoutExpired."""
        if self._code is None:
            ended = select.poll()
            ended.register(self._pidfd, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("opsq-forkserver", timeout or 0.0)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._pidfd)
        return self._code

    def kill(self) -> None:
        """End it by force; nothing happens when it has ended."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
