"""Writing to a SQLite file in one step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def writing(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Hold the write lock for the block; commit at its end, undo everything when it raises.

    Raises: sqlite3.Error, that of the block as it was.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite has undone it by itself when the disk is full
            db.execute("ROLLBACK")
        raise
