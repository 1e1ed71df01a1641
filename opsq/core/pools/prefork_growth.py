"""Which task type leaves open files and threads behind in its child.

Counting costs about as much as running a tiny task, so it is done at most ten times a second; what
was gained since the last count is blamed on a type only when no other ran in between.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

COUNT_EVERY_S: Final = 0.1
WARN_AT: Final = {"files": 64, "threads": 32}
"""So many left behind by one type are worth a line; another one at each doubling."""

_NEAR: Final = 0.8
_MAX_TYPES: Final = 1_000


class GrowthWatch:
    """Watches one child. Thread: the child's main one.

    count: how many files and threads there are now; None where the system does not tell.
    """

    def __init__(self, count: Callable[[], dict[str, int] | None] | None = None) -> None:
        self.near_the_end = False
        """Whether so many files are open that the next ones may be refused: the child should be replaced."""
        self._count = count or _count
        self._last: dict[str, int] | None = None
        self._since: set[str] = set()
        self._next_at = 0.0
        self._gained: dict[tuple[str, str], int] = {}
        self._warn_at: dict[tuple[str, str], int] = {}
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._files_max = limit * _NEAR if limit != resource.RLIM_INFINITY else float("inf")

    def after(self, task: str, now: float) -> None:
        """Note that a run of ``task`` has ended at ``now`` (monotonic seconds)."""
        if len(self._since) < 2:
            self._since.add(task)
        if now < self._next_at:
            return
        self._next_at = now + COUNT_EVERY_S
        found = self._count()
        if found is None:
            return
        self.near_the_end = found["files"] > self._files_max
        before, self._last = self._last, found
        types, self._since = self._since, set()
        if before is not None and len(types) == 1:
            for what, number in found.items():
                self._blame(task, what, number - before[what], number)

    def _blame(self, task: str, what: str, gained: int, number: int) -> None:
        key = (task, what)
        if not gained or (key not in self._gained and len(self._gained) >= _MAX_TYPES):
            return
        total = self._gained[key] = max(0, self._gained.get(key, 0) + gained)
        if total >= self._warn_at.get(key, WARN_AT[what]):
            self._warn_at[key] = 2 * total
            log.warning(
                "a task leaves %s behind in its child process",
                what,
                extra={"task": task, "left_behind": total, "open_now": number},
            )


def _count() -> dict[str, int] | None:
    try:
        return {"files": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}
    except OSError:
        return None
