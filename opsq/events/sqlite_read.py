"""Reading the SQLite history: a read-only connection per thread; searches through the search index."""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from opsq.errors import StoreUnavailable
from opsq.events import inverted
from opsq.events.decisions import DecisionRow, answers, latest_question, question
from opsq.events.rollup import ALL_TIME
from opsq.events.rows import Restored, TaskRow, cell_of
from opsq.events.search_plan import SegmentInfo
from opsq.events.searching import Columns, Searching
from opsq.events.sqlite_logs import of_task
from opsq.events.sqlite_schema import id_hash, prefix_range, refuse_newer, version_of
from opsq.events.task_log import LogBatch

COLUMNS: Final = "key, id, state, type, queue, worker, root, evidence"
_MANY: Final = 500
T = TypeVar("T")


def row_of(record: tuple[Any, ...], names: Mapping[int, str]) -> TaskRow:
    """A stored row. root is not kept as text in the row; it is in the evidence."""
    key, id, state, type, queue, worker, _, evidence = record
    return TaskRow(
        key,
        id,
        names[state],
        None if type is None else names[type],
        None if queue is None else names[queue],
        None if worker is None else names[worker],
        None,
        evidence,
    )


class Names:
    """Names and their numbers, as far as the file has them."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self._last = 0
        self._seen = -1
        self._cells: list[tuple[str]] = []
        self._columns = Columns(())

    def refresh(self, db: sqlite3.Connection) -> None:
        """Read the names that came since the last time."""
        for id, name in db.execute("SELECT id, name FROM names WHERE id > ?", (self._last,)).fetchall():
            self.numbers[name], self.names[id] = id, name
            self._last = max(self._last, id)

    def columns(self, db: sqlite3.Connection) -> Columns:
        """The names of each dimension; read again when somebody wrote, worked out again when a cell came or went."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        if version != self._seen:
            cells = db.execute("SELECT cell FROM cells WHERE n != 0").fetchall()
            if cells != self._cells:
                self._cells, self._columns = cells, Columns(cell for (cell,) in cells)
            self._seen = version
        return self._columns


class SqliteShelf:
    """One consistent look at a file, inside a transaction. Thread: that of the connection."""

    def __init__(self, db: sqlite3.Connection, names: Names) -> None:
        self.db = db
        self._names = names
        self._columns: Columns | None = None
        self._blocks: dict[tuple[int, int], inverted.Block] = {}

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.db.execute(sql, values).fetchall()

    def names(self, dimension: str) -> Mapping[str | None, int | None]:
        """Every name of a dimension with its number; taken from the counts, which are few."""
        if self._columns is None:
            self._columns = self._names.columns(self.db)
        return self._columns.numbers(dimension, self._names.numbers)

    def floor(self) -> int:
        """The key of the oldest row."""
        return int(self._all("SELECT coalesce(min(key), 0) FROM tasks")[0][0])

    def segments(self) -> list[SegmentInfo]:
        """All of them."""
        return [SegmentInfo(*found) for found in self._all("SELECT id, docs, low, high, dead FROM segments")]

    def fresh(self, low: int, high: int, limit: int) -> list[tuple[int, bool]]:
        """The newest fresh row keys."""
        sql = "SELECT key, again FROM fresh WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
        return [(key, bool(again)) for key, again in self._all(sql, (low, high, limit))]

    def keys(self, segment: int) -> array[int]:
        """Row keys of a segment by position."""
        found = array("Q")
        for (data,) in self._all("SELECT keys FROM segments WHERE id = ?", (segment,)):
            found.frombytes(data)
        return found

    def postings(self, segments: Sequence[int], terms: Sequence[int]) -> Mapping[tuple[int, int], bytes]:
        """Positions by segment and term."""
        sql = "SELECT first, data FROM blocks WHERE segment = ? AND first <= ? ORDER BY first DESC LIMIT 1"
        found: dict[tuple[int, int], bytes] = {}
        for segment in segments:
            known: tuple[int, inverted.Block] | None = None
            for term in terms:
                if known is None or known[1][0][-1] < term:
                    records = self._all(sql, (segment, term))
                    if not records:
                        continue
                    known = records[0][0], inverted.read_block(records[0][1])
                data = inverted.in_block(known[1], term)
                if data is not None:
                    found[segment, term] = data
        return found

    def rows(self, keys: Sequence[int]) -> list[TaskRow]:
        """Rows by key, newest first."""
        found: list[TaskRow] = []
        for start in range(0, len(keys), _MANY):
            chunk = keys[start : start + _MANY]
            marks = ",".join("?" * len(chunk))
            sql = f"SELECT {COLUMNS} FROM tasks WHERE key IN ({marks}) ORDER BY key DESC"
            found += [row_of(record, self._names.names) for record in self._all(sql, chunk)]
        return found

    def newest(self, low: int, high: int, limit: int) -> list[int]:
        """The greatest row keys of a range."""
        sql = "SELECT key FROM tasks WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?"
        return [key for (key,) in self._all(sql, (low, high, limit))]

    def begins(self, prefix: str, limit: int) -> list[int]:
        """Keys of rows whose id begins so; for ids that are not hexadecimal only the whole id has an index."""
        numbers = prefix_range(prefix) or (id_hash(prefix),) * 2
        sql = "SELECT key FROM tasks WHERE id_hash BETWEEN ? AND ? AND substr(id, 1, ?) = ? LIMIT ?"
        return [key for (key,) in self._all(sql, (*numbers, len(prefix), prefix, limit))]

    def workflow(self, root: str, limit: int) -> list[int]:
        """Keys of rows whose first task is this one, itself too."""
        sql = "SELECT key FROM tasks WHERE root = ? UNION SELECT key FROM tasks WHERE id_hash = ? LIMIT ?"
        return [key for (key,) in self._all(sql, (id_hash(root), id_hash(root), limit))]


class Reader(Searching):
    """The reading half of ``SqliteStore``, and all of what ``opsq tasks`` needs. Thread: any."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []
        self._closed = False

    def _connection(self) -> tuple[sqlite3.Connection, Names]:
        known: tuple[sqlite3.Connection, Names] | None = getattr(self._local, "known", None)
        if known is not None:
            return known
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"history in {self._path} is closed")
            made = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro",
                uri=True, isolation_level=None, check_same_thread=False, cached_statements=256,
            )  # fmt: skip
            made.execute("PRAGMA query_only = ON")
            made.execute("PRAGMA mmap_size = 1073741824")
            made.execute("PRAGMA cache_size = -16384")
            refuse_newer(version_of(made), str(self._path))
            self._open.append(made)
        self._local.known = made, Names()
        return self._local.known  # type: ignore[no-any-return]

    def _read(self, act: Callable[[sqlite3.Connection, Names], T]) -> T:
        # Of one moment, or a row could have a name that came after the names were read.
        with self._look() as (db, names):
            return act(db, names)

    @contextmanager
    def shelf(self) -> Iterator[SqliteShelf]:
        """One consistent look at the file for the block. Raises StoreUnavailable."""
        with self._look() as (db, names):
            yield SqliteShelf(db, names)

    @contextmanager
    def _look(self) -> Iterator[tuple[sqlite3.Connection, Names]]:
        try:
            db, names = self._connection()
            db.execute("BEGIN")
            try:
                names.refresh(db)
                yield db, names
            finally:
                if db.in_transaction:
                    db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"history in {self._path} cannot be read: {error}") from error

    def restore(self) -> Restored:
        """Counts, workers and ledger as they were written last."""

        def read(db: sqlite3.Connection, _: Names) -> Restored:
            cells = {cell_of(text): n for text, n in db.execute("SELECT cell, n FROM cells WHERE n != 0")}
            workers = dict(db.execute("SELECT name, record FROM workers"))
            return Restored(cells, workers, dict(db.execute("SELECT name, value FROM ledger")))

        return self._read(read)

    def task(self, id: str) -> TaskRow | None:
        """One row."""
        sql = f"SELECT {COLUMNS} FROM tasks WHERE id_hash = ? AND id = ?"
        found = self._read(
            lambda db, names: [row_of(record, names.names) for record in db.execute(sql, (id_hash(id), id)).fetchall()]
        )
        return found[0] if found else None

    def relatives(self, root: str, limit: int) -> list[TaskRow]:
        """The newest rows of a workflow but its root, newest first."""
        sql = f"SELECT {COLUMNS} FROM tasks WHERE root = ? ORDER BY key DESC LIMIT ?"
        values = (id_hash(root), limit)
        return self._read(lambda db, names: [row_of(one, names.names) for one in db.execute(sql, values).fetchall()])

    def log(self, id: str) -> list[LogBatch]:
        """What a task logged, oldest first."""
        return self._read(lambda db, _: of_task(db, id))

    def decisions(
        self, since: float, until: float, *, group: str | None = None, changed: bool = False, limit: int = 1_000
    ) -> list[DecisionRow]:
        """The newest decisions of a time range, newest first."""
        values = (since, until, *(() if group is None else (group,)), limit)
        return self._read(lambda db, _: answers(db.execute(question(group, changed, "?"), values)))

    def latest_decisions(self, since: float) -> list[DecisionRow]:
        """The newest decision of each group."""
        return self._read(lambda db, _: answers(db.execute(latest_question("?"), (since,))))

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        """(start, series, slice) of a time range, oldest first."""
        values: tuple[Any, ...]
        if series is not None:
            sql = (
                "SELECT start, series, data FROM slices WHERE width = ? AND series = ? AND start >= ? AND start < ? "
                "ORDER BY start"
            )
            values = (width_s, series, since, until)
        else:
            # A range of time is found by when it starts; all time is one bucket that every series is in.
            by, start = ("", "+start") if width_s == ALL_TIME else ("INDEXED BY slices_start", "start")
            sql = (
                f"SELECT start, series, data FROM slices {by} WHERE width = ? AND {start} >= ? AND {start} < ? "
                "AND series >= ? AND series < ? ORDER BY start, series"
            )
            values = (width_s, since, until, prefix, prefix + "\U0010ffff")
        return self._read(lambda db, _: db.execute(sql, values).fetchall())

    def audit(self, before: int | None = None, limit: int = 100) -> list[tuple[int, float, bytes]]:
        """The newest records of what people did: (id, epoch seconds, record), newest first."""
        sql = "SELECT id, at, record FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?"
        values = ((1 << 62) if before is None else before, limit)
        return self._read(lambda db, _: db.execute(sql, values).fetchall())

    def waiting_for_index(self) -> int:
        """How many rows no segment of the search index knows yet."""
        return int(self._read(lambda db, _: db.execute("SELECT count(*) FROM fresh").fetchone())[0])

    def size_bytes(self) -> int:
        """The room in use: pages of the file that hold something."""

        def read(db: sqlite3.Connection, _: Names) -> int:
            pages, free, size = (
                db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
            )
            return int((pages - free) * size)

        return self._read(read)

    def close(self) -> None:
        """Close every connection; may be called twice."""
        with self._lock:
            self._closed = True
            for connection in self._open:
                connection.close()
            self._open.clear()
