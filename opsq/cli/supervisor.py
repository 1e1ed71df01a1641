"""Keep a few child processes running until told to stop: what ``opsq up`` is made of.

One thread reads each child's output and prints it with the child's name in front. A child that
dies is started again after a back-off that doubles from one second to thirty and is forgotten once
it has lived for a minute; one that says its configuration is wrong ends everything, because
starting it again cannot help.

Thread: ``run`` blocks the main thread, which alone starts and ends children: Linux ties a child's
death signal to the thread that started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opsq.errors import ExitCode

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30.0
STEADY_AFTER_S = 60.0
COLD_S = 10.0
# Exit codes that a new start cannot mend.
HOPELESS = frozenset({ExitCode.CONFIG, ExitCode.USAGE, ExitCode.CANNOT_CREATE})


@dataclass
class Child:
    """One process to keep running.

    name: shown in front of its lines. command: without the interpreter, for example
    ``("-m", "opsq", "worker")``. warm_s: how long it may take to finish what it does when asked to
    end; after that it is told to drop it, and killed ``COLD_S`` later.
    """

    name: str
    command: Sequence[str]
    warm_s: float = 10.0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    backoff_s: float = field(default=FIRST_BACKOFF_S, init=False)
    started_at: float = field(default=0.0, init=False)
    start_again_at: float = field(default=0.0, init=False)


class Supervisor:
    """Runs children in order, restarts those that die, stops them in reverse order."""

    def __init__(self, children: Sequence[Child], say: Callable[[str, str], None]) -> None:
        self._children = tuple(children)
        self._say = say
        self._wanted = threading.Event()
        self._changed = threading.Event()
        self._hurry = False
        self._exit_code: int = ExitCode.OK

    def run(self) -> int:
        """Start every child and keep them running until a signal or a hopeless exit.

        Returns: 0 after a signal, else the exit code of the child that could not go on.
        Thread: main; installs handlers for SIGTERM, SIGINT and SIGCHLD.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: self._changed.set())
        try:
            for child in self._children:
                self._start(child)
            while not self._wanted.is_set():
                self._look_after()
                self._changed.wait(self._until_next_start())
                self._changed.clear()
        finally:
            for child in reversed(self._children):
                self._stop(child)
        return self._exit_code

    def stop(self) -> None:
        """Ask ``run`` to end. Thread: any."""
        self._wanted.set()
        self._changed.set()

    def _asked_to_stop(self, *_: object) -> None:
        self._hurry = self._wanted.is_set()
        self.stop()
        if self._hurry:
            for child in self._children:
                self._signal(child, signal.SIGQUIT)

    def _start(self, child: Child) -> None:
        child.started_at = time.monotonic()
        child.process = subprocess.Popen(
            [sys.executable, *child.command, "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A Ctrl-C at the terminal is for us; we tell the children, in order.
            start_new_session=True,
        )
        threading.Thread(
            target=self._relay, args=(child, child.process), name=f"{child.name}-output", daemon=True
        ).start()

    def _relay(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._say(child.name, line.decode("utf-8", "replace").rstrip("\n"))

    def _look_after(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.start_again_at:
                    self._start(child)
                continue
            code = child.process.poll()
            if code is None:
                continue
            child.process = None
            if code in HOPELESS:
                self._exit_code = code
                self._wanted.set()
                return
            if now - child.started_at >= STEADY_AFTER_S:
                child.backoff_s = FIRST_BACKOFF_S
            self._say(child.name, f"ended with {_how(code)}; starting it again in {child.backoff_s:.0f} s")
            child.start_again_at = now + child.backoff_s
            child.backoff_s = min(child.backoff_s * 2, LONGEST_BACKOFF_S)

    def _until_next_start(self) -> float | None:
        waiting = [child.start_again_at for child in self._children if child.process is None]
        return max(min(waiting) - time.monotonic(), 0.0) if waiting else None

    def _stop(self, child: Child) -> None:
        process = child.process
        if process is None or process.poll() is not None:
            return
        for number, patience_s in ((signal.SIGTERM, child.warm_s), (signal.SIGQUIT, COLD_S)):
            self._signal(child, number)
            try:
                process.wait(patience_s)
                return
            except subprocess.TimeoutExpired:
                self._say(child.name, f"still runs {patience_s:.0f} s after {number.name}")
        process.kill()
        process.wait()

    def _signal(self, child: Child, number: int) -> None:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(number)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
