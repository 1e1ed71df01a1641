"""When the owner waits for more settlements before it tells the broker."""

from __future__ import annotations

LINGER_S = 0.001
_HIGH_RATE = 2_000
_WINDOW_S = 0.02
_FEW = 8


class Pace:
    """Measures the rate of settlements and says how many are worth waiting for.

    With many quick tasks, an exchange for each would cost more than running them. So above 2,000
    settlements a second the owner waits up to a millisecond for more; never when the slots could run
    dry meanwhile. Thread: the owner's.
    """

    def __init__(self) -> None:
        self._from = 0.0
        self._count = 0
        self._rate = 0.0

    def note(self, settled: int, now: float) -> None:
        """Count settlements. now: monotonic seconds."""
        self._count += settled
        if now - self._from >= _WINDOW_S:
            self._rate = self._count / (now - self._from)
            self._from, self._count = now, 0

    def worth(self, *, held: int, waiting: int, limit: int, most: int) -> int:
        """Return how many settlements to wait for; 0 for not at all.

        held: deliveries not settled, of which ``waiting`` are in the mailbox. limit: the prefetch.
        """
        enough = max(limit // 2, _FEW)
        spare = held - enough
        if self._rate < _HIGH_RATE or spare <= waiting:
            return 0
        return max(min(spare, most) // 2, 1)
