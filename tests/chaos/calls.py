"""A client that publishes at a steady rate, whatever happens to its broker, and remembers what came of each call."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from opsq import Opsq
from opsq.errors import BrokerUnavailable
from tests.chaos.site import Site

RATE = 200
"""Calls a second, all threads together."""
THREADS = 4


@dataclass
class Calls:
    """What a client called and what came of it.

    confirmed: numbers of calls that returned, and when (epoch). longest_s: of a call that raised.
    """

    confirmed: dict[int, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    def go_on(self, app: Opsq, first: int, site: Site) -> None:
        """Publish 200 a second, all threads together, until ``stop``; numbers from ``first`` in steps."""
        number, next_at = first, time.monotonic()
        while not self.stop.wait(max(next_at - time.monotonic(), 0.0)):
            next_at = max(next_at + THREADS / RATE, time.monotonic() - 1.0)
            site.note(f"Q {number}")
            begun = time.monotonic()
            try:
                app.send_task("kill_app.work", (number, 1.0))
            except BrokerUnavailable as exc:
                self.errors.append(str(exc))
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
            else:
                self.confirmed[number] = time.time()
                site.note(f"C {number}")
            number += THREADS

    def start(self, app: Opsq, site: Site) -> list[threading.Thread]:
        """Begin."""
        threads = [threading.Thread(target=self.go_on, args=(app, first, site)) for first in range(THREADS)]
        for thread in threads:
            thread.start()
        return threads

    def end(self, threads: list[threading.Thread]) -> None:
        """Let every call come to its end."""
        self.stop.set()
        for thread in threads:
            thread.join()
