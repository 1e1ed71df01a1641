"""Chords counted in a SQL database: each step is one transaction that begins by locking the chord's row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from opsq.clock import Clock
from opsq.core.backends.per_process import PerProcess
from opsq.core.backends.sql_tables import Tables

T = TypeVar("T")

_LAST: Final = 9e18
_MOST_DUE: Final = 100
_TRIES: Final = 20
# PostgreSQL: serialization failure, deadlock. MySQL: deadlock, lock wait. SQLite by its words.
_CONFLICTS: Final = ("40001", "40P01", 1213, 1205, "database is locked", "database table is locked")
_NEW: Final[Mapping[str, Any]] = {"size": None, "more": 0, "came": 0, "claim_ends_at": 0.0, "done": False}


class SqlChords(Protocol):
    """The chords of a SQL backend, which has the engine, the tables and the clock. Thread: any."""

    _engine: PerProcess[sa.Engine]
    _tables: Tables
    _clock: Clock

    def _translated(self) -> AbstractContextManager[None]:
        """Errors of the database as BackendUnavailable."""
        ...

    def chord_open(self, group_id: str, size: int, ttl_s: float | None) -> None:
        """Say how many parts there are, and forget that it was done."""
        opened = {"size": size, "ends_at": self._ends_at(ttl_s), "token": None, "claim_ends_at": 0.0, "done": False}
        self._step(lambda db: self._change(db, group_id, opened))

    def chord_grow(self, group_id: str, more: int, ttl_s: float | None) -> None:
        """Add to the size."""
        chords = self._tables.chords.c

        def grow(db: sa.Connection) -> None:
            self._lock(db, group_id, ttl_s)
            self._change(db, group_id, {"more": chords.more + more})

        self._step(grow)

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
        parts, now = self._tables.parts, self._clock.now()
        row = {"group_id": group_id, "task_id": task_id, "place": _LAST if index is None else index, "payload": payload}
        here = (parts.c.group_id == group_id) & (parts.c.task_id == task_id)

        def keep(db: sa.Connection) -> bool:
            chord = self._lock(db, group_id, ttl_s)
            if chord["done"]:
                return False
            came = chord["came"]
            if db.execute(sa.select(parts.c.task_id).where(here)).first() is None:
                db.execute(parts.insert().values(row))
                came += 1
            held = chord["token"] not in (None, token) and chord["claim_ends_at"] > now
            complete = chord["size"] is not None and came >= chord["size"] + chord["more"]
            claim = {"token": token, "claim_ends_at": now + claim_s} if complete and not held else {}
            self._change(db, group_id, {"came": came, **claim})
            return bool(claim)

        return self._step(keep)

    def chord_hold(self, group_id: str, token: str, claim_s: float, body: bytes, ttl_s: float | None) -> bool:
        """Renew a claim and keep the body."""
        chords = self._tables.chords
        mine = (chords.c.group_id == group_id) & (chords.c.token == token) & ~chords.c.done
        until = self._clock.now() + claim_s
        return self._step(
            lambda db: db.execute(chords.update().where(mine).values(claim_ends_at=until, body=body)).rowcount > 0
        )

    def chord_parts(self, group_id: str) -> list[bytes]:
        """The parts, in order."""
        parts = self._tables.parts.c
        query = sa.select(parts.payload).where(parts.group_id == group_id).order_by(parts.place)
        return self._step(lambda db: [bytes(row[0]) for row in db.execute(query)])

    def chord_is_open(self, group_id: str) -> bool:
        """Whether it was announced and is not done."""
        chords = self._tables.chords.c
        here = (chords.group_id == group_id) & chords.size.is_not(None) & ~chords.done
        return self._step(lambda db: db.execute(sa.select(chords.group_id).where(here)).first() is not None)

    def chord_close(self, group_id: str, token: str, keep_s: float) -> None:
        """Mark it done, if it is ``token``'s."""
        chords, parts = self._tables.chords, self._tables.parts
        mine = (chords.c.group_id == group_id) & (chords.c.token == token)
        ended = {**_NEW, "done": True, "token": None, "body": None, "ends_at": self._clock.now() + keep_s}

        def close(db: sa.Connection) -> None:
            if db.execute(chords.update().where(mine).values(ended)).rowcount:
                db.execute(parts.delete().where(parts.c.group_id == group_id))

        self._step(close)

    def chord_due(self) -> list[tuple[str, bytes]]:
        """Chords whose claim has ended, and their bodies."""
        chords = self._tables.chords.c
        left = chords.token.is_not(None) & ~chords.done & (chords.claim_ends_at <= self._clock.now())
        query = sa.select(chords.group_id, chords.body).where(left & chords.body.is_not(None)).limit(_MOST_DUE)
        return self._step(lambda db: [(row[0], bytes(row[1])) for row in db.execute(query)])

    def chord_take(self, group_id: str, token: str, claim_s: float) -> bool:
        """Hold a chord whose claim has ended."""
        chords, now = self._tables.chords, self._clock.now()
        free = (chords.c.group_id == group_id) & ~chords.c.done & (chords.c.claim_ends_at <= now)
        claim = {"token": token, "claim_ends_at": now + claim_s}
        return self._step(lambda db: db.execute(chords.update().where(free).values(claim)).rowcount > 0)

    def chord_start(self, task_id: str, run: str, ttl_s: float | None) -> bool:
        """Note that ``run`` starts this task."""
        starts = self._tables.starts
        row = {"task_id": task_id, "run": run, "ends_at": self._ends_at(ttl_s)}

        def note(db: sa.Connection) -> bool:
            known = db.execute(sa.select(starts.c.run).where(starts.c.task_id == task_id)).scalar()
            if known is None:
                db.execute(starts.insert().values(row))
            return known in (None, run)

        return self._step(note)

    def _sweep_chords(self, now: float) -> None:
        """Forget the chords whose time is over."""
        chords, parts, starts = self._tables.chords, self._tables.parts, self._tables.starts
        over = sa.select(chords.c.group_id).where(chords.c.ends_at <= now)

        def forget(db: sa.Connection) -> None:
            db.execute(parts.delete().where(parts.c.group_id.in_(over)))
            db.execute(chords.delete().where(chords.c.ends_at <= now))
            db.execute(starts.delete().where(starts.c.ends_at <= now))

        self._step(forget)

    def _lock(self, db: sa.Connection, group_id: str, ttl_s: float | None) -> sa.RowMapping:
        """The chord's row, made when missing; nobody else changes it until the transaction ends."""
        chords = self._tables.chords
        here = chords.c.group_id == group_id
        if not db.execute(chords.update().where(here).values(group_id=group_id)).rowcount:
            db.execute(chords.insert().values({**_NEW, "group_id": group_id, "ends_at": self._ends_at(ttl_s)}))
        return db.execute(sa.select(chords).where(here)).mappings().one()

    def _change(self, db: sa.Connection, group_id: str, values: Mapping[str, Any]) -> None:
        chords = self._tables.chords
        if not db.execute(chords.update().where(chords.c.group_id == group_id).values(values)).rowcount:
            db.execute(chords.insert().values({**_NEW, **values, "group_id": group_id}))

    def _ends_at(self, ttl_s: float | None) -> float | None:
        return None if ttl_s is None else self._clock.now() + ttl_s

    def _step(self, work: Callable[[sa.Connection], T]) -> T:
        """One transaction; begun again when another that ran beside it made it impossible."""
        with self._translated():
            for left in reversed(range(_TRIES)):
                try:
                    with self._engine.get().begin() as db:
                        return work(db)
                except DBAPIError as error:
                    if not left or not _in_conflict(error):
                        raise
        raise AssertionError("the last try ends the loop")


def _in_conflict(error: DBAPIError) -> bool:
    """Whether the same transaction may work when it is run again."""
    cause: Any = error.orig
    code = getattr(cause, "sqlstate", None) or (cause.args[0] if cause is not None and cause.args else None)
    return isinstance(error, IntegrityError) or code in _CONFLICTS
