"""A schedule in PostgreSQL, in the schema ``opsq_beat``: for beats on several machines, by the server's clock."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from opsq.core.schedules.store import Leader
from opsq.errors import StoreUnavailable
from opsq.masking import mask_url
from opsq.settings import Settings

_LOCK: Final = 0x6F707362
_SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS opsq_beat;
CREATE TABLE IF NOT EXISTS opsq_beat.rows (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE IF NOT EXISTS opsq_beat.lease (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), token bigint NOT NULL, holder text NOT NULL,
    until timestamptz NOT NULL
);
INSERT INTO opsq_beat.lease (token, holder, until) VALUES (0, '', '-infinity') ON CONFLICT DO NOTHING;
"""
_ACQUIRE: Final = (
    "UPDATE opsq_beat.lease SET token = token + 1, holder = %(holder)s, until = clock_timestamp() + %(ttl)s * interval"
    " '1 second' WHERE until <= clock_timestamp() OR holder = %(holder)s RETURNING token"
)
_RENEW: Final = (
    "UPDATE opsq_beat.lease SET until = clock_timestamp() + %s * interval '1 second'"
    " WHERE token = %s AND until > clock_timestamp() RETURNING token"
)


class PostgresStore:
    """url: postgresql://. Thread: any, one statement at a time; a forked child connects anew."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._db: psycopg.Connection[Any] | None = None
        self._of_parent: list[psycopg.Connection[Any]] = []
        self._pid = 0

    def acquire(self, holder: str, ttl_s: float) -> int | None:
        """Lead when nobody does, or when ``holder`` did already."""
        with self._using() as db:
            row = db.execute(_ACQUIRE, {"holder": holder, "ttl": ttl_s}).fetchone()
        return int(row[0]) if row is not None else None

    def renew(self, token: int, ttl_s: float) -> bool:
        """Put the end of the lease off."""
        with self._using() as db:
            return db.execute(_RENEW, (ttl_s, token)).fetchone() is not None

    def release(self, token: int) -> None:
        """End the lease now."""
        with self._using() as db:
            db.execute("UPDATE opsq_beat.lease SET until = '-infinity' WHERE token = %s", (token,))

    def leader(self) -> Leader | None:
        """Who leads."""
        with self._using() as db:
            row = db.execute(
                "SELECT holder, token, extract(epoch FROM until - clock_timestamp())::float8 FROM opsq_beat.lease"
                " WHERE until > clock_timestamp()"
            ).fetchone()
        return Leader(row[0], int(row[1]), float(row[2])) if row is not None else None

    def read(self) -> dict[str, bytes]:
        """All rows."""
        with self._using() as db:
            return {name: bytes(value) for name, value in db.execute("SELECT name, value FROM opsq_beat.rows")}

    def write(self, token: int, changes: Mapping[str, bytes | None]) -> bool:
        """Write in one transaction, which holds the lease's row: no leader changes meanwhile."""
        with self._using() as db, db.transaction(), db.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM opsq_beat.lease WHERE token = %s AND until > clock_timestamp() FOR UPDATE", (token,)
            )
            if cursor.fetchone() is None:
                return False
            for name, value in changes.items():
                if value is None:
                    cursor.execute("DELETE FROM opsq_beat.rows WHERE name = %s", (name,))
                else:
                    cursor.execute(
                        "INSERT INTO opsq_beat.rows VALUES (%s, %s)"
                        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                        (name, value),
                    )
        return True

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            db, self._db = self._db, None
            if db is not None and self._pid == os.getpid():
                db.close()

    @contextmanager
    def _using(self) -> Iterator[psycopg.Connection[Any]]:
        with self._lock:
            try:
                yield self._open()
            except (psycopg.Error, OSError) as error:
                self.close()
                raise StoreUnavailable(f"schedule in {mask_url(self._url)}: {error}") from error

    def _open(self) -> psycopg.Connection[Any]:
        if self._db is not None and self._pid == os.getpid():
            return self._db
        if self._db is not None:
            # The parent's: closing it here would end the parent's session.
            self._of_parent.append(self._db)
        db: psycopg.Connection[Any] = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=max(1, int(self._timeout_s)),
            options=f"-c statement_timeout={int(self._timeout_s * 1000)}",
        )
        with db.transaction():
            # Two that create the same schema at once would fail one another.
            db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            db.execute(_SCHEMA)
        self._db, self._pid = db, os.getpid()
        return db


def open_postgres(url: str, settings: Settings) -> PostgresStore:
    """Make the store for a PostgreSQL URL."""
    return PostgresStore(url, min(5.0, settings.beat_lease_seconds / 2))
