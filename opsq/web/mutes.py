"""Errors that somebody muted: they are told apart from what is new until the time is over or they are unmuted.

Nothing is kept beside the audit: its entries of the two acts say who muted what and until when, on every monitor
of one history.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opsq.clock import Clock
from opsq.web.audit import LONGEST_PAGE, Entry, Trail

MUTE: Final = "error-mute"
UNMUTE: Final = "error-unmute"
REFRESH_S: Final = 2.0
MOST_READ: Final = 20_000


@dataclass(frozen=True, slots=True)
class Mute:
    """Who muted an error, when and until when; None is for good."""

    who: str
    at: float
    until_at: float | None


class Mutes:
    """Reads mutes out of the audit, each entry once. Thread: any."""

    def __init__(self, trail: Trail, clock: Clock) -> None:
        self._trail = trail
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Mute] = {}
        self._read_to = -1
        self._read_at = float("-inf")

    def now(self) -> Mapping[str, Mute]:
        """Mutes that hold now, by error group. Raises StoreUnavailable."""
        now = self._clock.now()
        with self._lock:
            if not 0 <= now - self._read_at < REFRESH_S:
                self._read()
                self._read_at = now
            return {fault: mute for fault, mute in self._known.items() if mute.until_at is None or now < mute.until_at}

    def forget_age(self) -> None:
        """Look again at once: an act was just written down."""
        with self._lock:
            self._read_at = float("-inf")

    def _read(self) -> None:
        """Take in what is newer than the newest entry that was read, oldest first."""
        fresh: list[Entry] = []
        newest, before, looked_at = self._read_to, None, 0
        while page := self._trail.page(before, LONGEST_PAGE if before is not None else 50):
            fresh += [kept.entry for kept in page if kept.id > self._read_to and kept.intact]
            newest, before, looked_at = max(newest, page[0].id), page[-1].id, looked_at + len(page)
            if before <= self._read_to or looked_at >= MOST_READ:
                break
        for entry in reversed(fresh):
            self._take(entry)
        self._read_to = newest

    def _take(self, entry: Entry) -> None:
        if entry.outcome != "done" or entry.act not in (MUTE, UNMUTE):
            return
        self._known.pop(entry.target, None)
        if entry.act == MUTE:
            for_s = entry.values.get("for_s")
            until_at = entry.at + float(for_s) if isinstance(for_s, int | float) else None
            self._known[entry.target] = Mute(entry.who, entry.at, until_at)
