"""The search index of the PostgreSQL history: the writing side, used by the indexer's thread only.

Of several monitors one makes the index at a time; the others find the lock taken and look again later.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg

from opsq.errors import StoreUnavailable
from opsq.events import inverted
from opsq.events.indexer import Ripe, Small
from opsq.events.postgres_read import COLUMNS, Db, Names, connect
from opsq.events.postgres_schema import INDEX_LOCK
from opsq.masking import mask_url


class PostgresIndex:
    """An ``IndexSide`` on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._db: Db | None = None
        self._names = Names()
        self._closed = False
        self._mine = False

    @contextmanager
    def _used(self) -> Iterator[Db]:
        if self._closed:
            raise StoreUnavailable("this history is closed")
        if self._db is None or self._db.closed:
            self._db, self._mine = connect(self._url), False
        try:
            yield self._db
        except psycopg.Error as error:
            self._db.close()
            raise StoreUnavailable(f"the search index in {mask_url(self._url)} failed: {str(error).strip()}") from error

    def _may_index(self, db: Db) -> bool:
        if not self._mine:
            # Held as long as the connection lives, so that it passes on when this monitor dies.
            found = db.execute("SELECT pg_try_advisory_lock(%s)", (INDEX_LOCK,)).fetchone()
            self._mine = bool(found and found[0])
        return self._mine

    def ripe(self, stamped_before: int, ended: Sequence[str], stamped_long_before: int, limit: int) -> list[Ripe]:
        """Fresh rows that came to rest; none while another monitor makes the index."""
        columns = ", ".join(f"tasks.{name}" for name in COLUMNS.split(", "))
        sql = (
            f"SELECT stamp, again, {columns} FROM fresh JOIN tasks USING (key) "
            "WHERE (stamp < %s AND state = ANY(%s::integer[])) OR stamp < %s ORDER BY fresh.key LIMIT %s"
        )
        with self._used() as db:
            if not self._may_index(db):
                return []
            self._names.refresh(db)
            states = [self._names.numbers[name] for name in ended if name in self._names.numbers]
            values = (stamped_before, states, stamped_long_before, limit)
            found = db.execute(sql, values, binary=True).fetchall()
            self._names.refresh(db)
        return [Ripe(stamp, again, self._names.row(record), record[2:6]) for stamp, again, *record in found]

    def holding(self, keys: Sequence[int]) -> list[tuple[int, bytes, array[int]]]:
        """(id, dead positions, keys) of the segments that may know one of these rows."""
        sql = "SELECT id, dead, keys FROM segments WHERE high >= %s AND low <= %s"
        with self._used() as db:
            found = db.execute(sql, (min(keys), max(keys)), binary=True).fetchall()
        return [(id, dead, array("Q", data)) for id, dead, data in found]

    def add(self, segment: inverted.Segment, taken: Iterable[Ripe], dead: Sequence[tuple[int, bytes]]) -> None:
        """Keep a segment; the rows it took stop being fresh unless they changed meanwhile. One transaction."""
        with self._used() as db, db.transaction():
            self._keep(db, segment)
            for id, bits in dead:
                db.execute("UPDATE segments SET dead = %s WHERE id = %s", (bits, id))
            taken = list(taken)
            values = ([one.row.key for one in taken], [one.stamp for one in taken])
            db.execute(
                "DELETE FROM fresh USING unnest(%s::bigint[], %s::bigint[]) AS t (key, stamp) "
                "WHERE fresh.key = t.key AND fresh.stamp = t.stamp",
                values,
            )
            # A row that changed while the segment was made stays fresh, and this segment knows it from now on.
            db.execute("UPDATE fresh SET again = true WHERE key = ANY(%s::bigint[]) AND NOT again", values[:1])

    def _keep(self, db: Db, segment: inverted.Segment) -> None:
        row = db.execute(
            "INSERT INTO segments (docs, low, high, keys, dead) VALUES (%s,%s,%s,%s,%s) RETURNING id",
            (len(segment.keys), segment.low, segment.high, segment.keys.tobytes(), b""),
        ).fetchone()
        assert row is not None
        with db.cursor() as cursor, cursor.copy("COPY blocks FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "int8", "bytea"])
            for first, data in segment.blocks:
                copy.write_row((row[0], first, data))

    def small(self, docs: int, limit: int) -> list[Small]:
        """The oldest segments with fewer than so many tasks."""
        sql = "SELECT id, docs, dead, keys FROM segments WHERE docs < %s ORDER BY id LIMIT %s"
        with self._used() as db:
            if not self._may_index(db):
                return []
            found = db.execute(sql, (docs, limit), binary=True).fetchall()
        return [Small(id, n, dead, array("Q", keys)) for id, n, dead, keys in found]

    def blocks(self, segment: int) -> list[bytes]:
        """The blocks of a segment."""
        sql = "SELECT data FROM blocks WHERE segment = %s ORDER BY first"
        with self._used() as db:
            found = db.execute(sql, (segment,), binary=True).fetchall()
        return [data for (data,) in found]

    def replace(self, old: Sequence[int], new: inverted.Segment) -> None:
        """Put one segment in the place of several. One transaction."""
        with self._used() as db, db.transaction():
            db.execute("DELETE FROM blocks WHERE segment = ANY(%s::bigint[])", (list(old),))
            db.execute("DELETE FROM segments WHERE id = ANY(%s::bigint[])", (list(old),))
            if new.keys:
                self._keep(db, new)

    def tidy(self) -> None:
        """Nothing: the server does by itself what there is to do."""

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._closed = True
        if self._db is not None:
            self._db.close()
