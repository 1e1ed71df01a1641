"""Standing orders in a SQL broker: one table beside kombu's."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from opsq.broker.sql.tables import Tables
from opsq.broker.standing import ORDERS_MAX, StandingOrder, from_key_text, key_text


class SqlBook:
    """Source: ``opsq.broker.standing.Book``. engine: of the connection; tables: its tables, which exist."""

    def __init__(self, engine: Any, tables: Tables) -> None:
        self._engine = engine
        self._table = tables.standing

    def add(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders, in one transaction."""
        rows = [
            {"digest": _digest(each), "order_key": key_text(each).decode(), "until": each.until}
            for each in {each.key: each for each in orders}.values()
        ]
        for last in (False, True):
            try:
                with self._engine.begin() as db:
                    self._forget(db, rows, now)
                    db.execute(sa.insert(self._table), rows)
            except sa.exc.IntegrityError:
                if last:
                    raise  # not once more somebody else who gave one of these orders at the same time
            else:
                return

    def lift(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders no longer."""
        with self._engine.begin() as db:
            db.execute(sa.delete(self._table).where(self._table.c.digest.in_([_digest(each) for each in orders])))

    def read(self, now: float) -> list[StandingOrder]:
        """Every order that holds at ``now``."""
        until = self._table.c.until
        wanted = sa.select(self._table.c.order_key, until).where(sa.or_(until.is_(None), until > now))
        with self._engine.connect() as db:
            found = [from_key_text(text, ends_at) for text, ends_at in db.execute(wanted)]
        return [each for each in found if each is not None]

    def _forget(self, db: Any, replaced: Sequence[dict[str, Any]], now: float) -> None:
        """Delete what is replaced, what has ended, and what is too much."""
        digest, until = self._table.c.digest, self._table.c.until
        db.execute(sa.delete(self._table).where(digest.in_([row["digest"] for row in replaced])))
        db.execute(sa.delete(self._table).where(until <= now))
        count = db.execute(sa.select(sa.func.count()).select_from(self._table)).scalar_one()
        surplus = count + len(replaced) - ORDERS_MAX
        if surplus > 0:
            soonest = sa.select(digest).order_by(until.is_(None), until).limit(surplus)
            db.execute(sa.delete(self._table).where(digest.in_(db.execute(soonest).scalars().all())))


def _digest(order: StandingOrder) -> str:
    """What stands for the key: a primary key of MySQL has no room for an id of any length."""
    return sha256(key_text(order)).hexdigest()
