"""Real servers that tests start themselves, on private ports, and stop again.

A server that is not installed skips the test with the reason; with CI=true it fails, because there
nothing may be left out unseen.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from opsq.testing.ports import free_port as free_port

START_S = 60.0


def missing(server: str, how: str) -> NoReturn:
    """Skip the test, or fail it in CI, because ``server`` is not installed. how: what to do about it."""
    text = f"{server} is not installed; {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


class RedisServer:
    """A Redis of our own. ``stop`` and ``start`` again keep the port; nothing is written to disk.

    options: more words of its command line, such as ``--appendonly yes``; they win.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            missing("redis-server", "apt-get install redis-server")
        self._program = program
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(self._program, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self._folder)),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)

    def stop(self) -> None:
        """Stop it; what it held is gone, unless an option says otherwise. Safe to call twice."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def freeze(self) -> None:
        """Stop its clockwork: connections stay, and nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens on ``port``; fail when ``process`` ends before or it takes too long."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server on port {port} ended with {process.returncode}", pytrace=False)
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)  # asked without a pause, a server that starts gets half of the processor
    pytest.fail(f"the server on port {port} did not answer within {START_S:g} s", pytrace=False)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A running Redis for the block."""
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
