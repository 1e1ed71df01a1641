"""The log levels of one worker in a file, for its child processes to read."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress

from opsq.logs import LogHandler

log = logging.getLogger(__name__)


class LevelFile:
    """The levels of one worker by name of the logger, "" for all; in a file of a name that nobody can guess."""

    def __init__(self) -> None:
        self.path = os.path.join(tempfile.gettempdir(), f"opsq-levels-{uuid.uuid4().hex}.json")
        self._levels: dict[str, int] = {}
        self._lock = threading.Lock()

    def set(self, logger: str, level: int) -> int:
        """Have ``logger`` log from ``level`` on; the level that it had. Thread: any."""
        with self._lock:
            before = logging.getLogger(logger or None).level
            self._levels[logger] = level
            beside = f"{self.path}.new"
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(self._levels, file)
            os.replace(beside, self.path)
            apply(self._levels)
        return before

    def remove(self) -> None:
        """Delete the file. Harmless twice."""
        with suppress(OSError):
            os.unlink(self.path)


def apply(levels: Mapping[str, int]) -> None:
    """Set these levels in this process, and have the log let through what the most talkative of them says.

    Handlers that are not opsq's keep their level: one that mails errors is not to mail all there is.
    """
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    root = logging.getLogger()
    least = min([root.level, *(level for name, level in levels.items() if name and level)])
    for handler in root.handlers:
        if isinstance(handler, LogHandler):
            handler.setLevel(least)


def apply_file(path: str) -> None:
    """Set the levels that a worker has written; does nothing as long as it has written none."""
    try:
        with open(path) as file:
            apply(json.load(file))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        log.warning("log levels cannot be read", extra={"error": str(exc)})
