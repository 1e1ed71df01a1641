"""Something the monitor does again and again beside the fold, in a thread of its own; without it the page lives on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from opsq.errors import BrokerUnavailable

log = logging.getLogger(__name__)


class Chore:
    """A thread that does rounds. Thread: ``start``, ``stop`` and ``stopping`` from any, ``pause`` in a round.

    name: of the thread. round: done, then after ``every_s`` seconds again, whatever it raised. failing: what is
    said when the broker is away, or a round trips over a bug.
    """

    def __init__(self, name: str, round: Callable[[], None], *, every_s: float, failing: str) -> None:
        self._name = name
        self._round = round
        self._every_s = every_s
        self._failing = failing
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait within a round; true when it was told to stop meanwhile."""
        return self._stopping.wait(seconds)

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None and not self.stopping:
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop; false when a round still waits for an answer. May be called twice, or unstarted."""
        self._stopping.set()
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
            except Exception:  # boundary: what events tell is shown all the same
                log.exception(self._failing)
            self.pause(self._every_s)
