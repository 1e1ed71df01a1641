"""How much waits in some queues, asked again and again on a connection and a thread of its own.

Whoever wants to know never waits for the broker: it is told when there is news, and sees by its age when there is none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opsq.broker.connection import BrokerConnection, open_connection
from opsq.broker.depth import depth
from opsq.broker.source import QueueDepth
from opsq.errors import BrokerUnavailable
from opsq.settings import Settings

log = logging.getLogger(__name__)

RETRY_S: Final = 5.0


class DepthWatch:
    """Asks every ``every_s`` seconds. Thread: its own; the methods from any.

    names: which queues, asked each time. observe: takes what was found, by queue; called in this thread.
    """

    def __init__(
        self,
        settings: Settings,
        names: Callable[[], Iterable[str]],
        observe: Callable[[Mapping[str, QueueDepth]], None],
        every_s: float = 1.0,
        retry_s: float = RETRY_S,
    ) -> None:
        self._settings = settings
        self._names = names
        self._observe = observe
        self._every_s, self._retry_s = every_s, retry_s
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._main, name="opsq-depth", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop the thread; false when it still runs after ``timeout_s``."""
        self._stopping.set()
        self._hurry.set()
        if self._thread is None:
            return True
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def ask_now(self) -> None:
        """Ask at once instead of at the next turn."""
        self._hurry.set()

    def _main(self) -> None:
        while not self._stopping.is_set():
            try:
                self._watch()
            except BrokerUnavailable as error:
                log.info("queue depths are unknown until the broker answers", extra={"reason": str(error)})
            except Exception:  # boundary: without depths everything else goes on
                log.exception("queue depths could not be read")
            self._stopping.wait(self._retry_s)

    def _watch(self) -> None:
        connection: BrokerConnection = open_connection(self._settings, purpose="read")
        try:
            connection.connect()
            while not self._stopping.is_set():
                self._observe(depth(connection, sorted(self._names())))
                self._hurry.wait(self._every_s)
                self._hurry.clear()
        finally:
            connection.close()
