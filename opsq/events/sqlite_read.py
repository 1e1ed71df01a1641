"""Reading the SQLite history: a read-only connection per thread, queries that follow an index and stop early."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any, Final

from opsq.errors import StoreUnavailable
from opsq.events.sqlite_schema import id_hash, prefix_range
from opsq.events.store import Choice, TaskRow, Where

COLUMNS: Final = "key, id, state, type, queue, worker, root, evidence"
_MISSING: Final = -1


def row_of(record: tuple[Any, ...], names: dict[int, str]) -> TaskRow:
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


class Reader:
    """The reading half of ``SqliteStore``. Thread: any."""

    def __init__(self, path: Path, numbers: dict[str, int], names: dict[int, str]) -> None:
        self._path = path
        self._numbers = numbers
        self._names = names
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []
        self._closed = False

    def _connection(self) -> sqlite3.Connection:
        known: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if known is not None:
            return known
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"history in {self._path} is closed")
            made = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            made.execute("PRAGMA query_only = ON")
            made.execute("PRAGMA mmap_size = 268435456")
            self._open.append(made)
        self._local.connection = made
        return made

    def _all(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"history in {self._path} cannot be read: {error}") from error

    def task(self, id: str) -> TaskRow | None:
        """One row."""
        sql = f"SELECT {COLUMNS} FROM tasks WHERE id_hash = ? AND id = ?"
        found = self._all(sql, (id_hash(id), id))
        return row_of(found[0], self._names) if found else None

    def tasks(self, where: Where, limit: int) -> list[TaskRow]:
        """The newest ``limit`` rows that fit, newest first."""
        conditions, values = self._conditions(where)
        sql = f"SELECT {COLUMNS} FROM tasks WHERE {' AND '.join(conditions) or '1'} ORDER BY key DESC LIMIT ?"
        return [row_of(record, self._names) for record in self._all(sql, (*values, limit))]

    def _conditions(self, where: Where) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        if where.since is not None:
            conditions.append("key >= ?")
            values.append(where.since)
        if where.before is not None:
            conditions.append("key < ?")
            values.append(where.before)
        if where.id_prefix:
            numbers = prefix_range(where.id_prefix)
            if numbers is not None:
                # The range may be large: only a long prefix is rare enough to lead.
                lead = "" if len(where.id_prefix) >= 5 else "+"
                conditions.append(f"{lead}id_hash BETWEEN ? AND ?")
                values += numbers
            conditions.append("substr(id, 1, ?) = ?")
            values += (len(where.id_prefix), where.id_prefix)
        for position, (name, choice) in enumerate(where.choices.items()):
            # The first named dimension leads by its index, the others only filter: SQLite would sort otherwise.
            column = name if position == 0 and not where.id_prefix else f"+{name}"
            self._choose(column, choice, conditions, values)
        return conditions, values

    def _choose(self, column: str, choice: Choice, conditions: list[str], values: list[Any]) -> None:
        if choice.include is not None:
            numbers = [self._number(name) for name in choice.include if name is not None]
            parts = []
            if len(numbers) == 1:
                parts.append(f"{column} = ?")
            elif numbers:
                parts.append(f"+{column.lstrip('+')} IN ({','.join('?' * len(numbers))})")
            if None in choice.include:
                parts.append(f"{column} IS NULL")
            conditions.append(f"({' OR '.join(parts) or '0'})")
            values += numbers
        for name in choice.exclude:
            bare = column.lstrip("+")
            if name is None:
                conditions.append(f"+{bare} IS NOT NULL")
            else:
                conditions.append(f"(+{bare} IS NOT ?)")
                values.append(self._number(name))

    def _number(self, name: str) -> int:
        return self._numbers.get(name, _MISSING)

    def relatives(self, root: str, limit: int) -> list[TaskRow]:
        """The newest rows of a workflow but its root, newest first."""
        sql = f"SELECT {COLUMNS} FROM tasks WHERE root = ? ORDER BY key DESC LIMIT ?"
        return [row_of(record, self._names) for record in self._all(sql, (id_hash(root), limit))]

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        """(start, series, slice) of a time range, oldest first."""
        if series is not None:
            sql = (
                "SELECT start, series, data FROM slices WHERE width = ? AND series = ? AND start >= ? AND start < ? "
                "ORDER BY start"
            )
            return self._all(sql, (width_s, series, since, until))
        sql = (
            "SELECT start, series, data FROM slices INDEXED BY slices_start WHERE width = ? AND start >= ? "
            "AND start < ? AND series >= ? AND series < ? ORDER BY start, series"
        )
        last = prefix + "\U0010ffff"
        return self._all(sql, (width_s, since, until, prefix, last))

    def size_bytes(self) -> int:
        """The room in use: pages of the file that hold something."""
        ((pages,),) = self._all("PRAGMA page_count")
        ((free,),) = self._all("PRAGMA freelist_count")
        ((size,),) = self._all("PRAGMA page_size")
        return int((pages - free) * size)

    def close(self) -> None:
        """Close every connection; may be called twice."""
        with self._lock:
            self._closed = True
            for connection in self._open:
                connection.close()
            self._open.clear()
