"""Waiting where the store cannot tell: look at the entries, often at first and then less often."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from opsq.core.backends.base import WaitScope

#: Looks up what is stored now: id to anything that differs when the entry does; ids not stored are absent.
Look = Callable[[Sequence[str]], Mapping[str, object]]

_GROWTH: Final = 1.5


class Pace(NamedTuple):
    """How long a waiter pauses before it looks again: at first, and at most, in seconds."""

    first_s: float = 0.005
    longest_s: float = 0.25


class Polling(WaitScope):
    """A subscription that looks by itself; holds nothing, so there is nothing to close.

    Raises: BackendUnavailable from ``wait``, as ``look`` does.
    """

    def __init__(self, look: Look, ids: Sequence[str], pace: Pace) -> None:
        self._look = look
        self._pace = pace
        self._ids = list(ids)
        self._seen: Mapping[str, object] = {}
        self._pause_s = pace.first_s

    def wait(self, timeout_s: float) -> set[str] | None:
        """Block until one of the ids was stored, by whichever process."""
        deadline = time.monotonic() + timeout_s
        while True:
            now = self._look(self._ids)
            news = {id for id, what in now.items() if self._seen.get(id) != what}
            self._seen = now
            if news:
                self._pause_s = self._pace.first_s
                return news
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            time.sleep(min(self._pause_s, left_s))
            self._pause_s = min(self._pause_s * _GROWTH, self._pace.longest_s)
