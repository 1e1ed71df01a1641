"""Events between the threads that cause them and the thread that sends them.

Two bounds, two policies. Waiting events: when full the oldest is dropped, counted, and leaves a gap
in the numbering, so a monitor sees that something is missing. Sent events: kept encoded for a while,
so that a monitor that missed a message can ask for it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from opsq.core.worker.event_records import TaskEvent

Fields = dict[str, Any]
Waiting = TaskEvent | Fields


class Sent(NamedTuple):
    """One encoded batch; first and last are the numbers of its events."""

    first: int
    last: int
    body: bytes


class Taken(Struct):
    """Events taken out to be sent. first: the number of the first. of_tasks: whether all are of tasks."""

    events: list[Waiting]
    first: int
    of_tasks: bool


class EventBuffer:
    """Waiting events. Thread: ``put`` from any, ``take`` from one.

    Numbers are given when events are taken: the order of the queue is the order of the numbers, and
    the threads that cause events pay nothing for it.
    """

    def __init__(self, max_events: int) -> None:
        self._max = max_events
        self._waiting: deque[Waiting] = deque()
        self._seq = 0
        self._skipped = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Waiting) -> int:
        """Queue one event, a record or its fields; the caller gives it away. Says about how many wait now."""
        waiting = self._waiting
        if len(waiting) >= self._max:
            try:
                waiting.popleft()
            except IndexError:
                pass  # the sending thread emptied it meanwhile, so nothing was lost
            else:
                self.dropped += 1
        waiting.append(event)
        return len(waiting)

    def take(self, n: int, common: Mapping[str, Any], clock: int) -> Taken:
        """Remove up to ``n`` events and number them; fields get ``common`` added. clock: of the first event."""
        skipped, self._skipped = self.dropped - self._skipped, self.dropped
        seq = self._seq + skipped
        ahead = clock - seq - 1
        taken = Taken([], seq + 1, True)
        waiting, add = self._waiting, taken.events.append
        for _ in range(min(n, len(waiting))):
            try:
                event = waiting.popleft()
            except IndexError:
                break
            seq += 1
            if isinstance(event, dict):
                event = {**common, "seq": seq, **event, "clock": seq + ahead}
                taken.of_tasks = taken.of_tasks and is_of_task(event)
            else:
                event.seq = seq
                event.clock = seq + ahead
            add(event)
        self._seq = seq
        return taken


def is_of_task(event: Waiting) -> bool:
    """Whether this is an event of a task; those travel together, a worker's each by itself."""
    return not isinstance(event, dict) or event["type"].startswith("task-")


class ReplayRing:
    """The last events that were sent, as encoded batches. Thread: any."""

    def __init__(self, max_events: int, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._batches: deque[Sent] = deque()
        self._events = 0
        self._bytes = 0

    def add(self, sent: Sent) -> None:
        """Keep ``sent``, letting the oldest go."""
        if self._max_events <= 0:
            return
        self._batches.append(sent)
        self._events += sent.last - sent.first + 1
        self._bytes += len(sent.body)
        while self._batches and (self._events > self._max_events or self._bytes > self._max_bytes):
            old = self._batches.popleft()
            self._events -= old.last - old.first + 1
            self._bytes -= len(old.body)

    def replay(self, first: int, last: int) -> list[Sent]:
        """The kept batches that hold any of the numbers ``first`` to ``last``."""
        return [sent for sent in tuple(self._batches) if sent.last >= first and sent.first <= last]
