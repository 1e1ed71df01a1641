"""What passes through the worker, counted per queue and task type: arrivals, retries, runs and their CPU time.

The owner thread counts, once per task; the scaler takes the sums, once per decision. So the cost of a task is
one dictionary look-up and a few additions, and what is held is as large as the number of types.
"""

from __future__ import annotations

import threading
from typing import Final

from opsq.core.pools.base import Outcome
from opsq.core.worker.ledger import Entry

#: Names come from peers; more types than this in one second are counted together.
MOST_TYPES: Final = 1_000
OTHER: Final = "other types"
#: States of runs that did what they were meant to; how fast a task fails says nothing about how long the work takes.
GOOD: Final = frozenset({"SUCCESS", "IGNORED"})
BAD: Final = frozenset({"FAILURE", "RETRY"})

Place = tuple[str, str]


class Tally:
    """Sums of one queue and task type since the last look."""

    __slots__ = ("again", "arrived", "bad", "runs", "sums")

    def __init__(self) -> None:
        self.arrived = self.again = self.runs = self.bad = 0
        # As ``RunTimes`` wants them.
        self.sums = [0.0] * 6


class Watch:
    """Counts for the scaler. Thread: ``received`` and ``finished`` the owner's, ``take`` the scaler's.

    patience_s: longer runs count as this long; what goes beyond is counted while it lasts, as an occupied slot.
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self._lock = threading.Lock()
        self._tallies: dict[Place, Tally] = {}

    def received(self, entry: Entry) -> None:
        """Count an accepted delivery; one that has to wait for its time counts when it runs."""
        if entry.headers.eta:
            return
        with self._lock:
            self._arrive(entry)

    def finished(self, entry: Entry, outcome: Outcome) -> None:
        """Count how an attempt ended."""
        ran_s = outcome.finished_at - outcome.started_at
        with self._lock:
            if entry.headers.eta:
                self._arrive(entry)
            tally = self._tally(entry)
            if outcome.state in BAD:
                tally.bad += 1
            elif outcome.state in GOOD:
                tally.runs += 1
                self._add(tally.sums, max(0.0, ran_s), outcome.cpu_s)

    def take(self) -> dict[Place, Tally]:
        """Everything counted since the last call, by queue and task type."""
        with self._lock:
            taken, self._tallies = self._tallies, {}
        return taken

    def _arrive(self, entry: Entry) -> None:
        tally = self._tally(entry)
        tally.arrived += 1
        if entry.headers.retries:
            tally.again += 1

    def _add(self, sums: list[float], ran_s: float, cpu_s: float | None) -> None:
        short_s = min(ran_s, self.patience_s)
        sums[0] += 1
        sums[1] += short_s
        sums[2] += short_s * short_s
        if cpu_s is not None:
            sums[3] += cpu_s
            sums[4] += 1
            sums[5] += ran_s

    def _tally(self, entry: Entry) -> Tally:
        place = (entry.queue or "", entry.headers.task)
        found = self._tallies.get(place)
        if found is None:
            if len(self._tallies) >= MOST_TYPES:
                place = (place[0], OTHER)
            found = self._tallies.setdefault(place, Tally())
        return found
