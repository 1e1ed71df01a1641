"""The most resident memory of this process so far, sampled rarely enough to cost nothing per task."""

from __future__ import annotations

import resource
import sys
import time

SAMPLE_EVERY_S = 0.25
_UNIT = 1 if sys.platform == "darwin" else 1024


class ResidentMemory:
    """Bytes, at most a quarter of a second old. Thread: any; fork-aware by its short memory."""

    def __init__(self) -> None:
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
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * _UNIT if most > 0 else None
