"""One generation of a worker that reloads itself: a process, the line to it, and its own end of that line.

A generation is an ordinary worker that waits for its turn first: Python and opsq are loaded by then, so that
an edit costs the import of the app and no more. The line is a socket pair. Down: one line, ``go``; a line that
closes without it means "not needed". Up: one JSON object, when it consumes or when it cannot.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opsq.errors import UsageError
from opsq.signals import worker_ready

GO: Final = b"go\n"
_FOREIGN: Final = frozenset({"site-packages", "dist-packages"})
_LAST_WORDS_S: Final = 1.0
_PYTHON: Final = Path(json.__file__).resolve().parents[1]
_OPSQ: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Report:
    """What a generation says of itself. files: the source files it has loaded. problem: why it cannot work."""

    files: tuple[str, ...] = ()
    problem: str = ""


class Generation:
    """One worker process, seen from the process that keeps it.

    heard: whether it said anything. went_at: when it was let go, epoch seconds.
    command: starts it, given the number of a descriptor. told(generation, report) and ended(generation,
    exit code) are called from threads of its own.
    Thread: the one that keeps it; it must live as long as the process, which dies with its parent's thread.
    """

    def __init__(
        self,
        command: Callable[[int], list[str]],
        folder: str,
        told: Callable[[Generation, Report], None],
        ended: Callable[[Generation, int], None],
    ) -> None:
        near, far = socket.socketpair()
        self._line = near
        self._told = told
        self._ended = ended
        self.heard = False
        self.went_at = time.time()
        with far:
            self._process = subprocess.Popen(
                command(far.fileno()),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
                process_group=0,  # Ctrl-C at the terminal is for us, who pass it on
            )
        self._listener = threading.Thread(target=self._listen, name=f"opsq-line-{self.pid}", daemon=True)
        self._listener.start()
        threading.Thread(target=self._wait, name=f"opsq-wait-{self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def go(self) -> None:
        """Let it load the app and work."""
        self.went_at = time.time()
        with contextlib.suppress(OSError):  # it is gone, which is told by its end
            self._line.sendall(GO)

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    def finish(self, warm: int) -> None:
        """Let it finish what runs, give back what does not, and end; one that waits ends at once.

        warm: the signal that means so to a worker.
        """
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        self.signal(warm)

    def _listen(self) -> None:
        with self._line.makefile("rb") as lines:
            for line in lines:
                said = json.loads(line)
                self.heard = True
                self._told(self, Report(tuple(said["files"]), said["problem"]))

    def _wait(self) -> None:
        code = self._process.wait()
        self._listener.join(_LAST_WORDS_S)  # what it said last is told before that it ended
        self._line.close()
        self._ended(self, code)


class Standby:
    """The same line, seen from the worker process that waits for its turn. Thread: main.

    fd: the descriptor it was started with.
    """

    def __init__(self, fd: int) -> None:
        try:
            self._line = socket.socket(fileno=fd)
        except OSError as error:
            raise UsageError(f"--standby-fd is for opsq's own use: {error}") from error
        self._line.set_inheritable(False)
        self._roots: tuple[Path, ...] = ()

    def wait(self) -> bool:
        """Wait for the word to begin; false when this process is not needed."""
        return self._line.recv(len(GO)) == GO

    def report_when_ready(self, roots: Iterable[Path]) -> None:
        """Say so when the worker consumes. roots: folders whose modules are the user's own."""
        self._roots = tuple(roots)
        worker_ready.connect(self._on_ready, weak=False)

    def report_failure(self, error: BaseException) -> None:
        """Say why there will be no worker, and which files had a part in it."""
        # How far the import came is not known, so where the user's own code lies is not either.
        named = {str(path) for name in _named_by(error) if _may_be_own(path := Path(name).resolve())}
        self._say({*own_files(self._roots), *named}, str(error) or type(error).__name__)

    def _on_ready(self, **_: object) -> None:
        self._say(own_files(self._roots), "")

    def _say(self, files: Iterable[str], problem: str) -> None:
        text = json.dumps({"files": sorted(files), "problem": problem})
        with contextlib.suppress(OSError):  # the keeper is gone, and its death ends this process too
            self._line.sendall(text.encode() + b"\n")


def own_files(roots: Iterable[Path]) -> set[str]:
    """The source files of every module that is loaded from below ``roots`` and is not installed."""
    roots = tuple(roots)
    named = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    return {str(path) for name in named if name and _is_own(path := Path(name).resolve(), roots)}


def _is_own(path: Path, roots: Iterable[Path]) -> bool:
    return _may_be_own(path) and any(path.is_relative_to(root) for root in roots)


def _may_be_own(path: Path) -> bool:
    # Not opsq itself: a process that waits for its turn has loaded it already.
    elsewhere = path.is_relative_to(_OPSQ) or path.is_relative_to(_PYTHON)
    return path.suffix == ".py" and not elsewhere and _FOREIGN.isdisjoint(path.parts)


def _named_by(error: BaseException) -> set[str]:
    """Files that the tracebacks of ``error`` and its causes go through, and those with wrong syntax."""
    found: set[str] = set()
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, SyntaxError) and link.filename:
            found.add(link.filename)
        trace: Any = link.__traceback__
        while trace is not None:
            found.add(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        link = link.__cause__ or link.__context__
    return found
