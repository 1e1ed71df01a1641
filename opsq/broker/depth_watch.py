"""How much waits in some queues, asked again and again on a connection and a thread of its own.

Whoever wants to know never waits for the broker: it is told when there is news, and sees by its age when there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opsq.broker.connection import open_connection
from opsq.broker.depth import depth
from opsq.broker.source import QueueDepth
from opsq.chore import Chore
from opsq.settings import Settings

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
        self._every_s = every_s
        self._chore = Chore(
            "opsq-depth", self._watch, every_s=retry_s, failing="queue depths are unknown until the broker answers"
        )

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        self._chore.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop the thread; false when it still runs after ``timeout_s``."""
        return self._chore.stop(timeout_s)

    def ask_now(self) -> None:
        """Ask at once instead of at the next turn."""
        self._chore.hurry()

    def _watch(self) -> None:
        connection = open_connection(self._settings, purpose="read")
        try:
            connection.connect()
            while not self._chore.stopping:
                self._observe(depth(connection, sorted(self._names())))
                self._chore.pause(self._every_s)
        finally:
            connection.close()
