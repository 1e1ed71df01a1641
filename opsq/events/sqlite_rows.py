"""The rows of tasks in the SQLite history, as the writer writes them."""

from __future__ import annotations

import sqlite3
import time
from bisect import bisect_right
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from opsq.events.indexer import stamp_of
from opsq.events.rows import Cell, TaskRow
from opsq.events.sqlite_schema import id_hash

_NEW: Final = "INSERT INTO tasks VALUES (?,?,?,?,?,?,?,?,?)"
_CHANGED: Final = (
    f"{_NEW} ON CONFLICT (key) DO UPDATE SET state = excluded.state, type = excluded.type, queue = excluded.queue, "
    "worker = excluded.worker, root = excluded.root, evidence = excluded.evidence"
)
#: Of new rows: no segment of the search index knows them.
_NEW_FRESH: Final = "INSERT INTO fresh SELECT key, ?, 0 FROM tasks WHERE key > ?"
#: A row that is not fresh and exists is known to a segment, in a state that is now old.
_CHANGED_FRESH: Final = (
    "INSERT INTO fresh SELECT ?1, ?2, EXISTS (SELECT 1 FROM tasks WHERE key = ?1) WHERE true "
    "ON CONFLICT (key) DO UPDATE SET stamp = excluded.stamp"
)
_key_of: Final = attrgetter("key")


class TaskRows:
    """Writes rows of tasks, with numbers for their names. Inside a transaction of ``db``.

    greatest: no row was ever given a larger key. names: by number. Thread: the writer's.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        (self.greatest,) = db.execute("SELECT coalesce(max(key), -1) FROM tasks").fetchone()
        self._numbers: dict[str, int] = {name: id for id, name in db.execute("SELECT id, name FROM names")}
        self.names: dict[int, str] = {id: name for name, id in self._numbers.items()}
        self._stamp = 0

    def write(self, rows: Iterable[TaskRow]) -> None:
        """Write rows, new and changed ones, and note them for the search index."""
        # In the order of the table, or every row would find its page anew.
        ordered = sorted(rows, key=_key_of)
        if not ordered:
            return
        greatest = self.greatest
        # What is beyond all keys need not be looked for. Rows that come again after a rollback are not beyond any more.
        beyond = bisect_right(ordered, greatest, key=_key_of)
        self.greatest = max(greatest, ordered[-1].key)
        self._stamp = stamp = max(self._stamp + 1, stamp_of(time.time()))
        records = self._records(ordered)
        self._db.executemany(_CHANGED_FRESH, [(row.key, stamp) for row in ordered[:beyond]])
        self._db.executemany(_CHANGED, records[:beyond])
        self._db.executemany(_NEW, records[beyond:])
        self._db.execute(_NEW_FRESH, (stamp, greatest))

    def _records(self, rows: list[TaskRow]) -> list[tuple[object, ...]]:
        """Rows as they stand in the table."""
        cells = [row.cell for row in rows]
        numbered = self._numbered(set(cells))
        return [
            (
                row.key,
                id_hash(row.id),
                row.id,
                *numbered[cell],
                None if row.root is None else id_hash(row.root),
                row.evidence,
            )
            for row, cell in zip(rows, cells, strict=True)
        ]

    def _numbered(self, cells: Iterable[Cell]) -> dict[Cell, tuple[int | None, ...]]:
        """The numbers of the names in these cells; new names get one."""
        known = self._numbers
        for name in sorted({name for cell in cells for name in cell if name is not None and name not in known}):
            # Looked up too: after a rolled-back transaction the name may or may not be in the file.
            self._db.execute("INSERT INTO names (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            (id,) = self._db.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
            known[name] = id
            self.names[id] = name
        return {cell: tuple(None if name is None else known[name] for name in cell) for cell in cells}

    def forget_rolled_back(self) -> None:
        """Forget numbers that were given inside a transaction that did not come to its end."""
        stored = {name for (name,) in self._db.execute("SELECT name FROM names")}
        for name in [name for name in self._numbers if name not in stored]:
            self.names.pop(self._numbers.pop(name), None)
