"""History in PostgreSQL: the writer's side. Reading is ``postgres_read.py``, the search index ``postgres_index.py``.

Any number of monitors may write one database. They write one after the other (an advisory lock), and each write looks
whether somebody else wrote since its last one. As long as nobody did, what the fold counted is right and is written as
it is. From the first time somebody did, this monitor joins: its evidence is merged with the stored evidence, and
counts and sketches change by what the stored row grew in this transaction and by nothing else, so that an event that
two monitors saw is counted once. Source: design decision 7.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import psycopg

from opsq.clock import Clock, SystemClock
from opsq.errors import StoreUnavailable
from opsq.events import postgres_logs
from opsq.events.anomalies import LEDGER as ANOMALIES
from opsq.events.decisions import LEASE, DecisionRow
from opsq.events.error_groups import LEDGER as GROUPS
from opsq.events.indexer import Indexer, stamp_of
from opsq.events.postgres_index import PostgresIndex
from opsq.events.postgres_merge import Merged, merge_rows, merged_ledger, merged_slices
from opsq.events.postgres_parts import add_to_cells, note_removed, put_slices, read_ledger, read_slices
from opsq.events.postgres_read import COLUMNS, Db, Reader, connect, read_cells, restored
from opsq.events.postgres_schema import VERSION, WRITE_LOCK, migrate, plain, version_of
from opsq.events.records import key_time, time_key
from opsq.events.removed import figures_without_room
from opsq.events.rollup import STORED_TIERS, SliceKey
from opsq.events.store import RETAIN_CHUNK, Cell, Changes, Removed, Restored, Retention, TaskRow
from opsq.masking import mask_url

_COUNTS_S: Final = 1.0
_INCOMING: Final = (
    'CREATE TEMP TABLE IF NOT EXISTS incoming (key bigint, id text COLLATE "C", state integer, type integer, '
    'queue integer, worker integer, root text COLLATE "C", evidence bytea) ON COMMIT DELETE ROWS'
)
_TYPES: Final = ("int8", "text", "int4", "int4", "int4", "int4", "text", "bytea")


class PostgresStore:
    """A ``Store`` in the database at ``url``. Thread: one writer; reads from any. Raises StoreUnavailable."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._db: Db | None = None
        self._closed = False
        #: Somebody else writes here too.
        self.shared = False
        self._epoch: int | None = None
        self._stamp = 0
        self._counts_lock = threading.Lock()
        self._counts: tuple[float, Mapping[Cell, int]] = (-1e9, {})
        self._told: tuple[float, Mapping[str, bytes]] = (-1e9, {})
        self._removed_slices_at = 0.0
        self._reader = Reader(url)
        self._names = self._reader.names
        try:
            with self._used() as db:
                migrate(db, mask_url(url))
                self._names.refresh(db)
        except StoreUnavailable:
            self._let_go()
            raise
        self.indexer = Indexer(PostgresIndex(url))
        self.indexer.start()
        self.task = self._reader.task
        self.tasks = self._reader.tasks
        self.find = self._reader.find
        self.count = self._reader.count
        self.relatives = self._reader.relatives
        self.log = self._reader.log
        self.decisions = self._reader.decisions
        self.latest_decisions = self._reader.latest_decisions
        self.slices = self._reader.slices
        self.audit = self._reader.audit
        self.waiting_for_index = self._reader.waiting_for_index
        self.size_bytes = self._reader.size_bytes

    @contextmanager
    def _used(self) -> Iterator[Db]:
        if self._closed:
            raise StoreUnavailable("this history is closed")
        if self._db is None or self._db.closed:
            self._db = connect(self._url)
        try:
            yield self._db
        except (psycopg.Error, UnicodeError, TypeError) as error:
            if isinstance(error, psycopg.OperationalError):
                self._db.close()
            raise StoreUnavailable(f"history in {mask_url(self._url)} failed: {str(error).strip()}") from error

    # -- what the writer asks ----------------------------------------------------------------------------------------

    def restore(self) -> Restored:
        """Everything the writer needs in memory."""
        with self._used() as db, db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
            self._epoch, self.shared = self._current_epoch(db), False
            return restored(db)

    def _current_epoch(self, db: Db) -> int:
        row = db.execute("SELECT epoch FROM state").fetchone()
        return int(row[0]) if row else 0

    def load(self, ids: Sequence[str]) -> dict[str, TaskRow]:
        """The rows of these tasks, as far as they exist."""
        asked = {plain(id): id for id in ids}
        with self._used() as db:
            return {asked[row.id]: _renamed(row, asked[row.id]) for row in self._rows(db, list(asked))}

    def _rows(self, db: Db, ids: Sequence[str]) -> list[TaskRow]:
        sql = f"SELECT {COLUMNS} FROM tasks WHERE id = ANY(%s::text[])"
        records = db.execute(sql, (ids,), binary=True).fetchall()
        self._names.refresh(db)
        return [self._names.row(record) for record in records]

    def taken(self, keys: Sequence[int]) -> set[int]:
        """Which of these row keys are in use."""
        with self._used() as db:
            found = db.execute("SELECT key FROM tasks WHERE key = ANY(%s::bigint[])", (list(keys),))
            return {key for (key,) in found}

    def fetch_slices(self, keys: Iterable[SliceKey]) -> Mapping[SliceKey, bytes]:
        """Stored slices by key, as far as they exist."""
        with self._used() as db:
            return read_slices(db, list(keys))

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, changes: Changes) -> None:
        """Write all of it or none; see the head of the module for what several monitors do."""
        with self._used() as db:
            self._name_all(db, changes.rows.values())
            db.execute(_INCOMING)
            with db.transaction():
                db.execute("SET LOCAL synchronous_commit = off")
                db.execute("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
                epoch = self._current_epoch(db)
                shared = self.shared or (self._epoch is not None and epoch != self._epoch)
                ledger: Mapping[str, bytes] = changes.ledger
                if shared:
                    ledger = self._join(db, changes)
                else:
                    self._rows_in(db, list(changes.rows.values()))
                    add_to_cells(db, changes.cells)
                    put_slices(db, changes.slices)
                self._whole(db, changes, ledger)
                postgres_logs.write(db, changes.logs)
                self._decide(db, changes.decisions)
                db.execute("UPDATE state SET epoch = %s", (epoch + 1,))
            self._epoch, self.shared = epoch + 1, shared
        self.indexer.wrote(len(changes.rows))

    def _join(self, db: Db, changes: Changes) -> dict[str, bytes]:
        """Count only what the stored rows grow by; returns the ledger that belongs to it."""
        known = {row.id: row for row in self._rows(db, [plain(id) for id in changes.rows])}
        merged: Merged = merge_rows(changes.rows.values(), known, self._clock.now())
        self._name_all(db, merged.rows)
        self._rows_in(db, merged.rows)
        add_to_cells(db, merged.cells)
        wanted = {*merged.slices, *changes.slices}
        put_slices(db, merged_slices(read_slices(db, sorted(wanted)), merged.slices, changes.slices))
        present = {id for (id,) in db.execute("SELECT id FROM tasks WHERE id = ANY(%s::text[])", (merged.parents,))}
        stored = read_ledger(db, [ANOMALIES, *changes.ledger])
        return merged_ledger(stored, changes.ledger, merged.changed, present)

    def _rows_in(self, db: Db, rows: Sequence[TaskRow]) -> None:
        if not rows:
            return
        number = self._names.numbers
        with db.cursor() as cursor, cursor.copy("COPY incoming FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(_TYPES)
            for row in rows:
                names = (None if name is None else number[plain(name)] for name in row.cell)
                root = None if row.root is None else plain(row.root)
                copy.write_row((row.key, plain(row.id), *names, root, row.evidence))
        # Another monitor may have given the row another key, or the key to another row.
        db.execute(
            "UPDATE incoming SET key = tasks.key FROM tasks WHERE tasks.id = incoming.id AND tasks.key <> incoming.key"
        )
        taken = "SELECT 1 FROM tasks WHERE tasks.key = incoming.key AND tasks.id <> incoming.id"
        while db.execute(f"UPDATE incoming SET key = key + 1 WHERE EXISTS ({taken})").rowcount:
            continue
        self._stamp = max(self._stamp + 1, stamp_of(self._clock.now()))
        db.execute(
            "INSERT INTO fresh SELECT key, %s, EXISTS (SELECT 1 FROM tasks WHERE tasks.key = incoming.key) "
            "FROM incoming ON CONFLICT (key) DO UPDATE SET stamp = excluded.stamp",
            (self._stamp,),
        )
        db.execute(
            "INSERT INTO tasks SELECT * FROM incoming ORDER BY key ON CONFLICT (id) DO UPDATE SET "
            "state = excluded.state, type = excluded.type, queue = excluded.queue, worker = excluded.worker, "
            "root = excluded.root, evidence = excluded.evidence"
        )

    def _whole(self, db: Db, changes: Changes, ledger: Mapping[str, bytes]) -> None:
        kept = [(plain(name), record) for name, record in changes.workers.items() if record is not None]
        gone = [plain(name) for name, record in changes.workers.items() if record is None]
        with db.cursor() as cursor:
            if kept:
                cursor.executemany(
                    "INSERT INTO workers VALUES (%s,%s) ON CONFLICT (name) DO UPDATE SET record = excluded.record", kept
                )
            if gone:
                cursor.execute("DELETE FROM workers WHERE name = ANY(%s::text[])", (gone,))
            if ledger:
                cursor.executemany(
                    "INSERT INTO ledger VALUES (%s,%s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    list(ledger.items()),
                )

    def _decide(self, db: Db, decisions: Sequence[DecisionRow]) -> None:
        rows = [(plain(one.group), one.at, plain(one.source), one.changed, one.record) for one in decisions]
        if rows:
            with db.cursor() as cursor:
                cursor.executemany("INSERT INTO decisions VALUES (%s,%s,%s,%s,%s) ON CONFLICT DO NOTHING", rows)

    def _name_all(self, db: Db, rows: Iterable[TaskRow]) -> None:
        known = self._names.numbers
        fresh = {plain(name) for row in rows for name in row.cell if name is not None and plain(name) not in known}
        if fresh:
            db.execute("INSERT INTO names (name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (sorted(fresh),))
            for id, name in db.execute("SELECT id, name FROM names WHERE name = ANY(%s::text[])", (sorted(fresh),)):
                self._names.numbers[name], self._names.names[id] = id, name

    def note(self, at: float, record: bytes) -> None:
        """Keep one record of what somebody did, at ``at`` (epoch seconds). Thread: any."""
        with self._reader.writing() as db:
            db.execute("INSERT INTO audit (at, record) VALUES (%s, %s)", (at, record))

    def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Hold ``name``, if nobody else does, by the database's clock. Thread: any."""
        with self._reader.writing() as db:
            row = db.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
            now = float(row[0]) if row else 0.0
            values = (plain(name), plain(holder), now + ttl_s, plain(holder), now)
            return bool(db.execute(LEASE.format(mark="%s"), values).rowcount)

    # -- retention -----------------------------------------------------------------------------------------------------

    def retain(self, retention: Retention, now: float) -> Removed:
        """Delete a bounded chunk of what is too old or too much, oldest first."""
        oldest = 0 if retention.keep_s is None else time_key(now - retention.keep_s)
        full = retention.max_bytes is not None and self.size_bytes() > retention.max_bytes
        with self._used() as db, db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
            if now - self._removed_slices_at > 60.0:
                self._removed_slices_at = now
                self._sweep(db, retention, now)
            removed = self._retain(db, oldest, full, now)
            # Where tasks leave for lack of room, their lines leave with them.
            since = max(retention.logs_since(now), key_time(removed.before) if full else 0.0)
            logs = postgres_logs.retain(db, since, retention.logs_bytes)
            return msgspec.structs.replace(removed, more=removed.more or logs.more)

    def _sweep(self, db: Db, retention: Retention, now: float) -> None:
        for tier in STORED_TIERS:
            sql = "DELETE FROM slices WHERE width = %s AND start < %s"
            db.execute(sql, (tier.width_s, int(now) - tier.keep_s - tier.width_s))
        db.execute("DELETE FROM cells WHERE n = 0")
        if retention.audit_s is not None:
            db.execute("DELETE FROM audit WHERE at < %s", (now - retention.audit_s,))
        if retention.decisions_s is not None:
            db.execute("DELETE FROM decisions WHERE at < %s", (now - retention.decisions_s,))

    def _retain(self, db: Db, oldest: int, full: bool, now: float) -> Removed:
        row = db.execute(
            "SELECT max(key) FROM (SELECT key FROM tasks WHERE %s OR key < %s ORDER BY key LIMIT %s) doomed",
            (full, oldest, RETAIN_CHUNK),
        ).fetchone()
        last = None if row is None else row[0]
        if full:
            for width, before in figures_without_room(last, now):
                db.execute("DELETE FROM slices WHERE width = %s AND start < %s", (width, before))
        if last is None:
            return Removed()
        note_removed(db, last, now)
        name = self._names.names
        self._names.refresh(db)
        cells: dict[Cell, int] = {}
        doomed = db.execute(
            "WITH gone AS (DELETE FROM tasks WHERE key <= %s RETURNING state, type, queue, worker) "
            "SELECT state, type, queue, worker, count(*) FROM gone GROUP BY 1, 2, 3, 4",
            (last,),
        ).fetchall()
        for state, type, queue, worker, n in doomed:
            cells[name[state], name.get(type), name.get(queue), name.get(worker)] = -n
        db.execute("DELETE FROM fresh WHERE key <= %s", (last,))
        db.execute("DELETE FROM blocks WHERE segment IN (SELECT id FROM segments WHERE high <= %s)", (last,))
        db.execute("DELETE FROM segments WHERE high <= %s", (last,))
        add_to_cells(db, cells)
        rows = -sum(cells.values())
        return Removed(last + 1, rows, cells, more=rows >= RETAIN_CHUNK)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def counts(self) -> Mapping[Cell, int] | None:
        """Tasks by cell as the database has them, at most a second old, when several monitors write. Thread: any."""
        if not self.shared:
            return None
        with self._counts_lock:
            read_at, counts = self._counts
            if self._clock.monotonic() - read_at > _COUNTS_S:
                with self._reader.shelf() as shelf:
                    counts = read_cells(shelf.db)
                self._counts = (self._clock.monotonic(), counts)
            return counts

    def ledger(self) -> Mapping[str, bytes] | None:
        """What the database has of error groups and anomalies, at most a second old, when several monitors write."""
        if not self.shared:
            return None
        with self._counts_lock:
            read_at, found = self._told
            if self._clock.monotonic() - read_at > _COUNTS_S:
                with self._reader.shelf() as shelf:
                    sql = "SELECT name, value FROM ledger WHERE name = %s OR starts_with(name, %s)"
                    found = {name: bytes(value) for name, value in shelf.db.execute(sql, (ANOMALIES, GROUPS))}
                self._told = (self._clock.monotonic(), found)
            return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For the block, other monitors wait before they write."""
        with self._used() as db:
            db.execute("SELECT pg_advisory_lock(%s)", (WRITE_LOCK,))
        try:
            yield
        finally:
            if not db.closed:
                db.execute("SELECT pg_advisory_unlock(%s)", (WRITE_LOCK,))

    def index_lag_s(self) -> float:
        """For how many seconds there have been tasks at rest that the index does not know. Thread: any."""
        return self.indexer.lag_s

    def index(self) -> bool:
        """Bring the search index a step further without waiting for rest."""
        return self.indexer.step(everything=True)

    def close(self) -> None:
        """Close every connection; may be called twice."""
        self.indexer.stop()
        self._closed = True
        self._reader.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._db is not None:
            self._db.close()


def _renamed(row: TaskRow, id: str) -> TaskRow:
    return row if row.id == id else TaskRow(row.key, id, *row.cell, row.root, row.evidence)


def open_url(url: str) -> PostgresStore:
    """Open ``postgresql://user:password@host:port/database``."""
    return PostgresStore(url)


def open_reader(url: str) -> Reader:
    """Open the database for reading alone, beside the monitors that write it."""
    return Reader(url)


def versions(url: str) -> tuple[int, int]:
    """(version of the tables, version this program knows)."""
    with connect(url) as db:
        return version_of(db), VERSION
