"""Putting messages into the embedded broker and looking at what waits there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from opsq.broker.message import OutMessage
from opsq.broker.sqlite.catalog import Catalog
from opsq.broker.sqlite.database import Database
from opsq.broker.sqlite.doorbell import Ringer
from opsq.broker.sqlite.envelope import HIGHEST_PRIORITY, expires_at, pack, priority_of
from opsq.broker.topology import QueueSpec
from opsq.clock import Clock

# By name, so that a queue which another process has just deleted takes nothing: rows of a queue
# that is gone would stay in the file for ever.
_PUT = (
    "INSERT INTO message (queue, rank, size, sent_at, expires_at, envelope)"
    " SELECT id, ?, ?, ?, CASE WHEN ttl_s IS NULL THEN ? ELSE min(ifnull(?, 9e15), ? + ttl_s) END, ?"
    " FROM queue WHERE name = ?"
)
_CHECK_FILE_S = 1.0


class Waiting(Struct, frozen=True):
    """One queue seen from outside. oldest_at: epoch seconds, ``None`` when nothing waits."""

    ready: int
    unacked: int
    consumers: int
    oldest_at: float | None


def channel_of(queue: str) -> str:
    """Return the doorbell channel that consumers of ``queue`` listen on."""
    return f"queue:{queue}"


class Store:
    """The messages of one broker file. Thread: one at a time."""

    def __init__(self, database: Database, catalog: Catalog, ringer: Ringer, clock: Clock) -> None:
        self._db = database
        self._catalog = catalog
        self._ringer = ringer
        self._clock = clock
        self._checked_at = clock.monotonic()

    def put(self, messages: Sequence[OutMessage]) -> int:
        """Store all messages or none, then wake their readers; return how many reached no queue.

        A queue that is missing is declared when the message says how; an exchange need not be, since
        one that nobody declared has no queues. Durable as the option
        ``synchronous`` says once this returns.
        """
        self._check_file()
        if len(messages) == 1 and not messages[0].exchange:
            return self._put_one(messages[0])
        return self._put_many(messages)

    def _put_one(self, message: OutMessage) -> int:
        row = (*self._row(message, self._clock.now()), message.routing_key)
        if self._db.execute(_PUT, row).rowcount == 0:
            if not isinstance(message.declare, QueueSpec) or message.declare.name != message.routing_key:
                return 1
            self._catalog.declare(message.declare)
            if self._db.execute(_PUT, row).rowcount == 0:
                return 1
        self._ringer.ring(channel_of(message.routing_key))
        return 0

    def _put_many(self, messages: Sequence[OutMessage]) -> int:
        self._declare_missing(messages)
        heard = [each for each in messages if self._catalog.route(each.exchange, each.routing_key)]
        if not heard:
            return len(messages)  # nobody listens: no need to take the write lock
        if len(heard) == 1 and not heard[0].exchange:
            # A call, and an event that nobody listens to: one statement needs no transaction around it.
            return len(messages) - 1 + self._put_one(heard[0])
        now = self._clock.now()
        packed = [self._row(message, now) for message in messages]
        rows: list[tuple[Any, ...]] = []
        reached: set[str] = set()
        unrouted = 0
        with self._db.transaction():
            self._catalog.refresh()
            for message, row in zip(messages, packed, strict=True):
                queues = self._catalog.route(message.exchange, message.routing_key)
                rows.extend((*row, queue) for queue in queues)
                reached.update(queues)
                unrouted += not queues
            if rows:
                self._db.execute_many(_PUT, rows)
        for queue in reached:
            self._ringer.ring(channel_of(queue))
        return unrouted

    def _declare_missing(self, messages: Iterable[OutMessage]) -> None:
        self._catalog.refresh()
        missing = {
            message.declare
            for message in messages
            if isinstance(message.declare, QueueSpec) and not self._catalog.route(message.exchange, message.routing_key)
        }
        for spec in missing:
            self._catalog.declare(spec)
        if missing:
            self._catalog.refresh()

    def _row(self, message: OutMessage, now: float) -> tuple[Any, ...]:
        priority = priority_of(message.properties)
        envelope = pack(message, priority)
        expiry = expires_at(message, now)
        return HIGHEST_PRIORITY - priority, len(envelope), now, expiry, expiry, now, envelope

    def _check_file(self) -> None:
        now = self._clock.monotonic()
        if now - self._checked_at >= _CHECK_FILE_S:
            self._db.check_file()
            self._checked_at = now

    def purge(self, queue: str) -> int:
        """Remove what waits in a queue and return how many messages that were; handed out ones stay."""
        with self._db.transaction():
            row = self._db.execute("SELECT id FROM queue WHERE name = ?", (queue,)).fetchone()
            if row is None:
                return 0
            self._db.execute("DELETE FROM message WHERE id IN (SELECT id FROM ready WHERE queue = ?)", row)
            return self._db.execute("DELETE FROM ready WHERE queue = ?", row).rowcount

    def waiting(self, queue: str) -> Waiting | None:
        """Say what waits in a queue; ``None`` when there is no such queue."""
        row = self._db.execute("SELECT id FROM queue WHERE name = ?", (queue,)).fetchone()
        if row is None:
            return None
        ready, unacked, consumers = self._db.execute(
            "SELECT (SELECT count(*) FROM ready WHERE queue = ?1), (SELECT count(*) FROM leased WHERE queue = ?1),"
            " (SELECT count(*) FROM consuming WHERE queue = ?1)",
            row,
        ).fetchone()
        heads = self._db.execute(
            "WITH RECURSIVE rank (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM rank WHERE n < 9)"
            " SELECT min(sent_at) FROM message WHERE id IN"
            " (SELECT (SELECT min(id) FROM ready WHERE queue = ? AND ready.rank = n) FROM rank)",
            row,
        ).fetchone()
        return Waiting(ready, unacked, consumers, heads[0])

    def size(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when there is no such queue."""
        row = self._db.execute(
            "SELECT count(*) FROM ready WHERE queue = (SELECT id FROM queue WHERE name = ?)", (queue,)
        ).fetchone()
        return int(row[0])
