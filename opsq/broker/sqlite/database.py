"""One connection to the broker's file: opening, retrying while it is locked, transactions."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from opsq.broker.faults import BrokerUnusable
from opsq.broker.sqlite import schema
from opsq.broker.sqlite.faults import primary_code, translate

_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_OLDEST_SQLITE = (3, 33, 0)
# SQLite's own busy handler starts at 1 ms and grows to 100 ms; a commit here takes 20 µs, so
# waiting in smaller steps gets the lock sooner and more fairly.
_FIRST_WAIT_S = 0.0001
_LONGEST_WAIT_S = 0.005


class DatabaseOptions(Struct, frozen=True, kw_only=True):
    """synchronous: ``NORMAL`` survives a killed process, ``FULL`` also a power cut.

    busy_timeout_s: longest wait for another process's write. checkpoint_pages: pages of 4 KiB the
    log may grow to before they are moved into the file.
    """

    synchronous: str = "NORMAL"
    busy_timeout_s: float = 5.0
    checkpoint_pages: int = 4000


class Database:
    """The broker's file, opened and brought to the current schema.

    path: absolute. Thread: any, one at a time; never shared with a forked child.
    Raises: BrokerUnusable (damaged, newer, not ours, not writable), BrokerBusy, BrokerUnavailable.
    """

    def __init__(self, path: str, options: DatabaseOptions | None = None) -> None:
        self.path = path
        self.options = options or DatabaseOptions()
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise BrokerUnusable(
                f"SQLite {'.'.join(map(str, _OLDEST_SQLITE))} or newer is needed, found {sqlite3.sqlite_version}"
            )
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        except OSError as exc:
            raise BrokerUnusable(
                f"broker file {path}: its directory cannot be made ({exc}); choose another data_dir"
            ) from exc
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as exc:
            raise translate(exc, path) from exc
        try:
            self._prepare()
            self._inode = os.stat(path).st_ino
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        settings = (
            "PRAGMA journal_mode = WAL",
            f"PRAGMA synchronous = {self.options.synchronous}",
            f"PRAGMA wal_autocheckpoint = {self.options.checkpoint_pages}",
            "PRAGMA journal_size_limit = 67108864",
            "PRAGMA temp_store = MEMORY",
            "PRAGMA cache_size = -8000",
        )
        for setting in settings:
            self.execute(setting).fetchall()
        try:
            if schema.is_current(self._connection):
                return
            # Judged under the lock: another process may be creating the tables this very moment.
            with self.transaction():
                if schema.may_create(self._connection, self.path):
                    schema.create(self._connection)
        except sqlite3.Error as exc:
            raise translate(exc, self.path) from exc

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement, waiting while another process writes."""
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.Error as exc:
            if primary_code(exc) not in _LOCKED:
                raise self._failed(exc) from exc
        return self._again(sql, parameters)

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run one statement per row inside a transaction; return how many rows it changed."""
        try:
            return self._connection.executemany(sql, rows).rowcount
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def _again(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        deadline = time.monotonic() + self.options.busy_timeout_s
        wait_s = _FIRST_WAIT_S
        while True:
            time.sleep(wait_s * (0.5 + random.random()))
            try:
                return self._connection.execute(sql, parameters)
            except sqlite3.Error as exc:
                if primary_code(exc) not in _LOCKED or time.monotonic() >= deadline:
                    raise self._failed(exc) from exc
            wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the write lock for the block; commit at its end, roll back when it raises."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if not self._connection.in_transaction:  # SQLite rolls back by itself when the disk is full
            return
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc

    def _failed(self, exc: sqlite3.Error) -> Exception:
        return translate(exc, self.path)

    def check_file(self) -> None:
        """Make sure the file is still the one that was opened.

        Raises: BrokerUnusable when it was deleted or replaced: what is written now would be lost.
        """
        try:
            inode = os.stat(self.path).st_ino
        except FileNotFoundError:
            inode = -1
        if inode != self._inode:
            raise BrokerUnusable(
                f"broker file {self.path} was deleted or replaced while in use; restart every process that uses it"
            )

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._connection.close()
