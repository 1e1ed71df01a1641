"""How often one address or user may do a thing: fixed windows, bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from opsq.clock import Clock

MAX_KEYS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """At most ``most`` in ``window_s`` seconds."""

    most: int
    window_s: float


SIGN_IN: Final = Allowance(5, 60.0)
"""Failed sign-ins, by address and by name."""
WRITE: Final = Allowance(60, 60.0)
EXPORT: Final = Allowance(5, 60.0)


class Limiter:
    """Counts by key. Thread: any.

    When more keys are live than it can hold the oldest is forgotten: an attacker with twenty thousand addresses
    gets tries, but no memory.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def wait_s(self, kind: str, key: str, allowed: Allowance) -> float:
        """Tell how long until another is allowed, 0 when it is now. Counts nothing."""
        with self._lock:
            began, count = self._seen.get((kind, key), (0.0, 0))
        left = began + allowed.window_s - self._clock.monotonic()
        return left if count >= allowed.most and left > 0 else 0.0

    def count(self, kind: str, key: str, allowed: Allowance) -> None:
        """Count one."""
        now = self._clock.monotonic()
        with self._lock:
            began, count = self._seen.pop((kind, key), (now, 0))
            if now - began >= allowed.window_s:
                began, count = now, 0
            self._seen[kind, key] = (began, count + 1)
            while len(self._seen) > MAX_KEYS:
                self._seen.popitem(last=False)

    def take(self, kind: str, key: str, allowed: Allowance) -> float:
        """Count one if it is allowed. Returns: how long to wait, 0 when it was."""
        wait = self.wait_s(kind, key, allowed)
        if not wait:
            self.count(kind, key, allowed)
        return wait

    def forget(self, kind: str, key: str) -> None:
        """Start over for a key, such as one that signed in at last."""
        with self._lock:
            self._seen.pop((kind, key), None)
