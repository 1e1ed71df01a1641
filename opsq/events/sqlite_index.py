"""The search index of the SQLite history: the writing side, used by the indexer's thread only."""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from opsq.errors import StoreUnavailable
from opsq.events import inverted
from opsq.events.indexer import Ripe, Small
from opsq.events.sqlite_read import COLUMNS, Names, row_of


class SqliteIndex:
    """An ``IndexSide`` on a connection of its own. writing: held for as long as a transaction writes."""

    def __init__(self, path: Path, writing: threading.Lock) -> None:
        self._path = path
        self._writing = writing
        self._names = Names()
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA synchronous = NORMAL")

    def ripe(self, stamped_before: int, ended: Sequence[str], stamped_long_before: int, limit: int) -> list[Ripe]:
        """Fresh rows that came to rest: ended and quiet since the first stamp, or quiet since the second."""
        try:
            self._names.refresh(self._db)
            numbers = self._names.numbers
            states = [numbers[name] for name in ended if name in numbers]
            marks = ",".join("?" * len(states))
            columns = ", ".join(f"tasks.{name}" for name in COLUMNS.split(", "))
            sql = (
                f"SELECT stamp, again, {columns} FROM fresh JOIN tasks USING (key) "
                f"WHERE (stamp < ? AND state IN ({marks})) OR stamp < ? ORDER BY fresh.key LIMIT ?"
            )
            values = (stamped_before, *states, stamped_long_before, limit)
            return [
                Ripe(stamp, bool(again), row_of(record, self._names.names), record[2:6])
                for stamp, again, *record in self._db.execute(sql, values).fetchall()
            ]
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the search index of {self._path} cannot be read: {error}") from error

    def holding(self, keys: Sequence[int]) -> list[tuple[int, bytes, array[int]]]:
        """(id, dead positions, keys) of the segments that may know one of these rows."""
        low, high = min(keys), max(keys)
        sql = "SELECT id, dead, keys FROM segments WHERE high >= ? AND low <= ?"
        return [(id, dead, array("Q", data)) for id, dead, data in self._db.execute(sql, (low, high)).fetchall()]

    def add(self, segment: inverted.Segment, taken: Iterable[Ripe], dead: Sequence[tuple[int, bytes]]) -> None:
        """Keep a segment; the rows it took stop being fresh unless they changed meanwhile. One transaction."""
        with self._writing:
            self._whole(lambda: self._add(segment, taken, dead))

    def _add(self, segment: inverted.Segment, taken: Iterable[Ripe], dead: Sequence[tuple[int, bytes]]) -> None:
        self._keep(segment)
        self._db.executemany("UPDATE segments SET dead = ? WHERE id = ?", [(bits, id) for id, bits in dead])
        taken = list(taken)
        self._db.executemany(
            "DELETE FROM fresh WHERE key = ? AND stamp = ?", [(one.row.key, one.stamp) for one in taken]
        )
        # A row that changed while the segment was made stays fresh, and this segment knows it from now on.
        self._db.executemany("UPDATE fresh SET again = 1 WHERE key = ?", [(one.row.key,) for one in taken])

    def _keep(self, segment: inverted.Segment) -> None:
        cursor = self._db.execute(
            "INSERT INTO segments (docs, low, high, keys, dead) VALUES (?,?,?,?,?)",
            (len(segment.keys), segment.low, segment.high, segment.keys.tobytes(), b""),
        )
        id = cursor.lastrowid
        self._db.executemany("INSERT INTO blocks VALUES (?,?,?)", [(id, first, data) for first, data in segment.blocks])

    def small(self, docs: int, limit: int) -> list[Small]:
        """The oldest segments with fewer than so many tasks."""
        sql = "SELECT id, docs, dead, keys FROM segments WHERE docs < ? ORDER BY id LIMIT ?"
        return [Small(id, n, dead, array("Q", keys)) for id, n, dead, keys in self._db.execute(sql, (docs, limit))]

    def blocks(self, segment: int) -> list[bytes]:
        """The blocks of a segment."""
        sql = "SELECT data FROM blocks WHERE segment = ? ORDER BY first"
        return [data for (data,) in self._db.execute(sql, (segment,))]

    def replace(self, old: Sequence[int], new: inverted.Segment) -> None:
        """Put one segment in the place of several. One transaction."""

        def act() -> None:
            for id in old:
                self._db.execute("DELETE FROM blocks WHERE segment = ?", (id,))
                self._db.execute("DELETE FROM segments WHERE id = ?", (id,))
            if new.keys:
                self._keep(new)

        with self._writing:
            self._whole(act)

    def _whole(self, act: object) -> None:
        assert callable(act)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                act()
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the search index of {self._path} cannot be written: {error}") from error

    def tidy(self) -> None:
        """Copy what was written from the log into the file, so that the writer hardly ever has to."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the log of {self._path} cannot be copied: {error}") from error

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._db.close()
