"""The tables of a SQL broker: kombu's two, and three of ours beside them.

kombu marks a message as taken by ``visible = false`` and never looks at it again: with a killed
worker it is gone. Ours say who holds a message and until when, and which queue listens where, so that
what was held comes back, and events and remote control reach other processes; and the standing orders.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGTEXT

LEASED_DIALECTS = frozenset({"postgresql", "mysql", "mariadb"})
"""Databases with ``SKIP LOCKED``; on others kombu's own way is all there is."""
_NAME = 200
_LATER: Any = sa.Text().with_variant(LONGTEXT(), "mysql", "mariadb")


class Tables:
    """The tables of one broker. queue, message: kombu's mapped classes. Thread: any."""

    def __init__(self, queue: Any, message: Any, dialect: str) -> None:
        self.queue: Any = queue.__table__
        self.message: Any = message.__table__
        # Where kombu says Text, MySQL holds no more than 64 KiB.
        self.message.c.payload.type = _LATER
        self.kombu_metadata: Any = self.message.metadata
        self.metadata: Any = sa.MetaData()
        self.lease: Any = sa.Table(
            f"{self.message.name}_lease",
            self.metadata,
            sa.Column("message_id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("holder", sa.String(_NAME), nullable=False, index=True),
            sa.Column("until", sa.Double, nullable=False),
        )
        self.binding: Any = sa.Table(
            f"{self.queue.name}_binding",
            self.metadata,
            sa.Column("exchange", sa.String(_NAME), primary_key=True),
            sa.Column("routing_key", sa.String(_NAME), primary_key=True),
            sa.Column("queue", sa.String(_NAME), primary_key=True),
            sa.Column("type", sa.String(20), nullable=False),
            sa.Column("pattern", sa.String(400), nullable=False),
            # For queues that go with their reader: how long they last, and until when it was seen.
            sa.Column("expires_s", sa.Double),
            sa.Column("until", sa.Double),
        )
        self.standing: Any = sa.Table(
            f"{self.queue.name}_standing",
            self.metadata,
            sa.Column("digest", sa.String(64), primary_key=True),
            sa.Column("order_key", _LATER, nullable=False),
            sa.Column("until", sa.Double, index=True),
        )
        self.now: Any = _now(dialect)

    def create(self, engine: Any) -> None:
        """Make what is missing; processes that start together may all try."""
        for metadata in (self.kombu_metadata, self.metadata):
            try:
                metadata.create_all(engine)
            except (sa.exc.ProgrammingError, sa.exc.IntegrityError, sa.exc.OperationalError):
                metadata.create_all(engine)  # somebody else was making them just then; now they are there


def _now(dialect: str) -> Any:
    """The server's time in epoch seconds: clocks of clients differ."""
    if dialect == "postgresql":
        return sa.literal_column("CAST(extract(epoch FROM clock_timestamp()) AS double precision)")
    return sa.literal_column("(UNIX_TIMESTAMP(NOW(6)) + 0e0)")
