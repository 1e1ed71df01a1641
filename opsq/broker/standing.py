"""Standing orders: what holds for every worker, also for one that starts when the others have gone.

A revoked task, or a paused queue, must stay so when no worker was online to hear of it, or when all of them
have been replaced since. So the broker itself keeps a small book of such orders, and each worker reads it
before it takes its first message on a connection.

==========  =================================================================================
SQLite      the table ``standing_order`` in the broker's file
Redis       the sorted set ``opsq:standing`` (with the key prefix), scored by when each order ends
RabbitMQ    the durable queue ``opsq.standing``, one message per order; see ``amqp/standing.py``
SQL         the table ``kombu_queue_standing``
MongoDB     the collection ``opsq.standing``
SQS         nowhere, and no worker hears a command there: giving an order is refused in one sentence
others      nowhere: the order holds for the workers that hear it
==========  =================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from opsq.broker.connection import BrokerConnection

REVOKED: Final = "revoked"
STAMP: Final = "stamp"
PAUSED_QUEUE: Final = "paused_queue"
PAUSED_TASK: Final = "paused_task"

ORDERS_MAX: Final = 100_000
"""So many are kept in a book; beyond it those that end soonest go first."""


class StandingOrder(Struct, frozen=True, array_like=True):
    """One order. kind: a word above. name: task id, stamp, queue or task; value: of a stamp.

    until: epoch seconds at which it ends; none for when somebody lifts it.
    """

    kind: str
    name: str
    value: str = ""
    until: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two orders the same one."""
        return (self.kind, self.name, self.value)

    def holds(self, now: float) -> bool:
        """Whether it has not ended at the epoch second ``now``."""
        return self.until is None or self.until > now


class Book(Protocol):
    """Where a broker keeps orders. Thread: the connection's owner. Raises: what the broker's library raises."""

    def add(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders, durably once this returns; an order replaces an earlier one of its key."""
        ...

    def lift(self, orders: Sequence[StandingOrder], now: float) -> None:
        """Keep these orders no longer; those that are not there are no error."""
        ...

    def read(self, now: float) -> list[StandingOrder]:
        """Every order that holds at ``now``."""
        ...


def book_of(connection: BrokerConnection) -> Book | None:
    """The book of a connected broker; none where it has no place for one."""
    make: Any = getattr(connection.kombu.transport, "standing_orders", None)
    if make is None:
        return None
    book: Book = make()
    return book


def add(connection: BrokerConnection, orders: Sequence[StandingOrder], now: float) -> bool:
    """Keep orders; false where this broker cannot. Raises: BrokerUnavailable."""
    with connection.translated():
        book = book_of(connection)
        if book is not None and orders:
            book.add(orders, now)
    return book is not None


def lift(connection: BrokerConnection, orders: Sequence[StandingOrder], now: float) -> bool:
    """Keep orders no longer; false where this broker keeps none. Raises: BrokerUnavailable."""
    with connection.translated():
        book = book_of(connection)
        if book is not None and orders:
            book.lift(orders, now)
    return book is not None


def read(connection: BrokerConnection, now: float) -> list[StandingOrder] | None:
    """Every order that holds; none where this broker keeps no book. Raises: BrokerUnavailable."""
    with connection.translated():
        book = book_of(connection)
        return None if book is None else book.read(now)


_KEY: Final = msgspec.json.Decoder(tuple[str, str, str])


def key_text(order: StandingOrder) -> bytes:
    """An order's key as JSON."""
    return msgspec.json.encode(order.key)


def from_key_text(text: bytes | str, until: float | None) -> StandingOrder | None:
    """Read ``key_text`` back; none for what is none, since a book may be written to by others."""
    try:
        kind, name, value = _KEY.decode(text)
    except msgspec.MsgspecError:
        return None
    return StandingOrder(kind, name, value, until)
