"""Which messages wait in a queue, without taking any: on the brokers whose storage can be read beside its readers."""

from __future__ import annotations

from opsq.broker.connection import BrokerConnection
from opsq.broker.message import Delivery
from opsq.broker.redis import envelope as redis_envelope
from opsq.broker.sqlite import envelope as sqlite_envelope

_SQLITE = "SELECT envelope FROM message WHERE queue = (SELECT id FROM queue WHERE name = ?) ORDER BY id"


def can_peek(connection: BrokerConnection) -> bool:
    """Whether ``peek`` works here; there, what is published together arrives together or not at all.

    Thread: the connection's owner.
    """
    return connection.driver in ("sqlite", "redis") and hasattr(connection.kombu.transport, "open_source")


def peek(connection: BrokerConnection, queue: str) -> list[Delivery]:
    """The messages of ``queue``, those that are handed out left aside on Redis. Raises: BrokerUnavailable."""
    with connection.translated():
        channel = connection.kombu.channel()
        try:
            if connection.driver == "sqlite":
                rows = channel.broker.database.execute(_SQLITE, (queue,)).fetchall()
                return [sqlite_envelope.unpack(row[0], queue=queue, tag=0, deliveries=0) for row in rows]
            texts = [
                text for key in channel.connection.keys.lists([queue]) for text in channel.client.lrange(key, 0, -1)
            ]
            return [redis_envelope.unpack(text) for text in texts]
        finally:
            channel.close()
