"""A worker process and its operating system: signals in, stacks out, and an end that cannot be held up.

A handler runs between two bytecodes of the main thread, which may hold any lock just then. So it only
puts the signal's name on a queue made for that, and a thread of its own acts on it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self, TextIO

log = logging.getLogger(__name__)

CHILD_DUMPS_ON: Final = signal.SIGUSR2
"""Children show their stacks at this one: USR1 is their soft time limit."""
THREADS_END_WITHIN_S: Final = 1.0
BETWEEN_DUMPS_S: Final = 0.05
"""Two children that write at once would mix their lines."""


class StopSignals:
    """Installs handlers for its ``with`` block. Thread: main.

    on_signal(name): called on a thread of its own, one signal after the other. remap_term: TERM means
    what QUIT does. children: process ids that show their stacks too when asked by USR1.
    """

    def __init__(
        self,
        on_signal: Callable[[str], None],
        remap_term: bool = False,
        children: Callable[[], Iterable[int]] = tuple,
    ) -> None:
        self._on_signal = on_signal
        self._remap_term = remap_term
        self._children = children
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._before: dict[int, Any] = {}
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._act, name="opsq-signals", daemon=True)
        self._thread.start()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._note)
        # A worker under nohup was told to outlive its terminal.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._note)
        show_stacks_at(signal.SIGUSR1, chain=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.unregister(signal.SIGUSR1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._came.put(0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.put(number)

    def _act(self) -> None:
        while number := self._came.get():
            try:
                self._answer(number)
            except Exception:  # boundary: a mistake here must not leave the process deaf to every later signal
                log.exception("a signal could not be answered", extra={"signal": number})

    def _answer(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self._have_children_dump()
        elif number == signal.SIGTERM and self._remap_term:
            self._on_signal("SIGQUIT")
        else:
            self._on_signal(signal.Signals(number).name)

    def _have_children_dump(self) -> None:
        """Have the children do what the C part of the handler has done here already."""
        children = list(self._children())
        pause = threading.Event()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, CHILD_DUMPS_ON)
            pause.wait(BETWEEN_DUMPS_S)
        log.warning("stacks of all threads were written", extra={"main": os.getpid(), "children": children})


def show_stacks_at(number: int, chain: bool = False) -> None:
    """At this signal, write the stacks of all threads to where the log goes, even while C code runs.

    chain: call the handler that is there as well. Thread: main.
    """
    target = _log_descriptor()
    if target is not None:
        faulthandler.register(number, file=target, all_threads=True, chain=chain)


def _log_descriptor() -> int | None:
    """A descriptor of our own of where the log is written; None when that is no file.

    The log's own may be closed (logrotate), and its number then be that of a broker's socket.
    """
    streams: list[TextIO | None] = [getattr(each, "_stream", None) for each in logging.getLogger().handlers]
    for stream in (*streams, sys.stderr, sys.__stderr__):
        try:
            if stream is not None:
                return os.dup(stream.fileno())
        except (OSError, ValueError, AttributeError):
            continue
    return None


def end_within(seconds: float) -> None:
    """End the process by force, with its stacks in the log, when it still lives then; exit code 1.

    Kept by a thread without Python, so that a task that never lets other threads run cannot hold it
    up. Called again, replaces the time.
    """
    target = _log_descriptor()
    if target is not None and seconds < threading.TIMEOUT_MAX / 2:
        faulthandler.dump_traceback_later(max(0.05, seconds), exit=True, file=target)


def need_not_end() -> None:
    """Undo ``end_within``."""
    faulthandler.cancel_dump_traceback_later()


def vanish(code: int) -> None:
    """End this process here and now; the system closes its connections and kills its children."""
    with contextlib.suppress(OSError):
        os.write(2, b"opsq: ending at once; what was running is given back by the broker\n")
    os._exit(code)


def leave(code: int, before: Sequence[threading.Thread] = ()) -> None:
    """End the process here when tasks left threads behind that Python would wait for at exit.

    before: threads that were there when the worker started, and are somebody else's.
    """
    until = time.monotonic() + THREADS_END_WITHIN_S
    for thread in _waited_for(before):
        thread.join(max(0.0, until - time.monotonic()))
    # Helper threads of an event loop are waited for at exit although they are daemons.
    stuck = [thread.name for thread in _waited_for(before)]
    if stuck:
        log.warning("leaving threads behind that do not end", extra={"threads": stuck})
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _waited_for(before: Sequence[threading.Thread]) -> list[threading.Thread]:
    own = threading.current_thread()
    return [
        thread
        for thread in threading.enumerate()
        if thread is not own
        and thread not in before
        and thread is not threading.main_thread()
        and (not thread.daemon or thread.name.startswith("opsq-helper"))
    ]
