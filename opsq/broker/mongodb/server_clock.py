"""The clock of a MongoDB server, which decides when leases and private queues end: those of clients differ."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 the server answers in UTC without saying so


class ServerClock:
    """The server's time, as far as it was ahead of ours when last looked at. Thread: one at a time."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._ahead_s = 0.0

    def look(self) -> float:
        """Ask the server, and return its time in epoch seconds."""
        server = self._database.command("hello")["localTime"]
        self._ahead_s = (server.replace(tzinfo=None) - _EPOCH).total_seconds() - time.time()
        return self.now()

    def now(self) -> float:
        """Epoch seconds of the server, by what was last seen."""
        return time.time() + self._ahead_s
