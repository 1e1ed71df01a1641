"""The remote command that sets log levels: in the worker's main process, and by a file in its child processes.

The children read the file when they start and whenever they are asked (``stack_file.ASKS_ON``), also in the midst
of a task.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import Any

from opsq.core.worker.stack_file import ASKS_ON
from opsq.core.worker.station import Station
from opsq.errors import UsageError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def log_level(station: Station, level: str, logger: str | None, for_s: float | None) -> dict[str, Any]:
    """Log from this level on, here and in the child processes."""
    name = level.upper()
    if name not in LEVELS:
        raise UsageError(f"level: expected one of {', '.join(LEVELS)}, got {level!r:.50}")
    if logger and logger not in logging.Logger.manager.loggerDict:
        raise UsageError(f"no logger is called {logger!r:.100} here")

    def set_level(number: int) -> int:
        before = station.plan.levels.set(logger or "", number)
        _tell_children(station)
        return before

    before = set_level(int(getattr(logging, name)))
    what, shown = f"log_level {logger or 'root'}", (name, logging.getLevelName(before))
    station.plan.overrides.change(what, shown, for_s, lambda: set_level(before))
    done = f"log level of {logger or 'everything'} is {name}, was {logging.getLevelName(before)}"
    return {"ok": done} if for_s is None else {"ok": done, "until": time.time() + for_s}


def _tell_children(station: Station) -> None:
    children = station.pool.stats().get("processes") if station.pool.capabilities.isolates_crash else ()
    for pid in children if isinstance(children, list) else ():
        with suppress(OSError):
            os.kill(pid, ASKS_ON)
