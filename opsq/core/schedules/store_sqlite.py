"""A schedule in a SQLite file: for beats on one machine."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import unquote

from opsq.core.schedules.store import Leader
from opsq.core.sqlite_writing import writing
from opsq.errors import ConfigError, StoreUnavailable
from opsq.settings import Settings

BUSY_S: Final = 5.0
_VERSION: Final = 1
_APPLICATION: Final = 0x6F707362  # "opsb"
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS rows (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS lease (one INTEGER PRIMARY KEY CHECK (one = 1), token INTEGER NOT NULL,"
    " holder TEXT NOT NULL, until REAL NOT NULL)",
    "INSERT OR IGNORE INTO lease VALUES (1, 0, '', 0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


class SqliteStore:
    """path: absolute; its folder is made when missing. now: epoch seconds, the same for all on the machine.

    synchronous: NORMAL survives a killed process, FULL a power cut too: without it the last ticks may be sent again
    then, under the same ids.
    Thread: any; a forked child opens the file anew.
    """

    def __init__(self, path: str, now: Callable[[], float] = time.time, synchronous: str = "NORMAL") -> None:
        self._path = path
        self._synchronous = synchronous
        self._now = now
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._of_parent: list[sqlite3.Connection] = []
        self._pid = 0

    def acquire(self, holder: str, ttl_s: float) -> int | None:
        """Lead when nobody does, or when ``holder`` did already."""
        now = self._now()
        with self._using() as db:
            # Without the lock first: beats that wait must not be in the way of the one that writes.
            _, leads, until = db.execute("SELECT token, holder, until FROM lease").fetchone()
        if until > now and leads != holder:
            return None
        with self._writing() as db:
            token, leads, until = db.execute("SELECT token, holder, until FROM lease").fetchone()
            if until > now and leads != holder:
                return None
            db.execute("UPDATE lease SET token = ?, holder = ?, until = ?", (token + 1, holder, now + ttl_s))
        return int(token) + 1

    def renew(self, token: int, ttl_s: float) -> bool:
        """Put the end of the lease off."""
        now = self._now()
        with self._writing() as db:
            changed = db.execute(
                "UPDATE lease SET until = ? WHERE token = ? AND until > ?", (now + ttl_s, token, now)
            ).rowcount
        return changed > 0

    def release(self, token: int) -> None:
        """End the lease now."""
        with self._writing() as db:
            db.execute("UPDATE lease SET until = 0 WHERE token = ?", (token,))

    def leader(self) -> Leader | None:
        """Who leads."""
        with self._using() as db:
            token, holder, until = db.execute("SELECT token, holder, until FROM lease").fetchone()
        left_s = until - self._now()
        return Leader(holder, int(token), left_s) if left_s > 0 else None

    def read(self) -> dict[str, bytes]:
        """All rows."""
        with self._using() as db:
            return dict(db.execute("SELECT name, value FROM rows").fetchall())

    def write(self, token: int, changes: Mapping[str, bytes | None]) -> bool:
        """Write in one transaction."""
        with self._writing() as db:
            if db.execute("SELECT 1 FROM lease WHERE token = ? AND until > ?", (token, self._now())).fetchone() is None:
                return False
            puts = [(name, value) for name, value in changes.items() if value is not None]
            db.executemany(
                "INSERT INTO rows VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", puts
            )
            db.executemany(
                "DELETE FROM rows WHERE name = ?", [(name,) for name, value in changes.items() if value is None]
            )
        return True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None and self._pid == os.getpid():
                db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as db, writing(db):
            yield db

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._open()
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable(f"schedule file {self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._db is not None and self._pid == os.getpid():
            return self._db
        if self._db is not None:
            # The parent's: closing it here would drop the parent's locks.
            self._of_parent.append(self._db)
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._db, self._pid = db, os.getpid()
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            raise ConfigError(f"schedule file {self._path} is a database of something else; name another file")
        if version > _VERSION:
            raise ConfigError(f"schedule file {self._path} was written by a newer opsq; upgrade opsq")
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        if version == _VERSION and tables:
            return
        with writing(db):
            for statement in _SCHEMA:
                db.execute(statement)


def open_sqlite(url: str, settings: Settings) -> SqliteStore:
    """Make the store for ``sqlite:////absolute/path``. Raises: ConfigError when the URL names no file."""
    path = unquote(url.partition("://")[2].partition("?")[0])
    path = path[1:] if path.startswith("//") else path
    if not path.strip("/"):
        raise ConfigError(f"beat_store_url {url!r} names no file; write sqlite:////absolute/path/beat.db")
    return SqliteStore(os.path.abspath(path), synchronous=settings.broker_sqlite_synchronous)
