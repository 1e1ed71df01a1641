"""Standing orders in the broker's file, in a table that is made when the first one comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opsq.broker.sqlite.database import Database
from opsq.broker.standing import ORDERS_MAX, StandingOrder

# Beside the schema of ``schema.py`` and without a new version of it: who does not know the table leaves it alone.
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS standing_order (kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,"
    " until REAL, PRIMARY KEY (kind, name, value)) WITHOUT ROWID"
)
_THERE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'standing_order'"
_SURPLUS: Final = (
    "DELETE FROM standing_order WHERE (kind, name, value) IN (SELECT kind, name, value FROM standing_order"
    " ORDER BY until IS NULL, until LIMIT max(0, (SELECT count(*) FROM standing_order) - ?))"
)


class SqliteBook:
    """Source: ``opsq.broker.standing.Book``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders, in one transaction."""
        with self._db.transaction():
            self._db.execute(_TABLE)
            self._db.execute("DELETE FROM standing_order WHERE until <= ?", (now,))
            rows = [(each.kind, each.name, each.value, each.until) for each in orders]
            self._db.execute_many("INSERT OR REPLACE INTO standing_order VALUES (?, ?, ?, ?)", rows)
            self._db.execute(_SURPLUS, (ORDERS_MAX,))

    def lift(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders no longer."""
        if self._is_there():
            with self._db.transaction():
                rows = [each.key for each in orders]
                self._db.execute_many("DELETE FROM standing_order WHERE kind = ? AND name = ? AND value = ?", rows)

    def read(self, now: float) -> list[StandingOrder]:
        """Every order that holds at ``now``."""
        if not self._is_there():
            return []
        wanted = "SELECT kind, name, value, until FROM standing_order WHERE until IS NULL OR until > ?"
        return [StandingOrder(*row) for row in self._db.execute(wanted, (now,)).fetchall()]

    def _is_there(self) -> bool:
        return self._db.execute(_THERE).fetchone() is not None
