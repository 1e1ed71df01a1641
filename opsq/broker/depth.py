"""How much waits in which queue."""

from __future__ import annotations

from collections.abc import Sequence

from opsq.broker.connection import BrokerConnection
from opsq.broker.source import QueueDepth

__all__ = ["QueueDepth", "depth"]


def depth(connection: BrokerConnection, queues: Sequence[str]) -> dict[str, QueueDepth]:
    """Return the depth of each of these queues that exists, by name.

    SQLite tells everything; other brokers how many messages wait, AMQP also how many consumers.
    Redis cannot tell an empty queue from one that never was: both are 0 there.
    Thread: the connection's owner. Raises: BrokerUnavailable.
    """
    found: dict[str, QueueDepth] = {}
    with connection.translated():
        own = getattr(connection.kombu.transport, "queue_depth", None)
        for queue in queues:
            seen = own(queue) if own is not None else _through_kombu(connection, queue)
            if seen is not None:
                found[queue] = seen
    return found


def _through_kombu(connection: BrokerConnection, queue: str) -> QueueDepth | None:
    # A channel each: AMQP closes the channel on which a missing queue was asked for.
    channel = connection.kombu.channel()
    try:
        declared = channel.queue_declare(queue=queue, passive=True)
    except tuple(connection.kombu.channel_errors):
        return QueueDepth(0) if connection.driver == "redis" else None
    finally:
        channel.close()
    consumers = declared.consumer_count if connection.driver == "amqp" else None
    return QueueDepth(int(declared.message_count), consumers=consumers)
