"""Two small judgements of the prefork pool, kept pure: how much a child may be given, when to fork."""

from __future__ import annotations

import math
from typing import Final

TINY_S: Final = 0.001
"""A task type whose runs take no longer on average may be sent several at a time."""

AHEAD_S: Final = 0.005
"""At most this much estimated work lies in a child's inbox, the running job included."""

AHEAD_MAX_JOBS: Final = 200

_MIN_RUNS: Final = 5
_WEIGHT: Final = 0.2
_MAX_TYPES: Final = 2_000

_FORGIVEN_S: Final = 10.0
"""Deaths further apart than this are not in a row."""


class Pace:
    """How long runs of each task type keep a slot, in seconds, as a moving average."""

    def __init__(self) -> None:
        self._runs: dict[str, int] = {}
        self._mean_s: dict[str, float] = {}

    def note(self, task: str, busy_s: float) -> None:
        """Count one run. One long run makes a type long until about fifteen short ones follow."""
        mean_s = self._mean_s.get(task)
        if mean_s is None:
            if len(self._mean_s) >= _MAX_TYPES:  # names come from peers: never grow without end
                self._mean_s.clear()
                self._runs.clear()
            self._mean_s[task] = busy_s
            self._runs[task] = 1
            return
        self._mean_s[task] = mean_s + _WEIGHT * (busy_s - mean_s)
        self._runs[task] += 1

    def tiny_s(self, task: str) -> float | None:
        """Return the mean of a type known to be tiny; None for a long or unknown one."""
        mean_s = self._mean_s.get(task)
        if mean_s is None or mean_s > TINY_S or self._runs[task] < _MIN_RUNS:
            return None
        return mean_s


class Respawn:
    """When to replace children that die: at once, unless one after the other dies.

    Times in monotonic seconds. Without it a pool forks as fast as its children die and takes the
    machine with it.
    """

    def __init__(self, slots: int, first_s: float = 0.05, cap_s: float = 1.0) -> None:
        """slots: how many children there are; each may die twice in a row before anybody waits."""
        self._slots = max(1, slots)
        self._first_s = first_s
        self._cap_s = cap_s
        self._in_a_row = 0
        self._last_at = -math.inf
        self._not_before = -math.inf

    def died(self, now: float) -> float:
        """Count a death that nobody wanted; returns the seconds to wait before the next fork."""
        if now - self._last_at > _FORGIVEN_S:
            self._in_a_row = 0
        self._last_at = now
        self._in_a_row += 1
        over = self._in_a_row - 2 * self._slots
        if over <= 0:
            return 0.0
        doublings = min((over - 1) // self._slots, 16)
        wait_s = min(self._cap_s, self._first_s * float(1 << doublings))
        self._not_before = now + wait_s
        return wait_s

    def worked(self) -> None:
        """Count a job that came back: the children live."""
        self._in_a_row = 0

    def not_before(self) -> float:
        """No fork before this moment."""
        return self._not_before
