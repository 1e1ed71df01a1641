"""The resident memory of this process, sampled rarely enough to cost nothing per task."""

from __future__ import annotations

import os
import time

SAMPLE_EVERY_S = 0.25


class ResidentMemory:
    """Bytes, at most a quarter of a second old. Thread: any; fork-aware by its short memory."""

    def __init__(self) -> None:
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._next_at = 0.0
        self._bytes: int | None = None

    def bytes(self) -> int | None:
        """The last sample; None where the system does not tell."""
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + SAMPLE_EVERY_S
            self._bytes = self._read()
        return self._bytes

    def _read(self) -> int | None:
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * self._page_bytes
        except (OSError, ValueError, IndexError):
            return None
