"""Results in a SQLite file, shared by the processes of one machine.

Write-ahead log, one statement per result, so a reader never waits for a writer and a killed process
leaves a consistent file. Every change takes a new number (``seq``); a waiter rung out of its sleep
reads which ids changed since the number it knows, never the ids it still waits for.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from opsq.broker.sqlite.doorbell import Doorbell, Ringer
from opsq.clock import Clock, SystemClock
from opsq.core.backends.base import SUCCESS, Capabilities, Kind, WaitScope
from opsq.core.backends.sqlite_chord import SqliteChords
from opsq.core.sqlite_writing import writing
from opsq.errors import BackendUnavailable, ConfigError
from opsq.settings import Settings

T = TypeVar("T")

CHANNEL: Final = "results"
# A ring can get lost (another user's process, a full buffer): look by ourselves this often.
NET_S: Final = 0.25
# Rings that bring nothing for us come as fast as others' results; look at most this often then.
CALM_S: Final = 0.001
BUSY_TIMEOUT_S: Final = 10.0
_IDS_PER_QUERY: Final = 500
_EXPIRED_PER_SWEEP: Final = 5_000
_PUTS_PER_SWEEP: Final = 1_000
_SWEEP_EVERY_S: Final = 60.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS results (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    ends_at REAL,
    payload BLOB NOT NULL,
    UNIQUE (kind, id)
);
CREATE INDEX IF NOT EXISTS results_ends_at ON results (ends_at) WHERE ends_at IS NOT NULL;
PRAGMA user_version = 1;
"""
_PUT: Final = (
    "INSERT OR REPLACE INTO results (kind, id, state, ends_at, payload) SELECT ?1, ?2, ?3, ?4, ?5 "
    "WHERE NOT EXISTS (SELECT 1 FROM results WHERE kind = ?1 AND id = ?2 AND state = ?6 "
    "AND (ends_at IS NULL OR ends_at > ?7))"
)
_GET: Final = "SELECT payload FROM results WHERE kind = ? AND id = ? AND (ends_at IS NULL OR ends_at > ?)"
_CHANGES: Final = "SELECT seq, id FROM results WHERE seq > ? AND kind = 'task'"
_LAST: Final = "SELECT seq FROM sqlite_sequence WHERE name = 'results'"
_SWEEP: Final = "DELETE FROM results WHERE seq IN (SELECT seq FROM results WHERE ends_at <= ? LIMIT ?)"


class SqliteBackend(SqliteChords):
    """A file of results.

    path: absolute; its directory is made when missing. synchronous: NORMAL survives a killed
    process, FULL a power loss too.
    Thread: any, one statement at a time; a forked child opens the file anew.
    """

    def __init__(self, path: str, clock: Clock | None = None, synchronous: str = "NORMAL") -> None:
        self._path = path
        self._synchronous = synchronous
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._pid = 0
        self._db: sqlite3.Connection | None = None
        self._ringer: Ringer | None = None
        self._bells: list[Doorbell] = []
        self._of_parent: tuple[sqlite3.Connection | None, ...] = ()
        self._puts = 0
        self._swept_at = 0.0

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(counts=True, expires=False, notifies=True, cross_process=True)

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Store ``payload`` unless a SUCCESS is there; waiters are rung after the commit."""
        now = self._clock.now()
        row = (kind, id, state, None if ttl_s is None else now + ttl_s, payload, SUCCESS, now)
        with self._using() as db:
            stored = db.execute(_PUT, row).rowcount > 0
            if stored and kind == "task" and self._ringer is not None:
                self._ringer.ring(CHANNEL)
            self._sweep_now_and_then(db, now)
        return stored

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Read one entry, or none."""
        with self._using() as db:
            row = db.execute(_GET, (kind, id, self._clock.now())).fetchone()
        return row[0] if row is not None else None

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Read several entries; missing ids are absent."""
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), _IDS_PER_QUERY):
            part = ids[start : start + _IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = (
                f"SELECT id, payload FROM results WHERE kind = ? AND id IN ({marks}) "
                "AND (ends_at IS NULL OR ends_at > ?)"
            )
            with self._using() as db:
                found.update(db.execute(query, (kind, *part, self._clock.now())).fetchall())
        return found

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Delete entries."""
        rows = [(kind, id) for id in ids]
        with self._using() as db, writing(db):
            db.executemany("DELETE FROM results WHERE kind = ? AND id = ?", rows)

    def subscribe(self, ids: Sequence[str]) -> _SqliteSubscription:
        """Ask to be told when one of these changes."""
        with self._using() as db:
            bell = self._bells.pop() if self._bells else Doorbell(self._path, CHANNEL)
            row = db.execute(_LAST).fetchone()
        return _SqliteSubscription(self, bell, frozenset(ids), row[0] if row is not None else 0)

    def changes_since(self, seq: int) -> tuple[int, set[str]]:
        """The newest change's number and the task ids changed after change number ``seq``."""
        with self._using() as db:
            rows = db.execute(_CHANGES, (seq,)).fetchall()
        return (max(rows)[0] if rows else seq), {row[1] for row in rows}

    def give_back(self, bell: Doorbell, pid: int) -> None:
        """Keep a doorbell for the next waiter: making one costs more than a whole round trip may."""
        with self._lock:
            if pid == self._pid == os.getpid() and not self._bells:
                self._bells.append(bell)
                return
        bell.close()

    def cleanup(self, now: float) -> int:
        """Delete what expired before ``now``; how many. In small steps, so that nobody waits long."""
        total = 0
        while True:
            with self._using() as db:
                gone = db.execute(_SWEEP, (now, _EXPIRED_PER_SWEEP)).rowcount
            total += gone
            if gone < _EXPIRED_PER_SWEEP:
                return total

    def close(self) -> None:
        """Close the file and the doorbells."""
        with self._lock:
            self._let_go(mine=self._pid == os.getpid())

    def _sweep_now_and_then(self, db: sqlite3.Connection, now: float) -> None:
        # A laptop runs no beat, so the file would grow for ever if only the daily clean-up cleaned.
        self._puts += 1
        if self._puts % _PUTS_PER_SWEEP == 0 or now - self._swept_at > _SWEEP_EVERY_S:
            self._swept_at = now
            db.execute(_SWEEP, (now, _EXPIRED_PER_SWEEP))

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._open() if self._pid != os.getpid() else self._connected()
            except sqlite3.Error as error:
                raise BackendUnavailable(f"result store {self._path}: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        return self._db if self._db is not None else self._open()

    def _open(self) -> sqlite3.Connection:
        # After a fork the parent's connection must not be used, nor closed: closing drops its locks.
        self._let_go(mine=False)
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
        except OSError as error:
            raise BackendUnavailable(f"result store {self._path}: {error}") from error
        db = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        _retry_while_locked(lambda: db.execute("PRAGMA journal_mode = WAL").fetchone())
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        db.execute("PRAGMA mmap_size = 67108864")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            _retry_while_locked(lambda: db.executescript(_SCHEMA))
        self._db = db
        self._ringer = Ringer(self._path)
        self._pid = os.getpid()
        return db

    def _let_go(self, *, mine: bool) -> None:
        db, ringer, bells = self._db, self._ringer, self._bells
        self._db, self._ringer, self._bells, self._pid = None, None, [], 0
        if not mine and db is not None:
            # Held, so that the collector does not close it either.
            self._of_parent = (*self._of_parent, db)
            return
        for bell in bells:
            bell.close()
        if ringer is not None:
            ringer.close()
        if db is not None:
            db.close()


class _SqliteSubscription(WaitScope):
    def __init__(self, backend: SqliteBackend, bell: Doorbell, ids: frozenset[str], seq: int) -> None:
        self._backend = backend
        self._bell: Doorbell | None = bell
        self._pid = os.getpid()
        self._ids = ids
        self._seq = seq

    def wait(self, timeout_s: float) -> set[str] | None:
        """Block until one of the ids was stored, by this or another process."""
        if self._bell is None:
            return None
        deadline = time.monotonic() + timeout_s
        fruitless = False
        while True:
            self._seq, changed = self._backend.changes_since(self._seq)
            news = changed & self._ids
            if news:
                return news
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            if fruitless:
                time.sleep(min(CALM_S, left_s))
            fruitless = self._bell.wait(min(NET_S, left_s))

    def close(self) -> None:
        """Stop being told."""
        bell, self._bell = self._bell, None
        if bell is not None:
            self._backend.give_back(bell, self._pid)


def _retry_while_locked(work: Callable[[], T]) -> T:
    """Run ``work`` again while another process changes the journal mode: the busy handler does not cover that."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def open_sqlite(url: str, settings: Settings) -> SqliteBackend:
    """Make the backend for ``sqlite:///absolute/path``.

    Raises: ConfigError when the URL names no file.
    """
    path = url.partition("://")[2].partition("?")[0]
    path = path[1:] if path.startswith("//") or not path.startswith("/") else path
    if not path.strip("/"):
        raise ConfigError(f"result_backend {url!r} names no file; write sqlite:////absolute/path/results.db")
    return SqliteBackend(os.path.abspath(path), synchronous=settings.broker_sqlite_synchronous)
