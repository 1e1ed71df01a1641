"""The tables of the PostgreSQL history, in the schema ``opsq``, and how older ones are brought up to date.

As in the SQLite history a row's key is its time and some bits of its id, names are stored once, and the search index
is tables of segments. ``state.epoch`` grows with every write: a monitor that finds it changed is not alone.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from opsq.errors import StoreUnavailable

SCHEMA: Final = "opsq"
#: Held by whoever changes tables or history, so that monitors write one after the other.
WRITE_LOCK: Final = 0x6F707371
INDEX_LOCK: Final = WRITE_LOCK + 1
#: Version n brings the tables from version n - 1; append only.
MIGRATIONS: Final = (
    """
    CREATE TABLE names (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE);
    CREATE TABLE tasks (
        key bigint PRIMARY KEY,
        id text COLLATE "C" NOT NULL UNIQUE,
        state integer NOT NULL,
        type integer,
        queue integer,
        worker integer,
        root text COLLATE "C",
        evidence bytea NOT NULL
    );
    CREATE INDEX tasks_root ON tasks (root) WHERE root IS NOT NULL;
    CREATE TABLE cells (cell text COLLATE "C" PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
    CREATE TABLE slices (
        width integer NOT NULL,
        series text COLLATE "C" NOT NULL,
        start bigint NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (width, series, start)
    ) WITH (fillfactor = 50);
    CREATE INDEX slices_start ON slices (width, start);
    CREATE TABLE workers (name text COLLATE "C" PRIMARY KEY, record bytea NOT NULL);
    CREATE TABLE ledger (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);
    CREATE TABLE fresh (key bigint PRIMARY KEY, stamp bigint NOT NULL, again boolean NOT NULL);
    CREATE TABLE segments (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        docs integer NOT NULL,
        low bigint NOT NULL,
        high bigint NOT NULL,
        keys bytea NOT NULL,
        dead bytea NOT NULL
    );
    CREATE TABLE blocks (
        segment bigint NOT NULL,
        first bigint NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (segment, first)
    );
    ALTER TABLE segments ALTER COLUMN keys SET STORAGE EXTERNAL;
    ALTER TABLE blocks ALTER COLUMN data SET STORAGE EXTERNAL;
    CREATE TABLE audit (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at double precision NOT NULL, record bytea NOT NULL
    );
    CREATE INDEX audit_at ON audit (at);
    CREATE TABLE state (one boolean PRIMARY KEY DEFAULT true CHECK (one), epoch bigint NOT NULL);
    INSERT INTO state (epoch) VALUES (0);
    """,
    # What tasks logged stood in their rows, which grew with every line and kept them as long as the tasks.
    """
    CREATE TABLE logs (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text COLLATE "C" NOT NULL,
        at double precision NOT NULL,
        digest bigint NOT NULL,
        record bytea NOT NULL,
        UNIQUE (id, at, digest)
    );
    CREATE TABLE log_size (bytes bigint NOT NULL);
    INSERT INTO log_size VALUES (0);
    DELETE FROM slices WHERE width = 0 AND series >= 'c:' AND series < 'c;';
    """,
    # Decisions about slots.
    """
    CREATE TABLE decisions (
        grp text COLLATE "C" NOT NULL,
        at double precision NOT NULL,
        source text COLLATE "C" NOT NULL,
        changed boolean NOT NULL,
        record bytea NOT NULL,
        PRIMARY KEY (grp, at, source)
    );
    CREATE INDEX decisions_at ON decisions (at);
    """,
    # Who acts, of several monitors.
    """
    CREATE TABLE leases (name text PRIMARY KEY, holder text NOT NULL, until double precision NOT NULL);
    """,
)
VERSION: Final = len(MIGRATIONS)


def version_of(db: psycopg.Connection[Any]) -> int:
    """The version of the tables; 0 where there are none."""
    found = db.execute("SELECT to_regclass('opsq.version')").fetchone()
    if found is None or found[0] is None:
        return 0
    row = db.execute("SELECT number FROM opsq.version").fetchone()
    return int(row[0]) if row else 0


def refuse_newer(found: int, where: str) -> None:
    """Raise StoreUnavailable for tables from the future."""
    if found > VERSION:
        raise StoreUnavailable(
            f"{where} was written by a newer opsq (history version {found}, this one knows {VERSION}); "
            "upgrade opsq, or give this one another history"
        )


def migrate(db: psycopg.Connection[Any], where: str) -> None:
    """Bring the tables to this version, all in one transaction. Raises StoreUnavailable for newer ones."""
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
        found = version_of(db)
        refuse_newer(found, where)
        if found == VERSION:
            return
        if not found:
            db.execute("CREATE SCHEMA IF NOT EXISTS opsq")
            db.execute("CREATE TABLE opsq.version (number integer NOT NULL)")
            db.execute("INSERT INTO opsq.version VALUES (0)")
        db.execute("SET LOCAL search_path = opsq")
        for number in range(found + 1, VERSION + 1):
            db.execute(MIGRATIONS[number - 1])
            db.execute("UPDATE version SET number = %s", (number,))


_NUL: Final = "\x00"


def plain(text: str) -> str:
    """Text as PostgreSQL can hold it: no NUL, no half of a surrogate pair."""
    if _NUL in text:
        text = text.replace(_NUL, "\u2400")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
