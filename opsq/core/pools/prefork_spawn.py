"""The worker's end of its fork server: ask it for children, hear what became of them; start a fresh one.

Thread: the pool's loop thread, always the same one. The kernel ties a fresh fork server's life to the
thread that started it, not to the process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final, Protocol

from opsq.core.pools.prefork_frames import INLINE_MAX_BYTES, control_packet, packet_pair, receive_packet, send_packet
from opsq.core.pools.prefork_records import ChildOptions, Fork, MainModule, Notice, Setup, decode_notice

_ROOT: Final = str(Path(__file__).resolve().parents[3])
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, {root!r}); from opsq.core.pools.prefork_server import main; main({fd})"
)


class ServerProcess(Protocol):
    """What is known of the fork server's process."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code. Raises: subprocess.TimeoutExpired."""
        ...

    def kill(self) -> None:
        """End it by force."""
        ...


class ForkServerLink:
    """One running fork server, seen from the worker."""

    def __init__(self, control: socket.socket, process: ServerProcess) -> None:
        self._control = control
        self._buffer = bytearray(INLINE_MAX_BYTES)
        self._process = process

    @property
    def pid(self) -> int:
        """The fork server's process id."""
        return self._process.pid

    def fileno(self) -> int:
        """What to poll for notices."""
        return self._control.fileno()

    def request_fork(self, number: int, down: socket.socket, up: socket.socket) -> None:
        """Ask for child ``number`` with these ends. Raises OSError when the fork server is gone."""
        send_packet(self._control, control_packet(Fork(number)), [down.fileno(), up.fileno()])

    def next_notice(self) -> Notice | None:
        """Return one notice that has arrived; None when the fork server is gone."""
        try:
            data, _ = receive_packet(self._control, self._buffer)
        except ConnectionResetError:
            return None
        return decode_notice(data) if data else None

    def end(self, timeout_s: float) -> int | None:
        """Let the fork server end, by force after ``timeout_s``; returns its exit code."""
        self._control.close()
        try:
            return self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def start_afresh(spec: str, pickled: bytes, main: MainModule | None, options: ChildOptions) -> ForkServerLink:
    """Start a new process and send it what to import; returns before it has done so."""
    near, far = packet_pair()
    with far:
        process = subprocess.Popen(
            [
                sys.executable,
                *(["-B"] if sys.dont_write_bytecode else []),
                "-c",
                _PROGRAM.format(root=_ROOT, fd=far.fileno()),
                "opsq-forkserver",
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=[far.fileno()],
            process_group=0,  # Ctrl-C at the terminal is for the worker alone
        )
    setup = Setup(
        parent_pid=os.getpid(),
        sys_path=[entry or os.getcwd() for entry in sys.path],
        argv=list(sys.argv),
        cwd=os.getcwd(),
        main=main,
        spec=spec,
        pickled=pickled,
        options=options,
    )
    send_packet(near, control_packet(setup))
    return ForkServerLink(near, process)
