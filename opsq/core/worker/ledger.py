"""What this worker has taken and not yet settled, and counts of everything that was.

Finished work leaves numbers behind, never objects: memory does not grow with what was done. The one
exception is bounded: runs that ended while the broker was away are remembered until it delivers
them again, so that they are acknowledged and not repeated.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import msgspec

from opsq.core.pools.base import Job, Outcome
from opsq.core.worker.policy import Policy
from opsq.wire.task import TaskHeaders

ORPHANS_MAX = 10_000


class Entry(msgspec.Struct, gc=False):
    """One accepted delivery, from intake until it is settled.

    tag: the broker's handle, valid within ``generation`` only (which connection it came on). late:
    to be acknowledged after the run. acked: the broker was told already. outcome: what is being settled.
    ended: the pool ended it and the clerk is at it. finished: announced and forgotten. set_aside: why it
    is in the quarantine now, if it is. Times in epoch seconds.
    """

    key: int
    job: Job
    headers: TaskHeaders
    policy: Policy
    tag: Any
    generation: int
    late: bool
    queue: str | None
    received_at: float
    acked: bool = False
    started_at: float | None = None
    pid: int = 0
    orphan: bool = False
    outcome: Outcome | None = None
    ended: bool = False
    finished: bool = False
    set_aside: str = ""


class RevokedIds:
    """Task ids that must not run; bounded in number and age. Thread: any."""

    def __init__(self, max_ids: int, expires_s: float) -> None:
        self._max = max_ids
        self._expires_s = expires_s
        self._ids: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, task_id: object) -> bool:
        if not self._ids:
            return False
        at = self._ids.get(task_id)  # type: ignore[call-overload]
        return at is not None and time.monotonic() - at < self._expires_s

    def __iter__(self) -> Iterator[str]:
        return iter(self.ages())

    def ages(self) -> dict[str, float]:
        """The ids that count still, oldest first, with the seconds since each was added."""
        now = time.monotonic()
        return {each: now - at for each, at in self._ids.copy().items() if now - at < self._expires_s}

    def add(self, task_id: str, age_s: float = 0.0) -> None:
        """Remember ``task_id``, forgetting the oldest beyond the bound."""
        self._ids[task_id] = time.monotonic() - age_s
        self._ids.move_to_end(task_id)
        while len(self._ids) > self._max:
            self._ids.popitem(last=False)


class Counting(Protocol):
    """Who counts what passes through, when somebody wants to know."""

    def received(self, entry: Entry) -> None:
        """A delivery was accepted. Thread: the owner's."""
        ...

    def finished(self, entry: Entry, outcome: Outcome) -> None:
        """An attempt ended. Thread: the owner's."""
        ...


class Ledger:
    """The entries by key, and the counters. watch: told of everything that passes, while there is one.

    Thread: entries are added by the owner, and removed by it or, those that were revoked, by the clerk; so
    whoever looks at all of them takes a copy first.
    """

    def __init__(self, revoked: RevokedIds) -> None:
        self.revoked = revoked
        self.entries: dict[int, Entry] = {}
        self.counters: dict[str, int] = {}
        self.by_type: dict[str, int] = {}
        self.processed = 0
        self.generation = 0
        self.watch: Counting | None = None
        self._next_key = 0
        self._orphans: dict[tuple[str, int], Entry] = {}
        self._finished_orphans: OrderedDict[tuple[str, int], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.entries)

    def next_key(self) -> int:
        """A key never given before."""
        self._next_key += 1
        return self._next_key

    def add(self, entry: Entry) -> None:
        """Take ``entry`` in, counting it."""
        self.entries[entry.key] = entry
        self.processed += 1
        name = entry.headers.task
        self.by_type[name] = self.by_type.get(name, 0) + 1
        if self.watch is not None:
            self.watch.received(entry)

    def get(self, key: int) -> Entry | None:
        """The entry of ``key``; None when it was settled or given up."""
        return self.entries.get(key)

    def remove(self, key: int) -> Entry | None:
        """Forget ``key``."""
        entry = self.entries.pop(key, None)
        if entry is not None and entry.orphan:
            self._orphans.pop((entry.headers.id, entry.headers.retries), None)
        return entry

    def count(self, what: str, n: int = 1) -> None:
        """Add to a counter."""
        self.counters[what] = self.counters.get(what, 0) + n

    def active(self) -> int:
        """How many entries are in a slot."""
        return sum(1 for entry in tuple(self.entries.values()) if entry.started_at is not None)

    def settling(self) -> list[Entry]:
        """The entries whose outcome was handed to the broker, and which it has not confirmed."""
        return [entry for entry in tuple(self.entries.values()) if entry.outcome is not None]

    def by_id(self, task_ids: Iterable[str]) -> list[Entry]:
        """The entries of these task ids. Slow; for remote control."""
        wanted = set(task_ids)
        return [entry for entry in tuple(self.entries.values()) if entry.headers.id in wanted]

    def disconnected(self) -> list[Entry]:
        """Note that the connection is gone: tags are void. Returns the entries not yet in a slot.

        Those in a slot become orphans: when the broker delivers them again, ``adopt`` gives the
        running attempt its new tag instead of starting a second one.
        """
        self.generation += 1
        waiting = []
        for entry in tuple(self.entries.values()):
            if entry.acked or entry.ended:
                continue
            if entry.started_at is None:
                waiting.append(entry)
            elif not entry.orphan:
                self.orphaned(entry)
        return waiting

    def orphaned(self, entry: Entry) -> None:
        """Remember that ``entry`` runs without a delivery."""
        entry.orphan = True
        self._orphans[(entry.headers.id, entry.headers.retries)] = entry

    def orphan_finished(self, entry: Entry) -> None:
        """Remember that an orphan's run ended, so that its redelivery is acknowledged and not run."""
        self.remove(entry.key)
        self._finished_orphans[(entry.headers.id, entry.headers.retries)] = None
        if len(self._finished_orphans) > ORPHANS_MAX:
            self._finished_orphans.popitem(last=False)
            self.count("orphans_forgotten")

    def adopt(self, task_id: str, retries: int, tag: Any) -> bool:
        """Give a redelivery's tag to the orphan that is running it; true when there is one."""
        entry = self._orphans.pop((task_id, retries), None)
        if entry is None:
            return False
        entry.orphan = False
        entry.tag, entry.generation = tag, self.generation
        self.count("adopted")
        return True

    def already_ran(self, task_id: str, retries: int) -> bool:
        """Say, once, whether this redelivery is of a run that ended while the broker was away."""
        return self._finished_orphans.pop((task_id, retries), self) is None

    @property
    def has_orphans(self) -> bool:
        """Whether a redelivery needs to be looked up at all."""
        return bool(self._orphans or self._finished_orphans)
