"""One client of a store per process: made at first use, never shared with a child, closed where it was made."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Holds what ``make`` makes. end: closes one. Thread: any.

    A child leaves alone what it inherited: to close a parent's sockets could end the parent's sessions.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], object]) -> None:
        self._make = make
        self._end = end
        self._lock = threading.Lock()
        self._pid = 0
        self._held: T | None = None
        self._of_parents: list[T] = []

    def get(self) -> T:
        """This process's one."""
        held = self._held
        if held is not None and self._pid == os.getpid():
            return held
        if self._pid and self._pid != os.getpid():
            self._lock = threading.Lock()  # a thread that is not here may have held it during the fork
        with self._lock:
            if self._held is None or self._pid != os.getpid():
                if self._held is not None:
                    self._of_parents.append(self._held)  # held, so that the collector does not close it either
                self._held = self._make()
                self._pid = os.getpid()
            return self._held

    def close(self) -> None:
        """Close it; ``get`` makes another. Twice does no harm."""
        held, mine = self._held, self._pid == os.getpid()
        if held is not None and mine:
            self._held, self._pid = None, 0
            self._end(held)
