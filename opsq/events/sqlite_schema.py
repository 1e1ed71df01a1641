"""The tables of the SQLite history and how older files are brought up to date.

A task's row key is its time (milliseconds) and some bits of its id, so the table is in time order, every index
ends in time order for nothing, and a time window is a key range. Names are stored once (``names``); rows hold
numbers. ``id_hash`` keeps the order of hexadecimal ids, so the start of an id is a range too.
"""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from typing import Final

from opsq.errors import StoreUnavailable

#: Version n brings a file from version n - 1; append only.
MIGRATIONS: Final = (
    """
    CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE tasks (
        key INTEGER PRIMARY KEY,
        id_hash INTEGER NOT NULL,
        id TEXT NOT NULL,
        state INTEGER NOT NULL,
        type INTEGER,
        queue INTEGER,
        worker INTEGER,
        root INTEGER,
        evidence BLOB NOT NULL
    );
    CREATE INDEX tasks_id ON tasks (id_hash);
    CREATE INDEX tasks_state ON tasks (state);
    CREATE INDEX tasks_type ON tasks (type);
    CREATE INDEX tasks_queue ON tasks (queue);
    CREATE INDEX tasks_worker ON tasks (worker);
    CREATE INDEX tasks_root ON tasks (root) WHERE root IS NOT NULL;
    CREATE TABLE cells (
        cell TEXT PRIMARY KEY,
        n INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE slices (
        width INTEGER NOT NULL,
        series TEXT NOT NULL,
        start INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (width, series, start)
    ) WITHOUT ROWID;
    CREATE INDEX slices_start ON slices (width, start);
    CREATE TABLE workers (name TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE ledger (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """,
    # The search index replaces the indexes of the four dimensions, which were rewritten with every event.
    """
    DROP INDEX tasks_state;
    DROP INDEX tasks_type;
    DROP INDEX tasks_queue;
    DROP INDEX tasks_worker;
    CREATE TABLE fresh (key INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, again INTEGER NOT NULL);
    INSERT INTO fresh SELECT key, 0, 0 FROM tasks;
    CREATE TABLE segments (
        id INTEGER PRIMARY KEY,
        docs INTEGER NOT NULL,
        low INTEGER NOT NULL,
        high INTEGER NOT NULL,
        keys BLOB NOT NULL,
        dead BLOB NOT NULL
    );
    CREATE TABLE blocks (
        segment INTEGER NOT NULL,
        first INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (segment, first)
    ) WITHOUT ROWID;
    CREATE TABLE audit (id INTEGER PRIMARY KEY, at REAL NOT NULL, record BLOB NOT NULL);
    CREATE INDEX audit_at ON audit (at);
    """,
    # What tasks logged stood in their rows, which grew with every line and kept them as long as the tasks.
    """
    CREATE TABLE logs (
        number INTEGER PRIMARY KEY,
        id_hash INTEGER NOT NULL,
        id TEXT NOT NULL,
        at REAL NOT NULL,
        digest INTEGER NOT NULL,
        record BLOB NOT NULL
    );
    CREATE UNIQUE INDEX logs_task ON logs (id_hash, at, digest);
    CREATE TABLE log_size (bytes INTEGER NOT NULL);
    INSERT INTO log_size VALUES (0);
    DELETE FROM slices WHERE width = 0 AND series >= 'c:' AND series < 'c;';
    """,
    # Decisions about slots.
    """
    CREATE TABLE decisions (
        grp TEXT NOT NULL,
        at REAL NOT NULL,
        source TEXT NOT NULL,
        changed INTEGER NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (grp, at, source)
    ) WITHOUT ROWID;
    CREATE INDEX decisions_at ON decisions (at);
    """,
    # Who acts, of several monitors.
    """
    CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
    """,
)
VERSION: Final = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the file's tables; 0 for a new file."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def refuse_newer(found: int, where: str) -> None:
    """Raise StoreUnavailable for tables from the future."""
    if found > VERSION:
        raise StoreUnavailable(
            f"{where} was written by a newer opsq (history version {found}, this one knows {VERSION}); "
            "upgrade opsq, or give this one another history"
        )


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the file to this version, one transaction a step. Raises StoreUnavailable for a file from the future."""
    found = version_of(connection)
    refuse_newer(found, path)
    for version in range(found + 1, VERSION + 1):
        statements = f"BEGIN IMMEDIATE; {MIGRATIONS[version - 1]}; PRAGMA user_version = {version}; COMMIT;"
        connection.executescript(statements)


_HEX_DIGITS: Final = 15


def id_hash(id: str) -> int:
    """A number for an id; ids that begin with the same hexadecimal digits have numbers side by side."""
    digits = id.replace("-", "")[:_HEX_DIGITS]
    if len(digits) == _HEX_DIGITS:
        try:
            return int(digits, 16)
        except ValueError:
            pass
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=7).digest())


def prefix_range(prefix: str) -> tuple[int, int] | None:
    """The numbers of ids that begin so, both ends included; ``None`` when the prefix is not hexadecimal."""
    digits = prefix.replace("-", "")[:_HEX_DIGITS]
    if not digits or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return None
    missing = 4 * (_HEX_DIGITS - len(digits))
    low = int(digits, 16) << missing
    return low, low + (1 << missing) - 1
