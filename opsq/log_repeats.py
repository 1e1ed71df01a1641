"""Collapse lines that keep coming, so that an outage does not bury the line that explains it. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from opsq.clock import Clock
from opsq.log_format import NO_FIELDS

_COLLAPSING: Final = ("opsq", "kombu", "amqp")
_RUNS_MAX: Final = 500


@dataclass(slots=True)
class _Run:
    """One line that keeps coming: its first record, since when (monotonic), how many were held back."""

    first: logging.LogRecord
    since: float
    seen: int = 1
    held: int = 0


class Repeats:
    """Decide which of opsq's lines are shown, and summarise those that are not.

    Lines are the same when logger, level, message, arguments and task are. Thread: one at a time.
    """

    def __init__(self, window_s: float, limit: int, clock: Clock) -> None:
        self._window_s = window_s
        self._limit = limit
        self._clock = clock
        self._runs: dict[object, _Run] = {}

    def admit(self, record: logging.LogRecord) -> bool:
        """Whether to show ``record``; when not, it is counted."""
        if not self._window_s or not record.name.startswith(_COLLAPSING) or record.exc_info:
            return True
        task_id = getattr(record, "task_id", None) or getattr(record, "opsq_fields", NO_FIELDS).get("task_id")
        key = (record.name, record.levelno, str(record.msg), repr(record.args), task_id)
        run = self._runs.get(key)
        if run is None:
            self._runs[key] = _Run(record, self._clock.monotonic())
            return True
        run.seen += 1
        if run.seen <= self._limit:
            return True
        run.held += 1
        return False

    def due(self, *, everything: bool = False) -> Iterator[logging.LogRecord]:
        """Yield a summary for each line whose window is over, and forget those lines."""
        now = self._clock.monotonic()
        for key, run in list(self._runs.items()):
            # insertion order is age order, so the first young one ends the search
            too_many = len(self._runs) > _RUNS_MAX
            if not everything and not too_many and now - run.since < self._window_s:
                return
            del self._runs[key]
            if run.held:
                yield self._summary(run, now)

    def _summary(self, run: _Run, now: float) -> logging.LogRecord:
        summary = logging.makeLogRecord(vars(run.first))
        summary.msg = f"{run.first.getMessage()} (×{run.seen} in {now - run.since:.0f} s)"
        summary.args = ()
        return summary
