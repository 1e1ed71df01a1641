"""How much room the quarantine has: a bound on a queue that nobody consumes.

The broker is asked seldom; in between this process counts what it puts there itself. Several workers
may so go beyond the bound by what they add within that time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from opsq.broker.connection import open_connection
from opsq.broker.depth import depth
from opsq.errors import Unavailable
from opsq.settings import Settings

log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 5.0


class Room:
    """Places in the quarantine. limit: 0 for none. waiting: how many messages are there. Thread: the clerk's."""

    def __init__(self, limit: int, waiting: Callable[[], int]) -> None:
        self._limit = limit
        self._waiting = waiting
        self._there = 0
        self._asked_at = float("-inf")

    def take(self) -> bool:
        """Take a place; false when there is none. When nobody can tell, there is one."""
        if not self._limit:
            return True
        if time.monotonic() - self._asked_at > ASK_AGAIN_S:
            self._ask()
        if self._there >= self._limit:
            return False
        self._there += 1
        return True

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            self._there = self._waiting()
        except Unavailable as exc:
            log.warning("the quarantine could not be looked at", extra={"error": str(exc)})


def waiting_aside(settings: Settings) -> int:
    """How many messages are in quarantine; its own connection, closed at the end. Raises: BrokerUnavailable."""
    connection = open_connection(settings, purpose="read")
    try:
        connection.connect(settings.broker_connection_timeout)
        found = depth(connection, [settings.quarantine_queue]).get(settings.quarantine_queue)
        return found.ready + (found.unacked or 0) if found is not None else 0
    finally:
        connection.close()
