"""Bringing back what the dead held, and dropping what nobody will read.

Every consumer runs this about once a second; any one of them is enough. It looks without a lock and
writes only when there is something to do.
"""

from __future__ import annotations

from msgspec import Struct

from opsq.broker.sqlite.catalog import Catalog
from opsq.broker.sqlite.database import Database
from opsq.broker.sqlite.doorbell import Ringer
from opsq.broker.sqlite.lease import release
from opsq.broker.sqlite.process import ProcessId, is_gone
from opsq.broker.sqlite.store import channel_of
from opsq.clock import Clock

# Bounds one pass, so that the write lock is given back in between.
_EXPIRED_PER_PASS = 5_000


class Reaped(Struct, frozen=True):
    """What one pass did, in numbers."""

    consumers: int = 0
    messages: int = 0
    queues: int = 0
    trimmed: int = 0


class Reaper:
    """Thread: that of the database."""

    def __init__(self, database: Database, catalog: Catalog, ringer: Ringer, clock: Clock, process: ProcessId) -> None:
        self._db = database
        self._catalog = catalog
        self._ringer = ringer
        self._clock = clock
        self._process = process

    def run(self) -> Reaped:
        """Do one pass."""
        return Reaped(
            consumers=self._bury_consumers(),
            messages=self._drop_expired(),
            queues=self._drop_queues(),
            trimmed=self._trim(),
        )

    def _bury_consumers(self) -> int:
        now = self._clock.monotonic()
        rows = self._db.execute("SELECT id, boot, namespace, pid, started, expires_at FROM consumer").fetchall()
        buried = 0
        for consumer, boot, namespace, pid, started, expires_at in rows:
            if expires_at < now or is_gone(ProcessId(boot, namespace, pid, started), self._process):
                buried += self._bury(consumer, expires_at)
        return buried

    def _bury(self, consumer: int, seen_expires_at: float) -> int:
        with self._db.transaction():
            # It may have renewed since, or another process may have been faster.
            row = self._db.execute("SELECT expires_at FROM consumer WHERE id = ?", (consumer,)).fetchone()
            if row is None or row[0] != seen_expires_at:
                return 0
            queues = release(self._db, consumer)
        self._catalog.refresh()
        names = {queue: name for name, queue in self._catalog.queue_ids().items()}
        for queue in queues:
            self._ringer.ring(channel_of(names.get(queue, "")))
        return 1

    def _drop_expired(self) -> int:
        now = self._clock.now()
        if self._db.execute("SELECT 1 FROM message WHERE expires_at < ? LIMIT 1", (now,)).fetchone() is None:
            return 0
        with self._db.transaction():
            # Only what waits: a message that was handed out lives until it is settled.
            picked = (
                "SELECT m.id FROM message m JOIN ready r ON r.queue = m.queue AND r.rank = m.rank AND r.id = m.id"
                f" WHERE m.expires_at < ? LIMIT {_EXPIRED_PER_PASS}"
            )
            ids = self._db.execute(picked, (now,)).fetchall()
            self._remove_waiting([row[0] for row in ids])
        return len(ids)

    def _remove_waiting(self, ids: list[int]) -> None:
        self._db.execute_many(
            "DELETE FROM ready WHERE (queue, rank, id) IN (SELECT queue, rank, id FROM message WHERE id = ?)",
            [(each,) for each in ids],
        )
        self._db.execute_many("DELETE FROM message WHERE id = ?", [(each,) for each in ids])

    def _drop_queues(self) -> int:
        idle = (
            "SELECT id FROM queue q WHERE NOT EXISTS (SELECT 1 FROM consuming c WHERE c.queue = q.id)"
            " AND ((auto_delete AND consumed) OR (expires_s IS NOT NULL AND used_at + expires_s < ?))"
        )
        now = self._clock.now()
        if self._db.execute(idle + " LIMIT 1", (now,)).fetchone() is None:
            return 0
        with self._db.transaction():
            found = self._db.execute(idle, (now,)).fetchall()
            for (queue,) in found:
                self._catalog.drop(queue)
        return len(found)

    def _trim(self) -> int:
        """Bring queues with a greatest length back to it, oldest first."""
        trimmed = 0
        for queue, longest in self._db.execute(
            "SELECT id, max_length FROM queue WHERE max_length IS NOT NULL"
        ).fetchall():
            over = (
                "SELECT id FROM ready WHERE queue = ?1 ORDER BY id"
                " LIMIT max(0, (SELECT count(*) FROM ready WHERE queue = ?1) - ?2)"
            )
            if self._db.execute(over, (queue, longest)).fetchone() is None:
                continue
            with self._db.transaction():
                ids = [row[0] for row in self._db.execute(over, (queue, longest)).fetchall()]
                self._remove_waiting(ids)
            trimmed += len(ids)
        return trimmed
