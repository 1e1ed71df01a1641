"""Signals to a worker process: which stop it, how, and with which exit code."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

OnStop = Callable[[str, bool, int], None]


class StopSignals:
    """Installs handlers for its ``with`` block. Thread: main.

    on_stop(signal name, cold, exit code): called in the main thread between two bytecodes, so it may
    set events and nothing slow. remap_term: TERM means what QUIT does.
    """

    def __init__(self, on_stop: OnStop, remap_term: bool = False) -> None:
        self._on_stop = on_stop
        self._remap_term = remap_term
        self._asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._before[number] = signal.signal(number, self._handle)
        if hasattr(signal, "SIGUSR1"):
            faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if hasattr(signal, "SIGUSR1"):
            faulthandler.unregister(signal.SIGUSR1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        first = not self._asked
        self._asked += 1
        if number == signal.SIGTERM and not self._remap_term:
            self._on_stop(name, False, 0)
        elif number == signal.SIGINT and first:
            self._on_stop(name, False, 1)
        else:
            self._on_stop(name, True, 1)


def leave(code: int) -> None:
    """End the process here when a task left a thread behind that Python would wait for at exit."""
    # Helper threads of an event loop are waited for at exit although they are daemons.
    stuck = [thread.name for thread in threading.enumerate() if thread.name.startswith("opsq-helper")]
    if stuck:
        logging.getLogger(__name__).warning("leaving threads behind that do not end", extra={"threads": stuck})
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
