"""Reading the PostgreSQL history: a few connections that threads borrow; searches through the search index."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from opsq.errors import StoreUnavailable
from opsq.events import inverted
from opsq.events.decisions import DecisionRow, answers, latest_question, question
from opsq.events.postgres_cache import KEYS, Directory, SegmentCache, block_of
from opsq.events.postgres_schema import plain, refuse_newer, version_of
from opsq.events.rows import Cell, Restored, TaskRow, cell_of
from opsq.events.search_plan import SegmentInfo
from opsq.events.searching import Columns, Searching
from opsq.events.task_log import LogBatch
from opsq.masking import mask_url

COLUMNS: Final = "key, id, state, type, queue, worker, root, evidence"
CONNECT_S: Final = 5
MOST_CONNECTIONS: Final = 8
_BORROW_S: Final = 10.0
_PREFIX_END: Final = "\U0010ffff"
Db = psycopg.Connection[Any]


def connect(url: str) -> Db:
    """A connection in the schema of history, every statement its own transaction. Raises StoreUnavailable."""
    db: Db | None = None
    try:
        db = psycopg.connect(url, connect_timeout=CONNECT_S, autocommit=True, application_name="opsq history")
        db.execute("SET search_path = opsq, public")
        # A generic plan for a list of keys would forget that the list is short.
        db.execute("SET jit = off")
    except psycopg.Error as error:
        if db is not None:
            db.close()
        raise StoreUnavailable(f"history in {mask_url(url)} cannot be reached: {str(error).strip()}") from error
    return db


def read_cells(db: Db) -> dict[Cell, int]:
    """Counts by cell."""
    return {cell_of(text): n for text, n in db.execute("SELECT cell, n FROM cells WHERE n <> 0")}


def restored(db: Db) -> Restored:
    """Counts, workers and ledger."""
    workers = {name: bytes(record) for name, record in db.execute("SELECT name, record FROM workers")}
    ledger = {name: bytes(value) for name, value in db.execute("SELECT name, value FROM ledger")}
    return Restored(read_cells(db), workers, ledger)


class Names:
    """Names and their numbers, as far as the tables have them. Thread: any."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self._columns: tuple[tuple[Any, ...], Columns] | None = None

    def refresh(self, db: Db) -> None:
        """Read the names that came since the last time."""
        last = max(self.names.copy(), default=0)
        for id, name in db.execute("SELECT id, name FROM names WHERE id > %s", (last,)).fetchall():
            self.numbers[name], self.names[id] = id, name

    def columns(self, ask: Callable[[str], list[tuple[Any, ...]]]) -> Columns:
        """The names of each dimension, worked out again only when there are other cells than the last time."""
        cells = ask("SELECT count(*), sum(hashtextextended(cell, 0)) FROM cells WHERE n <> 0")[0]
        known = self._columns
        if known is None or known[0] != cells:
            columns = Columns(cell for (cell,) in ask("SELECT cell FROM cells WHERE n <> 0"))
            self._columns = known = (cells, columns)
        return known[1]

    def row(self, record: Sequence[Any]) -> TaskRow:
        """A stored row."""
        key, id, state, type, queue, worker, root, evidence = record
        name = self.names
        return TaskRow(key, id, name[state], name.get(type), name.get(queue), name.get(worker), root, evidence)


class PostgresShelf:
    """One consistent look at the tables, inside a transaction. Thread: one."""

    def __init__(self, db: Db, names: Names, cache: SegmentCache) -> None:
        self.db = db
        self._names = names
        self._cache = cache
        self._columns: Columns | None = None

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.db.execute(sql, values, binary=True).fetchall()

    def names(self, dimension: str) -> Mapping[str | None, int | None]:
        """Every name of a dimension with its number; taken from the counts, which are few."""
        if self._columns is None:
            self._columns = self._names.columns(self._all)
        return self._columns.numbers(dimension, self._names.numbers)

    def floor(self) -> int:
        """The key of the oldest row."""
        return int(self._all("SELECT coalesce(min(key), 0) FROM tasks")[0][0])

    def segments(self) -> list[SegmentInfo]:
        """All of them."""
        return [SegmentInfo(*found) for found in self._all("SELECT id, docs, low, high, dead FROM segments")]

    def fresh(self, low: int, high: int, limit: int) -> list[tuple[int, bool]]:
        """The newest fresh row keys."""
        sql = "SELECT key, again FROM fresh WHERE key >= %s AND key < %s ORDER BY key DESC LIMIT %s"
        return [(key, again) for key, again in self._all(sql, (low, high, limit))]

    def keys(self, segment: int) -> array[int]:
        """Row keys of a segment by position."""
        data = self._cache.get(segment, KEYS)
        if data is None:
            data = b"".join(data for (data,) in self._all("SELECT keys FROM segments WHERE id = %s", (segment,)))
            self._cache.put(segment, KEYS, data)
        found = array("Q")
        found.frombytes(data)
        return found

    def postings(self, segments: Sequence[int], terms: Sequence[int]) -> Mapping[tuple[int, int], bytes]:
        """Positions by segment and term: each block that is needed is read once, all in one round trip."""
        places = {
            (segment, term): (segment, first)
            for segment, directory in self._directory(segments).items()
            for term in terms
            if (first := block_of(directory, term)) is not None
        }
        blocks = self._blocks(set(places.values()))
        found: dict[tuple[int, int], bytes] = {}
        for wanted, place in places.items():
            held = inverted.in_block(blocks[place], wanted[1]) if place in blocks else None
            if held is not None:
                found[wanted] = held
        return found

    def _directory(self, segments: Sequence[int]) -> dict[int, Directory]:
        found = self._cache.directory(segments)
        unknown = [segment for segment in segments if segment not in found]
        if unknown:
            sql = (
                "SELECT segment, array_agg(first ORDER BY first) FROM blocks "
                "WHERE segment = ANY(%s::bigint[]) GROUP BY segment"
            )
            for segment, firsts in self._all(sql, (unknown,)):
                found[segment] = self._cache.learn(segment, firsts)
        return found

    def _blocks(self, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], inverted.Block]:
        held = {place: data for place in places if (data := self._cache.get(*place)) is not None}
        missing = sorted(place for place in places if place not in held)
        if missing:
            sql = (
                "SELECT segment, first, data FROM blocks JOIN unnest(%s::bigint[], %s::bigint[]) "
                "AS wanted (segment, first) USING (segment, first)"
            )
            for segment, first, data in self._all(sql, tuple(map(list, zip(*missing, strict=True)))):
                held[segment, first] = data
                self._cache.put(segment, first, data)
        return {place: inverted.read_block(data) for place, data in held.items()}

    def rows(self, keys: Sequence[int]) -> list[TaskRow]:
        """Rows by key, newest first."""
        sql = f"SELECT {COLUMNS} FROM tasks WHERE key = ANY(%s::bigint[]) ORDER BY key DESC"
        return [self._names.row(record) for record in self._all(sql, (list(keys),))]

    def newest(self, low: int, high: int, limit: int) -> list[int]:
        """The greatest row keys of a range."""
        sql = "SELECT key FROM tasks WHERE key >= %s AND key < %s ORDER BY key DESC LIMIT %s"
        return [key for (key,) in self._all(sql, (low, high, limit))]

    def begins(self, prefix: str, limit: int) -> list[int]:
        """Keys of rows whose id begins so."""
        sql = "SELECT key FROM tasks WHERE id >= %s AND id < %s LIMIT %s"
        return [key for (key,) in self._all(sql, (plain(prefix), plain(prefix) + _PREFIX_END, limit))]

    def workflow(self, root: str, limit: int) -> list[int]:
        """Keys of rows whose first task is this one, itself too."""
        sql = "SELECT key FROM tasks WHERE root = %s UNION SELECT key FROM tasks WHERE id = %s LIMIT %s"
        return [key for (key,) in self._all(sql, (plain(root), plain(root), limit))]


class Reader(Searching):
    """The reading half of ``PostgresStore``, and all of what ``opsq tasks`` needs. Thread: any."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.names = Names()
        self._cache = SegmentCache()
        self._free: list[Db] = []
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._closed = False
        self._checked = False

    @contextmanager
    def _borrowed(self) -> Iterator[Db]:
        if self._closed:
            raise StoreUnavailable("this history is closed")
        if not self._turns.acquire(timeout=_BORROW_S):
            raise StoreUnavailable(f"all {MOST_CONNECTIONS} connections to history have been busy for {_BORROW_S:g} s")
        db: Db | None = None
        try:
            with self._lock:
                db = self._free.pop() if self._free else None
            db = db or connect(self._url)
            if not self._checked:
                refuse_newer(version_of(db), mask_url(self._url))
                self._checked = True
            yield db
        except psycopg.Error as error:
            # The next one borrows a new connection: this one may be dead.
            self._let_go(db)
            db = None
            raise StoreUnavailable(f"history in {mask_url(self._url)} failed: {str(error).strip()}") from error
        finally:
            self._give_back(db)
            self._turns.release()

    @contextmanager
    def writing(self) -> Iterator[Db]:
        """A connection for one small write from any thread. Raises StoreUnavailable."""
        with self._borrowed() as db:
            yield db

    def _give_back(self, db: Db | None) -> None:
        if db is not None:
            with self._lock:
                if not self._closed and not db.closed:
                    self._free.append(db)
                    return
            self._let_go(db)

    def _let_go(self, db: Db | None) -> None:
        if db is not None:
            db.close()

    @contextmanager
    def shelf(self) -> Iterator[PostgresShelf]:
        """One consistent look at the tables for the block. Raises StoreUnavailable."""
        with self._borrowed() as db, db.transaction():
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            self.names.refresh(db)
            yield PostgresShelf(db, self.names, self._cache)

    def restore(self) -> Restored:
        """Counts, workers and ledger as they were written last."""
        with self._borrowed() as db, db.transaction():
            return restored(db)

    def task(self, id: str) -> TaskRow | None:
        """One row."""
        found = self._rows("WHERE id = %s", (plain(id),))
        return found[0] if found else None

    def _rows(self, where: str, values: Sequence[Any]) -> list[TaskRow]:
        with self._borrowed() as db:
            records = db.execute(f"SELECT {COLUMNS} FROM tasks {where}", values, binary=True).fetchall()
            self.names.refresh(db)
        return [self.names.row(record) for record in records]

    def relatives(self, root: str, limit: int) -> list[TaskRow]:
        """The newest rows of a workflow but its root, newest first."""
        return self._rows("WHERE root = %s ORDER BY key DESC LIMIT %s", (plain(root), limit))

    def log(self, id: str) -> list[LogBatch]:
        """What a task logged, oldest first."""
        sql = "SELECT id, at, digest, record FROM logs WHERE id = %s ORDER BY at, digest"
        with self._borrowed() as db:
            return [LogBatch(*found) for found in db.execute(sql, (plain(id),), binary=True)]

    def decisions(
        self, since: float, until: float, *, group: str | None = None, changed: bool = False, limit: int = 1_000
    ) -> list[DecisionRow]:
        """The newest decisions of a time range, newest first."""
        values = (since, until, *(() if group is None else (plain(group),)), limit)
        with self._borrowed() as db:
            return answers(db.execute(question(group, changed, "%s"), values, binary=True))

    def latest_decisions(self, since: float) -> list[DecisionRow]:
        """The newest decision of each group."""
        with self._borrowed() as db:
            return answers(db.execute(latest_question("%s"), (since,), binary=True))

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        """(start, series, slice) of a time range, oldest first."""
        low, high = (prefix, prefix + _PREFIX_END) if series is None else (series, series + "\x01")
        sql = (
            "SELECT start, series, data FROM slices WHERE width = %s AND start >= %s AND start < %s "
            "AND series >= %s AND series < %s ORDER BY start, series"
        )
        values = (width_s, since, until, plain(low), plain(high))
        with self._borrowed() as db:
            found = db.execute(sql, values, binary=True).fetchall()
        return [one for one in found if series is None or one[1] == plain(series)]

    def audit(self, before: int | None = None, limit: int = 100) -> list[tuple[int, float, bytes]]:
        """The newest records of what people did: (id, epoch seconds, record), newest first."""
        sql = "SELECT id, at, record FROM audit WHERE id < %s ORDER BY id DESC LIMIT %s"
        with self._borrowed() as db:
            return db.execute(sql, ((1 << 62) if before is None else before, limit)).fetchall()

    def waiting_for_index(self) -> int:
        """How many rows no segment of the search index knows yet."""
        with self._borrowed() as db:
            return int((db.execute("SELECT count(*) FROM fresh").fetchone() or (0,))[0])

    def size_bytes(self) -> int:
        """The room history takes, estimated: rows by what the newest thousand take, with their share of indexes;
        figures likewise.

        The size of the tables would not fall when rows are removed, so it cannot say when enough was removed.
        """
        sql = (
            "SELECT greatest((SELECT sum(n) FROM cells), (SELECT count(*) FROM (SELECT 1 FROM tasks LIMIT 1000) few)) "
            "* (coalesce((SELECT avg(octet_length(evidence)) FROM "
            "(SELECT evidence FROM tasks ORDER BY key DESC LIMIT 1000) newest), 0) + 320) "
            # Figures: as many as the planner believes there are, each as large as some of them.
            "+ (SELECT greatest(reltuples, 0) FROM pg_class WHERE oid = 'opsq.slices'::regclass) * (coalesce((SELECT "
            "avg(octet_length(data)) FROM (SELECT data FROM slices LIMIT 200) sampled), 0) + 150) "
            "+ (SELECT bytes FROM log_size)"
        )
        with self._borrowed() as db:
            return int((db.execute(sql).fetchone() or (0,))[0])

    def close(self) -> None:
        """Close every connection; may be called twice."""
        with self._lock:
            self._closed = True
            while self._free:
                self._free.pop().close()
