"""One log line per task that succeeded, until there are so many that nobody could read them.

Written by the main process for all slots: a line costs more than a short task does (measured: a line
for each took 60 % of the throughput), and only here can the lines of a second be counted together.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from opsq.clock import Clock
from opsq.core.pools.base import Outcome
from opsq.core.worker.ledger import Entry

log = logging.getLogger(__name__)

LINES_PER_S: Final = 20
TASKS_NAMED: Final = 5
_WINDOW_S: Final = 1.0


class SuccessLog:
    """Thread: the owner's. lines_per_s: how many are shown each; the rest of a second is summed up in one."""

    def __init__(self, clock: Clock, lines_per_s: int = LINES_PER_S) -> None:
        self._clock = clock
        self._allowance = lines_per_s
        self._left = lines_per_s
        self._more: Counter[str] = Counter()
        self._since = clock.monotonic()
        self._wanted = log.isEnabledFor(logging.INFO)

    def note(self, entry: Entry, outcome: Outcome) -> None:
        """Log this success, or count it."""
        if not self._wanted:
            return
        if not self._left:
            self._more[entry.headers.task] += 1
            return
        self._left -= 1
        headers = entry.headers
        fields = {"task": headers.task, "task_id": headers.id, "runtime_s": round(outcome.runtime_s, 3)}
        log.info("task succeeded", extra=fields)

    def tick(self) -> None:
        """Sum up the second that has passed. To be called about once a second."""
        now = self._clock.monotonic()
        if now - self._since >= _WINDOW_S:
            self.flush(now)

    def flush(self, now: float | None = None) -> None:
        """Sum up what was only counted so far."""
        at = self._clock.monotonic() if now is None else now
        if self._more:
            fields = {"count": self._more.total(), "in_s": round(at - self._since, 2), "tasks": _some(self._more)}
            log.info("more tasks succeeded", extra=fields)
            self._more.clear()
        self._left = self._allowance
        self._since = at
        self._wanted = log.isEnabledFor(logging.INFO)


def _some(counts: Counter[str]) -> str:
    named = [f"{task} {count}" for task, count in counts.most_common(TASKS_NAMED)]
    rest = len(counts) - len(named)
    return ", ".join(named) + (f" and {rest} other task types" if rest > 0 else "")
