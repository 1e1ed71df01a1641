"""Where tasks mark that they ran: one memory-mapped file shared by every process of a run.

A mark is three plain stores, so that measuring costs a microsecond and not a system call; nothing
needs to be flushed, and a killed worker's marks are still there.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

HEADER = 16
ROW = struct.Struct("<dd")


class Board:
    """``size`` rows of (first start, last end) in epoch seconds, and a byte per row that counts runs."""

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        length = size * (1 + ROW.size)
        if not path.exists():
            path.write_bytes(b"")
            with path.open("r+b") as file:
                file.truncate(length)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), length)
        # Touch every page now: pages that are first touched by a mark would look like memory that the worker leaks.
        self._map[:: mmap.PAGESIZE]

    def ran(self, row: int, started_at: float, ended_at: float) -> None:
        """Note one run of ``row``. Thread and process: any; one row is written by one run at a time."""
        counted = self._map[row]
        self._map[row] = min(counted + 1, 255)
        ROW.pack_into(self._map, self.size + row * ROW.size, started_at, ended_at)

    def mark(self, row: int) -> None:
        """Note a run that took no time."""
        now = time.time()
        self.ran(row, now, now)

    def distinct(self) -> int:
        """How many rows ran at least once."""
        return self.size - self._map[: self.size].count(0)

    def executed(self) -> int:
        """How many runs there were."""
        return sum(self._map[: self.size])

    def starts(self, first: int, count: int) -> list[float]:
        """The first start of each of these rows that ran, epoch seconds."""
        rows = range(first, first + count)
        return [ROW.unpack_from(self._map, self.size + row * ROW.size)[0] for row in rows if self._map[row]]

    def lengths(self) -> list[float]:
        """How long each row ran, in seconds."""
        rows = [ROW.unpack_from(self._map, self.size + row * ROW.size) for row in range(self.size) if self._map[row]]
        return [ended - started for started, ended in rows]

    def span(self) -> tuple[float, float]:
        """First start and last end, epoch seconds."""
        rows = [ROW.unpack_from(self._map, self.size + row * ROW.size) for row in range(self.size) if self._map[row]]
        return min(row[0] for row in rows), max(row[1] for row in rows)
