"""History in one SQLite file: the writer's side. Reading is ``sqlite_read.py``.

WAL, so readers never wait for the writer; ``synchronous=NORMAL``, so a killed process loses nothing that was
written and a power cut may lose the last batches, never consistency. One monitor writes a file at a time; a lock
beside the file says so.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from opsq.errors import ConfigError, Fault, StoreTaken, StoreUnavailable
from opsq.events import sqlite_logs
from opsq.events.decisions import COLUMNS as COLUMNS_OF_DECISIONS
from opsq.events.decisions import LEASE
from opsq.events.indexer import Indexer
from opsq.events.records import key_time, time_key
from opsq.events.removed import LEDGER, figures_without_room, more_gone
from opsq.events.rollup import STORED_TIERS, SliceKey
from opsq.events.rows import BETWEEN
from opsq.events.sqlite_index import SqliteIndex
from opsq.events.sqlite_read import COLUMNS, Reader, row_of
from opsq.events.sqlite_rows import TaskRows
from opsq.events.sqlite_schema import VERSION, id_hash, migrate, version_of
from opsq.events.store import RETAIN_CHUNK, Cell, Changes, Removed, Retention, TaskRow

_CACHE_KIB: Final = 64 * 1024
_CHECKPOINT_PAGES: Final = 32_000
_MANY: Final = 500
T = TypeVar("T")


class SqliteStore:
    """A ``Store`` in the file at ``path``; made when it does not exist.

    Thread: one writer; reads from any. Raises StoreUnavailable when the file cannot be used.
    """

    def __init__(self, path: Path | str, *, busy_timeout_s: float = 5.0) -> None:
        self.path = Path(path)
        self._lock = self._take_lock()
        self._removed_slices_at = 0.0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            # The indexer copies the log into the file; the writer only where that does not get to the end of it.
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._db.execute("PRAGMA journal_size_limit = 67108864")
            migrate(self._db, str(self.path))
            self._rows = TaskRows(self._db)
        except (sqlite3.Error, OSError) as error:
            self._release_lock()
            raise StoreUnavailable(f"history cannot be kept in {self.path}: {error}") from error
        except StoreUnavailable:
            self._release_lock()
            raise
        self._writing = threading.Lock()
        self._reader = Reader(self.path)
        self.indexer = Indexer(SqliteIndex(self.path, self._writing))
        self.indexer.start()
        self.restore = self._reader.restore
        self.task = self._reader.task
        self.tasks = self._reader.tasks
        self.find = self._reader.find
        self.count = self._reader.count
        self.audit = self._reader.audit
        self.waiting_for_index = self._reader.waiting_for_index
        self.relatives = self._reader.relatives
        self.log = self._reader.log
        self.decisions = self._reader.decisions
        self.latest_decisions = self._reader.latest_decisions
        self.slices = self._reader.slices
        self.size_bytes = self._reader.size_bytes

    def _take_lock(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise StoreTaken(
                f"another monitor (process {holder}) writes {self.path}; stop it, or give this one its own data_dir"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        return handle

    def _release_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # -- what the writer asks ----------------------------------------------------------------------------------------

    def load(self, ids: Sequence[str]) -> dict[str, TaskRow]:
        """The rows of these tasks, as far as they exist."""
        wanted = {id_hash(id): id for id in ids}
        asked = set(ids)

        def read() -> dict[str, TaskRow]:
            found = {}
            for numbers in _chunks(sorted(wanted)):  # the index is walked through once
                sql = f"SELECT {COLUMNS} FROM tasks WHERE id_hash IN ({_marks(numbers)})"
                for record in self._db.execute(sql, numbers):
                    if record[1] in asked:
                        found[record[1]] = row_of(record, self._rows.names)
            return found

        return self._guarded(read)

    def taken(self, keys: Sequence[int]) -> set[int]:
        """Which of these row keys are in use."""

        def read() -> set[int]:
            found: set[int] = set()
            # Keys grow with time, so most new ones are beyond all that were ever written.
            for chunk in _chunks([key for key in keys if key <= self._rows.greatest]):
                sql = f"SELECT key FROM tasks WHERE key IN ({_marks(chunk)})"
                found.update(key for (key,) in self._db.execute(sql, chunk))
            return found

        return self._guarded(read)

    def fetch_slices(self, keys: Iterable[SliceKey]) -> Mapping[SliceKey, bytes]:
        """Stored slices by key, as far as they exist."""
        sql = "SELECT data FROM slices WHERE width = ? AND series = ? AND start = ?"

        def read() -> dict[SliceKey, bytes]:
            found = {}
            for width, start, series in keys:
                for (data,) in self._db.execute(sql, (width, series, start)):
                    found[width, start, series] = data
            return found

        return self._guarded(read)

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, changes: Changes) -> None:
        """Write all of it or none."""
        self._transaction(lambda: self._write(changes))
        self.indexer.wrote(len(changes.rows))

    def _write(self, changes: Changes) -> None:
        self._rows.write(changes.rows.values())
        self._add_cells(changes.cells)
        self._db.executemany(
            "INSERT INTO slices VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET data = excluded.data",
            [(width, series, start, data) for (width, start, series), data in changes.slices.items()],
        )
        kept = [(name, record) for name, record in changes.workers.items() if record is not None]
        self._db.executemany("INSERT OR REPLACE INTO workers VALUES (?,?)", kept)
        gone = [(name,) for name, record in changes.workers.items() if record is None]
        self._db.executemany("DELETE FROM workers WHERE name = ?", gone)
        self._db.executemany("INSERT OR REPLACE INTO ledger VALUES (?,?)", list(changes.ledger.items()))
        sqlite_logs.write(self._db, changes.logs)
        self._db.executemany(
            f"INSERT OR IGNORE INTO decisions ({COLUMNS_OF_DECISIONS}) VALUES (?,?,?,?,?)",
            [(one.group, one.at, one.source, one.changed, one.record) for one in changes.decisions],
        )

    def _add_cells(self, cells: Mapping[Cell, int]) -> None:
        self._db.executemany(
            "INSERT INTO cells VALUES (?,?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(BETWEEN.join(part or "" for part in cell), amount) for cell, amount in cells.items()],
        )

    def note(self, at: float, record: bytes) -> None:
        """Keep one record of what somebody did. Thread: any."""
        with self._writing:
            self._guarded(lambda: self._db.execute("INSERT INTO audit (at, record) VALUES (?, ?)", (at, record)))

    def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Hold ``name``, if nobody else does. Thread: any."""
        now, sql = time.time(), LEASE.format(mark="?")
        with self._writing:
            values = (name, holder, now + ttl_s, holder, now)
            return bool(self._guarded(lambda: self._db.execute(sql, values).rowcount))

    def retain(self, retention: Retention, now: float) -> Removed:
        """Delete a bounded chunk of what is too old or too much, oldest first."""
        oldest = 0 if retention.keep_s is None else time_key(now - retention.keep_s)
        full = retention.max_bytes is not None and self.size_bytes() > retention.max_bytes

        def act() -> Removed:
            if now - self._removed_slices_at > 60.0:
                self._removed_slices_at = now
                self._sweep(retention, now)
            removed = self._retain(oldest, full, now)
            # Where tasks leave for lack of room, their lines leave with them.
            since = max(retention.logs_since(now), key_time(removed.before) if full else 0.0)
            logs = sqlite_logs.retain(self._db, since, retention.logs_bytes)
            return msgspec.structs.replace(removed, more=removed.more or logs.more)

        return self._transaction(act)

    def _sweep(self, retention: Retention, now: float) -> None:
        for tier in STORED_TIERS:
            sql = "DELETE FROM slices WHERE width = ? AND start < ?"
            self._db.execute(sql, (tier.width_s, int(now) - tier.keep_s - tier.width_s))
        self._db.execute("DELETE FROM cells WHERE n = 0")
        if retention.audit_s is not None:
            self._db.execute("DELETE FROM audit WHERE at < ?", (now - retention.audit_s,))
        if retention.decisions_s is not None:
            self._db.execute("DELETE FROM decisions WHERE at < ?", (now - retention.decisions_s,))

    def _retain(self, oldest: int, full: bool, now: float) -> Removed:
        (last,) = self._db.execute(
            "SELECT max(key) FROM (SELECT key FROM tasks WHERE ? OR key < ? ORDER BY key LIMIT ?)",
            (full, oldest, RETAIN_CHUNK),
        ).fetchone()
        if full:
            self._drop_figures(last, now)
        if last is None:
            return Removed()
        self._note_removed(last, now)
        cells: dict[Cell, int] = {}
        doomed = self._db.execute(
            "SELECT state, type, queue, worker, count(*) FROM tasks WHERE key <= ? GROUP BY 1, 2, 3, 4", (last,)
        )
        name = self._rows.names
        for state, type, queue, worker, n in doomed.fetchall():
            cells[name[state], name.get(type), name.get(queue), name.get(worker)] = -n
        rows = self._db.execute("DELETE FROM tasks WHERE key <= ?", (last,)).rowcount
        self._db.execute("DELETE FROM fresh WHERE key <= ?", (last,))
        gone = self._db.execute("SELECT id FROM segments WHERE high <= ?", (last,)).fetchall()
        self._db.executemany("DELETE FROM blocks WHERE segment = ?", gone)
        self._db.executemany("DELETE FROM segments WHERE id = ?", gone)
        self._add_cells(cells)
        return Removed(last + 1, rows, cells, more=rows >= RETAIN_CHUNK)

    def _drop_figures(self, last: int | None, now: float) -> None:
        """Where room is short, figures go with the tasks they are of."""
        for width, before in figures_without_room(last, now):
            self._db.execute("DELETE FROM slices WHERE width = ? AND start < ?", (width, before))

    def _note_removed(self, last: int, now: float) -> None:
        (stored,) = self._db.execute("SELECT max(value) FROM ledger WHERE name = ?", (LEDGER,)).fetchone()
        doomed = self._db.execute("SELECT evidence FROM tasks WHERE key <= ?", (last,))
        record = more_gone(stored, (evidence for (evidence,) in doomed), now)
        self._db.execute("INSERT OR REPLACE INTO ledger VALUES (?,?)", (LEDGER, record))

    def counts(self) -> Mapping[Cell, int] | None:
        """One monitor writes a file, so its own counts are all."""
        return None

    def ledger(self) -> Mapping[str, bytes] | None:
        """One monitor writes a file, so its own is all."""
        return None

    def alone(self) -> AbstractContextManager[None]:
        """The lock beside the file keeps others out all the time."""
        return nullcontext()

    def index_lag_s(self) -> float:
        """For how many seconds there have been tasks at rest that the index does not know. Thread: any."""
        return self.indexer.lag_s

    def index(self) -> bool:
        """Bring the search index a step further without waiting for rest."""
        return self.indexer.step(everything=True)

    # -- guards --------------------------------------------------------------------------------------------------------

    def _transaction(self, act: Callable[[], T]) -> T:
        with self._writing:
            return self._whole(act)

    def _whole(self, act: Callable[[], T]) -> T:
        def whole() -> T:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = act()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._rows.forget_rolled_back()
                raise
            return result

        return self._guarded(whole)

    def _guarded(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"history in {self.path} failed: {error}") from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        self.indexer.stop()
        self._reader.close()
        self._db.close()
        self._release_lock()


def open_url(url: str) -> SqliteStore:
    """Open ``sqlite:///path``; three slashes and an absolute path make four."""
    path = url.removeprefix("sqlite://").removeprefix("/")
    if not path:
        raise ConfigError([Fault("expected a file, such as sqlite:////var/lib/opsq/history.db", "monitor_store_url")])
    return SqliteStore(path)


def _chunks(values: list[int]) -> Iterable[list[int]]:
    return (values[start : start + _MANY] for start in range(0, len(values), _MANY))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite://").removeprefix("/"))


def open_reader(url: str) -> Reader:
    """Open the file for reading alone, beside the monitor that writes it."""
    return Reader(_path_of(url))


def versions(url: str) -> tuple[int, int]:
    """(version of the file, version this program knows)."""
    path = _path_of(url)
    if not path.exists():
        return 0, VERSION
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return version_of(db), VERSION
    except sqlite3.Error as error:
        raise StoreUnavailable(f"history in {path} cannot be read: {error}") from error
