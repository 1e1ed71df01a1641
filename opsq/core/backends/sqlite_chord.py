"""Chords counted in a SQLite file, each step one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from opsq.clock import Clock
from opsq.core.sqlite_writing import writing

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS chords (
    group_id TEXT PRIMARY KEY,
    size INTEGER,
    more INTEGER NOT NULL DEFAULT 0,
    token TEXT,
    claim_ends_at REAL NOT NULL DEFAULT 0,
    body BLOB,
    done INTEGER NOT NULL DEFAULT 0,
    ends_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chord_parts (
    group_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    place REAL NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (group_id, task_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chord_starts (task_id TEXT PRIMARY KEY, run TEXT NOT NULL, ends_at REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chords_claims ON chords (claim_ends_at) WHERE token IS NOT NULL AND done = 0;
CREATE INDEX IF NOT EXISTS chords_ends_at ON chords (ends_at);
"""
_LAST: Final = 9e18
_STATE: Final = "SELECT size + more, token, claim_ends_at, done FROM chords WHERE group_id = ?"


class SqliteChords(Protocol):
    """The chords of a SQLite backend, which has the clock and the connection. Thread: any."""

    _clock: Clock
    _chords_made_for: sqlite3.Connection | None = None

    def _using(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection, its errors translated."""
        ...

    def chord_open(self, group_id: str, size: int, ttl_s: float | None) -> None:
        """Say how many parts there are, and forget that it was done."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO chords (group_id, size, ends_at) VALUES (?1, ?2, ?3) ON CONFLICT (group_id) DO UPDATE "
                "SET size = ?2, ends_at = ?3, token = NULL, claim_ends_at = 0, done = 0",
                (group_id, size, self._ends_at(ttl_s)),
            )

    def chord_grow(self, group_id: str, more: int, ttl_s: float | None) -> None:
        """Add to the size."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO chords (group_id, more, ends_at) VALUES (?1, ?2, ?3) "
                "ON CONFLICT (group_id) DO UPDATE SET more = more + ?2",
                (group_id, more, self._ends_at(ttl_s)),
            )

    def chord_part(
        self,
        group_id: str,
        task_id: str,
        index: int | None,
        payload: bytes,
        token: str,
        claim_s: float,
        ttl_s: float | None,
    ) -> bool:
        """Keep a part; true when all are there and the chord is ``token``'s."""
        now = self._clock.now()
        with self._writing() as db:
            row = db.execute(_STATE, (group_id,)).fetchone()
            if row is None:
                db.execute("INSERT INTO chords (group_id, ends_at) VALUES (?, ?)", (group_id, self._ends_at(ttl_s)))
                row = (None, None, 0.0, 0)
            size, holder, claim_ends_at, done = row
            if done:
                return False
            place = _LAST if index is None else index
            db.execute("INSERT OR IGNORE INTO chord_parts VALUES (?, ?, ?, ?)", (group_id, task_id, place, payload))
            (count,) = db.execute("SELECT count(*) FROM chord_parts WHERE group_id = ?", (group_id,)).fetchone()
            if size is None or count < size or (holder not in (None, token) and claim_ends_at > now):
                return False
            self._claim(db, group_id, token, now + claim_s)
            return True

    def chord_hold(self, group_id: str, token: str, claim_s: float, body: bytes, ttl_s: float | None) -> bool:
        """Renew a claim and keep the body."""
        with self._writing() as db:
            row = db.execute(_STATE, (group_id,)).fetchone()
            if row is None or row[1] != token or row[3]:
                return False
            self._claim(db, group_id, token, self._clock.now() + claim_s)
            db.execute("UPDATE chords SET body = ? WHERE group_id = ?", (body, group_id))
            return True

    def chord_parts(self, group_id: str) -> list[bytes]:
        """The parts, in order."""
        with self._writing() as db:
            rows = db.execute("SELECT payload FROM chord_parts WHERE group_id = ? ORDER BY place", (group_id,))
            return [row[0] for row in rows]

    def chord_is_open(self, group_id: str) -> bool:
        """Whether it was announced and is not done."""
        with self._writing() as db:
            row = db.execute(_STATE, (group_id,)).fetchone()
        return row is not None and row[0] is not None and not row[3]

    def chord_close(self, group_id: str, token: str, keep_s: float) -> None:
        """Mark it done, if it is ``token``'s."""
        with self._writing() as db:
            done = db.execute(
                "UPDATE chords SET done = 1, body = NULL, token = NULL, size = NULL, more = 0, ends_at = ? "
                "WHERE group_id = ? AND token = ?",
                (self._clock.now() + keep_s, group_id, token),
            )
            if done.rowcount:
                db.execute("DELETE FROM chord_parts WHERE group_id = ?", (group_id,))

    def chord_due(self) -> list[tuple[str, bytes]]:
        """Chords whose claim has ended, and their bodies. Forgets chords whose time is over."""
        now = self._clock.now()
        with self._writing() as db:
            over = "(SELECT group_id FROM chords WHERE ends_at <= ?)"
            db.execute(f"DELETE FROM chord_parts WHERE group_id IN {over}", (now,))
            db.execute("DELETE FROM chords WHERE ends_at <= ?", (now,))
            db.execute("DELETE FROM chord_starts WHERE ends_at <= ?", (now,))
            rows = db.execute(
                "SELECT group_id, body FROM chords WHERE token IS NOT NULL AND done = 0 AND claim_ends_at <= ? "
                "AND body IS NOT NULL LIMIT 100",
                (now,),
            )
            return [(row[0], row[1]) for row in rows]

    def chord_take(self, group_id: str, token: str, claim_s: float) -> bool:
        """Hold a chord whose claim has ended."""
        now = self._clock.now()
        with self._writing() as db:
            row = db.execute(_STATE, (group_id,)).fetchone()
            if row is None or row[3] or row[2] > now:
                return False
            self._claim(db, group_id, token, now + claim_s)
            return True

    def chord_start(self, task_id: str, run: str, ttl_s: float | None) -> bool:
        """Note that ``run`` starts this task."""
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO chord_starts VALUES (?, ?, ?)", (task_id, run, self._ends_at(ttl_s)))
            row = db.execute("SELECT run FROM chord_starts WHERE task_id = ?", (task_id,)).fetchone()
        return bool(row[0] == run)

    def _claim(self, db: sqlite3.Connection, group_id: str, token: str, until: float) -> None:
        db.execute("UPDATE chords SET token = ?, claim_ends_at = ? WHERE group_id = ?", (token, until, group_id))

    def _ends_at(self, ttl_s: float | None) -> float | None:
        return None if ttl_s is None else self._clock.now() + ttl_s

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as db:
            if self._chords_made_for is not db:
                db.executescript(_SCHEMA)
                self._chords_made_for = db
            with writing(db):
                yield db
