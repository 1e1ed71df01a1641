"""What tasks logged: lines by the batch, kept beside the rows of tasks and leaving before them.

A batch is known by its task, its time and a digest of what it says, so a replay or a second monitor adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

import msgspec

from opsq.events.evidence import attempt_of
from opsq.events.fields import LOG, clean_fields
from opsq.events.vouch import LATEST_TIME
from opsq.wire.event import Event

#: Of one task the newest so many batches are kept, each of ``fields.MAX_LOG_BYTES`` at most.
BATCHES_KEPT: Final = 64
#: Between two writes so much is held; further batches are dropped and counted.
MOST_HELD_BYTES: Final = 32 * 1024 * 1024
#: Retention looks at so many of the oldest batches at once.
LEAVING_AT_ONCE: Final = 2_000
_LONGEST_HOST: Final = 256


class LogBatch(msgspec.Struct, frozen=True):
    """Some lines of one task. at: epoch seconds. record: host, attempt and fields, as canonical bytes."""

    task: str
    at: float
    digest: int
    record: bytes


class LeavingLogs(msgspec.Struct, frozen=True):
    """The oldest batches up to number ``last``, of ``size`` bytes in all. more: there may be further ones."""

    last: int = 0
    size: int = 0
    more: bool = False


def batch_of(id: str, event: Event) -> LogBatch:
    """The batch that a ``task-log`` event brings. Raises ValueError, OverflowError for what cannot be kept."""
    attempt = attempt_of(event)
    own, _, _ = clean_fields(event, attempt)
    fields = {str(name): value for name, value in own.items()}
    record = msgspec.msgpack.encode((event.hostname[:_LONGEST_HOST], attempt, fields))
    digest = int.from_bytes(blake2b(record, digest_size=8).digest(), signed=True)
    return LogBatch(id, event.timestamp if 0.0 <= event.timestamp <= LATEST_TIME else 0.0, digest, record)


def shown(batch: LogBatch) -> dict[str, Any]:
    """The batch as an entry of ``TaskDetail.others``."""
    host, attempt, fields = msgspec.msgpack.decode(batch.record, type=tuple[str, int, dict[str, Any]])
    return {**fields, "kind": LOG, "at": batch.at, "worker": host, "attempt": attempt}


def leaving(oldest: Iterable[tuple[int, float, int]], before: float, surplus: int) -> LeavingLogs:
    """What leaves of (number, at, bytes), oldest first: all from before an epoch second, and ``surplus`` bytes."""
    last = size = looked = 0
    for number, at, length in oldest:
        if at >= before and size >= surplus:
            return LeavingLogs(last, size)
        last, size, looked = number, size + length, looked + 1
    return LeavingLogs(last, size, more=looked >= LEAVING_AT_ONCE)


class HeldLogs:
    """Batches that were heard and are not yet handed over. Thread: the writer's."""

    def __init__(self) -> None:
        self._held: list[LogBatch] = []
        self._bytes = 0

    def add(self, batch: LogBatch) -> bool:
        """Hold a batch; false when there is no room."""
        if self._bytes >= MOST_HELD_BYTES:
            return False
        self._held.append(batch)
        self._bytes += len(batch.record)
        return True

    def take(self) -> list[LogBatch]:
        """Hand over what is held."""
        held, self._held, self._bytes = self._held, [], 0
        return held


class MemoryLogs:
    """Batches by task in this process. bytes: of all. Thread: whoever holds the store's lock."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[tuple[float, int], LogBatch]] = {}
        self.bytes = 0

    def write(self, batches: Iterable[LogBatch]) -> None:
        """Keep batches that are not there yet, and of each of their tasks the newest few."""
        for one in batches:
            held = self._tasks.setdefault(one.task, {})
            if (one.at, one.digest) not in held:
                held[one.at, one.digest] = one
                self.bytes += len(one.record)
            if len(held) > BATCHES_KEPT:
                self._drop(one.task, min(held))

    def of_task(self, task: str) -> list[LogBatch]:
        """The batches of one task, oldest first."""
        held = self._tasks.get(task, {})
        return [held[key] for key in sorted(held)]

    def retain(self, before: float, max_bytes: int | None) -> None:
        """Drop what is from before an epoch second, and of the rest the oldest that is too much."""
        for at, digest, task in sorted((at, digest, task) for task, held in self._tasks.items() for at, digest in held):
            if at >= before and (max_bytes is None or self.bytes <= max_bytes):
                return
            self._drop(task, (at, digest))

    def _drop(self, task: str, key: tuple[float, int]) -> None:
        held = self._tasks[task]
        self.bytes -= len(held.pop(key).record)
        if not held:
            del self._tasks[task]
