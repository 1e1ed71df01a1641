"""What changed, handed from the writer's thread to subscribers on an asyncio loop.

A named bridge between the two worlds. The writer never waits: a subscriber that is slow finds everything since its
last look merged into one change; when that is too much, it learns only that anything may have changed.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Final, Self

import msgspec

TASKS, WORKERS, QUEUES = "tasks", "workers", "queues"
MOST_TASKS: Final = 1_000


class Change(msgspec.Struct, frozen=True):
    """What changed up to ``version``. tasks: ids; everything: more tasks than were worth naming."""

    version: int
    tasks: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    everything: bool = False


class Feed:
    """Announces changes. Thread: ``publish`` and ``close`` from any, ``subscribe`` on a loop."""

    def __init__(self, *, most_tasks: int = MOST_TASKS, most_subscribers: int = 1_000) -> None:
        self._lock = threading.Lock()
        self._subscribers: set[Subscription] = set()
        self._most_tasks = most_tasks
        self._most_subscribers = most_subscribers
        self._closed = False
        self.version = 0
        #: How often a subscriber was told "anything" because too much had changed.
        self.overflows = 0

    def publish(self, tasks: Iterable[str], regions: Iterable[str] = ()) -> int:
        """Announce a change; returns its version. Never blocks on a subscriber."""
        named, where = frozenset(tasks), frozenset(regions)
        with self._lock:
            self.version += 1
            for subscriber in list(self._subscribers):
                self.overflows += subscriber.merge(self.version, named, where, self._most_tasks)
                if not subscriber.wake():
                    self._subscribers.discard(subscriber)
            return self.version

    def subscribe(self) -> Subscription:
        """Begin to listen, from now on. To be called on the loop that listens; leave with ``async with``."""
        subscription = Subscription(self, asyncio.get_running_loop(), self.version)
        with self._lock:
            if self._closed or len(self._subscribers) >= self._most_subscribers:
                subscription.end()
            else:
                self._subscribers.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop listening; may be called twice."""
        with self._lock:
            self._subscribers.discard(subscription)

    def close(self) -> None:
        """End every subscription; may be called twice."""
        with self._lock:
            self._closed = True
            for subscriber in self._subscribers:
                subscriber.end()
                subscriber.wake()
            self._subscribers.clear()

    def __len__(self) -> int:
        return len(self._subscribers)


class Subscription:
    """One listener: an async context manager and iterator of ``Change``. Thread: its loop."""

    def __init__(self, feed: Feed, loop: asyncio.AbstractEventLoop, version: int) -> None:
        self._feed = feed
        self._loop = loop
        self._ready = asyncio.Event()
        self._lock = threading.Lock()
        self._version = version
        self._tasks: frozenset[str] = frozenset()
        self._regions: frozenset[str] = frozenset()
        self._everything = False
        self._waiting = False
        self._ended = False

    def merge(self, version: int, tasks: frozenset[str], regions: frozenset[str], most_tasks: int) -> bool:
        """Add a change to what is not yet seen; true when it became too much. Thread: the publisher's."""
        with self._lock:
            self._version = version
            self._regions |= regions
            if self._everything:
                return False
            self._tasks |= tasks
            if len(self._tasks) > most_tasks:
                self._tasks, self._everything = frozenset(), True
            return self._everything

    def wake(self) -> bool:
        """Tell the loop, once until it looks; false when the loop is gone. Thread: any."""
        with self._lock:
            if self._waiting:
                return True
            self._waiting = True
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the loop was closed under the subscriber
            return False
        return True

    def end(self) -> None:
        """Let the listener come to its end. Thread: any."""
        self._ended = True

    async def next(self, timeout_s: float | None = None) -> Change | None:
        """Wait for the next change; ``None`` after ``timeout_s`` or at the end (see ``ended``)."""
        if self._ended:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            return None
        self._ready.clear()
        with self._lock:
            self._waiting = False
            change = Change(self._version, self._tasks, self._regions, self._everything)
            self._tasks, self._regions, self._everything = frozenset(), frozenset(), False
        return None if self._ended else change

    @property
    def ended(self) -> bool:
        """Will nothing come any more?"""
        return self._ended

    def __aiter__(self) -> AsyncIterator[Change]:
        return self._changes()

    async def _changes(self) -> AsyncIterator[Change]:
        while (change := await self.next()) is not None:
            yield change

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._feed.unsubscribe(self)
