"""One consumer's hold on messages: taking them, settling them, giving them back.

A taken message belongs to the consumer's row until it is settled, or until the row goes because its
process died or did not renew in time. Then everything it held goes back to the queues at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec

from opsq.broker.faults import LeaseLost
from opsq.broker.message import Delivery
from opsq.broker.sqlite.catalog import Catalog
from opsq.broker.sqlite.database import Database
from opsq.broker.sqlite.doorbell import Ringer
from opsq.broker.sqlite.envelope import unpack, unpack_batch
from opsq.broker.sqlite.process import ProcessId
from opsq.broker.sqlite.store import channel_of
from opsq.broker.sqlite.take import TakeSql, build, shares
from opsq.clock import Clock

_json_ids = msgspec.json.Encoder().encode


class Lease:
    """A consumer of the embedded broker. Thread: one at a time.

    seconds: how long it holds without ``renew``. name: tells leases of one connection apart.
    """

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        ringer: Ringer,
        clock: Clock,
        *,
        process: ProcessId,
        seconds: float,
        name: str,
    ) -> None:
        self._db = database
        self._catalog = catalog
        self._ringer = ringer
        self._clock = clock
        self.seconds = seconds
        self._name = name
        self._names: dict[str, int] = {}
        self._active: list[bool] = []
        self._turn = 0
        self._expired: list[int] = []
        self._sql: TakeSql | None = None
        self.consumer = self._register(process)

    def _register(self, process: ProcessId) -> int:
        row = self._db.execute(
            "INSERT INTO consumer (uuid, boot, namespace, pid, started, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            (uuid.uuid4().hex, process.boot, process.namespace, process.pid, process.started, self._until()),
        )
        return int(row.lastrowid or 0)

    def _until(self) -> float:
        return self._clock.monotonic() + self.seconds

    @property
    def queues(self) -> tuple[str, ...]:
        """The names this consumer takes from."""
        return tuple(self._names)

    def subscribe(self, names: Sequence[str]) -> None:
        """Take from these queues from now on, all of which exist.

        Raises: LeaseLost when the lease has run out meanwhile.
        """
        self._catalog.refresh()
        ids = {name: found for name in names if (found := self._catalog.queue_id(name)) is not None}
        with self._db.transaction():
            if self._db.execute("SELECT 1 FROM consumer WHERE id = ?", (self.consumer,)).fetchone() is None:
                raise self._lost()
            self._db.execute("DELETE FROM consuming WHERE consumer = ?", (self.consumer,))
            for queue in ids.values():
                self._db.execute("INSERT INTO consuming VALUES (?, ?)", (queue, self.consumer))
                self._db.execute("UPDATE queue SET consumed = 1 WHERE id = ? AND NOT consumed", (queue,))
            self._drop_deserted()
        self._prepare(ids)

    def _prepare(self, ids: dict[str, int]) -> None:
        if self._sql is not None:
            for statement in self._sql.drop:
                self._db.execute(statement)
        self._names = ids
        self._active = [True] * len(ids)
        self._sql = build(self._name, list(ids.values())) if ids else None
        if self._sql is not None:
            for statement in (*self._sql.drop, *self._sql.create):
                self._db.execute(statement)

    def _drop_deserted(self) -> None:
        """Delete the auto-delete queues whose last consumer has left; the caller holds the transaction."""
        deserted = self._db.execute(
            "SELECT id FROM queue q WHERE auto_delete AND consumed"
            " AND NOT EXISTS (SELECT 1 FROM consuming c WHERE c.queue = q.id)"
        ).fetchall()
        for (queue,) in deserted:
            self._catalog.drop(queue)

    def is_current(self) -> bool:
        """Say whether every queue taken from still exists as it was when subscribed."""
        self._catalog.refresh()
        return all(self._catalog.queue_id(name) == queue for name, queue in self._names.items())

    def waiting(self) -> bool:
        """Say whether there is anything to take; takes no lock."""
        return self._sql is not None and bool(self._db.execute(self._sql.peek).fetchone()[0])

    def take(self, done: Sequence[int], room: int) -> list[Delivery]:
        """Forget the messages ``done``, then take up to ``room``: higher priority first, then older.

        Raises: LeaseLost when everything this consumer held has gone back to the queues.
        """
        if self._sql is None:
            self.settle(done)
            return []
        if self._expired:
            done = [*done, *self._expired]
        ids = _json_ids(done).decode() if done else None
        given = shares(room, self._active, self._turn)
        self._turn += 1
        self._db.execute(self._sql.take, (self.consumer, ids, *given))
        self._expired = []
        return self._read(self._sql) if room else []

    def settle(self, done: Sequence[int]) -> None:
        """Forget messages without taking any; those no longer held are left alone."""
        if done:
            held = (_json_ids(done).decode(), self.consumer)
            with self._db.transaction():
                ids = "(SELECT id FROM leased WHERE id IN (SELECT value FROM json_each(?)) AND consumer = ?)"
                self._db.execute(f"DELETE FROM message WHERE id IN {ids}", held)
                self._db.execute(f"DELETE FROM leased WHERE id IN {ids}", held)

    def _read(self, sql: TakeSql) -> list[Delivery]:
        lines, expired, big = self._db.execute(sql.fetch, (self._clock.now(),)).fetchone()
        batch = self._unpack(sql, lines) if lines else []
        if expired:  # nobody is given these; they go with the next settlement
            self._expired = _ids(expired)
        if big:
            batch.extend(self._read_one(each) for each in _ids(big))
            batch.sort(key=lambda delivery: (-delivery.priority, delivery.tag))
        if len(self._names) > 1:
            came = {delivery.queue for delivery in batch}
            self._active = [name in came for name in self._names]
        return batch

    def _unpack(self, sql: TakeSql, lines: bytes) -> list[Delivery]:
        try:
            return unpack_batch(lines)
        except msgspec.DecodeError:
            # One that cannot be read must not take the whole batch with it, again and again.
            ids = self._db.execute(sql.small).fetchall()
            return [self._read_one(row[0]) for row in ids]

    def _read_one(self, message: int) -> Delivery:
        envelope, queue, deliveries = self._db.execute(
            "SELECT m.envelope, q.name, l.deliveries FROM message m JOIN leased l ON l.id = m.id"
            " JOIN queue q ON q.id = m.queue WHERE m.id = ?",
            (message,),
        ).fetchone()
        return unpack(envelope, queue=queue, tag=message, deliveries=deliveries)

    def give_back(self, ids: Sequence[int]) -> None:
        """Put messages back where they were in their queues and wake other readers."""
        if not ids:
            return
        held = (self.consumer, _json_ids(list(ids)).decode())
        with self._db.transaction():
            back = "consumer = ? AND id IN (SELECT value FROM json_each(?))"
            self._db.execute(
                f"INSERT INTO ready SELECT queue, rank, id, kib, deliveries FROM leased WHERE {back}", held
            )
            self._db.execute(f"DELETE FROM leased WHERE {back}", held)
        self._ring()

    def renew(self) -> None:
        """Hold for another ``seconds``. Raises: LeaseLost when it is too late."""
        row = (self._until(), self.consumer)
        if self._db.execute("UPDATE consumer SET expires_at = ? WHERE id = ?", row).rowcount == 0:
            raise self._lost()

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"this process did not renew its lease within {self.seconds:g} s, so its messages went back to the queues; "
            "raise lease_seconds if it is often suspended or starved"
        )

    def close(self) -> None:
        """Give everything back and leave. Safe to call twice."""
        with self._db.transaction():
            release(self._db, self.consumer)
            now = self._clock.now()
            self._db.execute_many(
                "UPDATE queue SET used_at = ? WHERE id = ?", [(now, each) for each in self._names.values()]
            )
            self._drop_deserted()
        self._ring()
        self._names = {}

    def _ring(self) -> None:
        for name in self._names:
            self._ringer.ring(channel_of(name))


def release(database: Database, consumer: int) -> list[int]:
    """Return everything a consumer holds and forget it, in the caller's transaction; return the queues' ids."""
    queues = [row[0] for row in database.execute("SELECT DISTINCT queue FROM leased WHERE consumer = ?", (consumer,))]
    database.execute(
        "INSERT INTO ready SELECT queue, rank, id, kib, deliveries FROM leased WHERE consumer = ?", (consumer,)
    )
    database.execute("DELETE FROM leased WHERE consumer = ?", (consumer,))
    database.execute("DELETE FROM consuming WHERE consumer = ?", (consumer,))
    database.execute("DELETE FROM consumer WHERE id = ?", (consumer,))
    return queues


def _ids(text: str | int) -> list[int]:
    return [int(each) for each in str(text).split(",")]
