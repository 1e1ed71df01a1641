"""Results in this process's memory: for tests, and for a worker that runs inside the client."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from opsq.clock import Clock, SystemClock
from opsq.core.backends.base import SUCCESS, Capabilities, Kind, WaitScope
from opsq.settings import Settings

MAX_ENTRIES: Final = 1_000_000


class _Entry(NamedTuple):
    state: str
    payload: bytes
    ends_at: float | None


class MemoryBackend:
    """A bounded table of results; the oldest entry goes when it is full, and is counted.

    Thread: any. Other processes see nothing of it.
    """

    def __init__(self, clock: Clock | None = None, max_entries: int = MAX_ENTRIES) -> None:
        self.evicted = 0
        self._clock = clock or SystemClock()
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[Kind, str], _Entry] = OrderedDict()
        self._changed = threading.Condition()
        self._waiters: dict[str, set[_MemorySubscription]] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(counts=False, expires=True, notifies=True, cross_process=False)

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Store ``payload`` unless a SUCCESS is there."""
        key = (kind, id)
        with self._changed:
            known = self._live(key)
            if known is not None and known.state == SUCCESS:
                return False
            ends_at = None if ttl_s is None else self._clock.now() + ttl_s
            self._entries.pop(key, None)
            self._entries[key] = _Entry(state, bytes(payload), ends_at)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
                self.evicted += 1
            waiters = self._waiters.get(id) if kind == "task" else None
            if waiters:
                for waiter in waiters:
                    waiter.news.add(id)
                self._changed.notify_all()
        return True

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Read one entry, or none."""
        with self._changed:
            entry = self._live((kind, id))
            return entry.payload if entry is not None else None

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Read several entries; missing ids are absent."""
        with self._changed:
            return {id: entry.payload for id in ids if (entry := self._live((kind, id))) is not None}

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Delete entries."""
        with self._changed:
            for id in ids:
                self._entries.pop((kind, id), None)

    def subscribe(self, ids: Sequence[str]) -> _MemorySubscription:
        """Ask to be told when one of these changes."""
        return _MemorySubscription(self, frozenset(ids))

    def cleanup(self, now: float) -> int:
        """Delete what expired before ``now``; how many."""
        with self._changed:
            ended = [key for key, entry in self._entries.items() if entry.ends_at is not None and entry.ends_at <= now]
            for key in ended:
                del self._entries[key]
        return len(ended)

    def close(self) -> None:
        """Nothing to let go of; the entries stay, so that a later use finds them."""

    def _live(self, key: tuple[Kind, str]) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.ends_at is not None and entry.ends_at <= self._clock.now():
            del self._entries[key]
            return None
        return entry


class _MemorySubscription(WaitScope):
    def __init__(self, backend: MemoryBackend, ids: frozenset[str]) -> None:
        self.news: set[str] = set()
        self._backend = backend
        self._ids = ids
        with backend._changed:
            for id in ids:
                backend._waiters.setdefault(id, set()).add(self)

    def wait(self, timeout_s: float) -> set[str] | None:
        """Block until one of the ids was stored."""
        with self._backend._changed:
            if not self._backend._changed.wait_for(lambda: self.news, timeout_s):
                return None
            news, self.news = self.news, set()
            return news

    def close(self) -> None:
        """Stop being told."""
        with self._backend._changed:
            for id in self._ids:
                waiting = self._backend._waiters.get(id)
                if waiting is not None:
                    waiting.discard(self)
                    if not waiting:
                        del self._backend._waiters[id]


def open_memory(url: str, settings: Settings) -> MemoryBackend:
    """Make the backend for ``memory://``; every app has its own."""
    return MemoryBackend()
