"""Which tasks run inside this very process, in a file that outlives it: who may have killed it.

For pools whose tasks share the worker's process. A task that crashes the interpreter there takes the
worker with it, and nobody is left to count that. So the ids of what runs stand in a small mapped file,
which the kernel keeps whatever becomes of the process; the next worker of the same name reads it and
counts a death for each. An orderly stop, also a cold one, leaves nothing behind.

The file is in ``data_dir`` when that exists, else in the system's folder for temporary files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import mmap
import os
import tempfile
import time
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

ROWS: Final = 2_048
ROW_BYTES: Final = 64
"""Longer ids are left out; ours and Celery's have 36."""
KEPT_MAX: Final = 1_000
KEPT_S: Final = 72 * 3600.0
"""Deaths are forgotten after this."""


class Survivor:
    """The record of one worker. Thread: ``begin`` and ``end`` any; the others that of the worker's start and stop.

    folder: where the record is kept. node, broker: whose record it is.
    """

    def __init__(self, folder: Path, node: str, broker: object) -> None:
        name = hashlib.sha256(f"{node}\n{broker}".encode()).hexdigest()[:24]
        self._folder = folder
        self._path = folder / f"{name}.running"
        self._deaths_path = folder / f"{name}.deaths"
        self._file = -1
        self._map: mmap.mmap | None = None
        self._free: list[int] = []
        self._rows: dict[int, int] = {}
        self._deaths: dict[str, tuple[int, float]] = {}

    def open(self) -> None:
        """Read what the worker before left behind, and begin anew. What cannot be kept is done without."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._folder.stat().st_uid != os.geteuid():
                raise PermissionError(f"{self._folder} belongs to another user")
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, ROWS * ROW_BYTES)
            self._map = mmap.mmap(self._file, ROWS * ROW_BYTES)
            self._count(self._left_behind())
        except OSError as error:  # another worker of this name, or nowhere to write
            log.info("deaths of this process are not counted", extra={"error": str(error)})
            self.close()
            return
        self._free = list(range(ROWS))

    def begin(self, key: int, task_id: str) -> None:
        """Note that a task runs."""
        name = task_id.encode("utf-8", "replace")
        mapped = self._map
        if mapped is None or not self._free or len(name) > ROW_BYTES:
            return
        row = self._rows[key] = self._free.pop()
        mapped[row * ROW_BYTES : (row + 1) * ROW_BYTES] = name.ljust(ROW_BYTES, b"\0")

    def end(self, key: int) -> None:
        """Note that it has ended. Harmless twice."""
        row, mapped = self._rows.pop(key, None), self._map
        if row is not None and mapped is not None:
            mapped[row * ROW_BYTES] = 0
            self._free.append(row)

    def deaths(self, task_id: str) -> int:
        """How many processes ended under this task; told once, since the message carries it from then on."""
        return self._deaths.pop(task_id, (0, 0.0))[0]

    def close(self) -> None:
        """Leave nothing behind: what still runs is given back in order. Harmless twice."""
        self._free.clear()
        if self._map is not None:
            self._map[:] = bytes(ROWS * ROW_BYTES)
            self._map = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _left_behind(self) -> list[str]:
        assert self._map is not None
        rows = [self._map[at : at + ROW_BYTES].rstrip(b"\0") for at in range(0, ROWS * ROW_BYTES, ROW_BYTES)]
        self._map[:] = bytes(ROWS * ROW_BYTES)
        return [row.decode("utf-8", "replace") for row in rows if row and row[0]]

    def _count(self, ids: list[str]) -> None:
        now = time.time()
        try:
            told = json.loads(self._deaths_path.read_bytes())
            self._deaths = {
                str(each): (int(n), float(at)) for each, (n, at) in told.items() if now - float(at) < KEPT_S
            }
        except (OSError, ValueError, TypeError, AttributeError):
            self._deaths = {}
        for each in ids:
            self._deaths[each] = (self._deaths.pop(each, (0, now))[0] + 1, now)
        self._deaths = dict(list(self._deaths.items())[-KEPT_MAX:])
        beside = self._deaths_path.with_suffix(".new")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            json.dump(self._deaths, file)
        beside.replace(self._deaths_path)
        if ids:
            log.error("the worker before this one died while it ran tasks", extra={"tasks": ids[:20]})


def folder_for(data_dir: str) -> Path:
    """Where to keep the record."""
    own = Path(data_dir)
    return own if own.is_dir() else Path(tempfile.gettempdir()) / f"opsq-nodes-{os.getuid()}"
