"""Something that is done again and again in a thread of its own; without it everything else lives on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from opsq.errors import BrokerUnavailable

log = logging.getLogger(__name__)


class Chore:
    """A thread that does rounds. Thread: ``pause`` in a round, the rest from any.

    name: of the thread. round: done, then after ``every_s`` seconds again, whatever it raised. failing: what is
    said when the broker is away, or a round trips over a bug.
    """

    def __init__(self, name: str, round: Callable[[], None], *, every_s: float, failing: str) -> None:
        self._name = name
        self._round = round
        self._every_s = every_s
        self._failing = failing
        self._stopping = False
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping

    def pause(self, seconds: float) -> bool:
        """Wait within a round, or until ``hurry``; true when it was told to stop meanwhile."""
        if not self._stopping:
            self._woken.wait(seconds)
            self._woken.clear()
        return self._stopping

    def hurry(self) -> None:
        """End a pause at once, or the next one."""
        self._woken.set()

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None and not self.stopping:
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop; false when a round still waits for an answer. May be called twice, or unstarted."""
        self._stopping = True
        self._woken.set()
        if self._thread is None:
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _main(self) -> None:
        while not self.stopping:
            try:
                self._round()
            except BrokerUnavailable as error:
                log.info(self._failing, extra={"reason": str(error)})
            except Exception:  # boundary: a bug in what is done beside must not end what it is beside of
                log.exception(self._failing)
            self.pause(self._every_s)
