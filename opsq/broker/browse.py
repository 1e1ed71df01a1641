"""Looking through a queue that nobody consumes, and taking single messages out of it.

Works on any broker, one message at a time: each is taken, shown, and put back when the look is over,
unless it was settled. What somebody looks at is out of sight for others meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opsq.broker.connection import BrokerConnection
from opsq.broker.depth import depth
from opsq.broker.kombu_source import RawMessage, from_amqp, from_virtual
from opsq.broker.message import Delivery


class Browser:
    """One look at one queue. Thread: the connection's owner. Raises: BrokerUnavailable, every method."""

    def __init__(self, connection: BrokerConnection, queue: str, channel: Any) -> None:
        self._connection = connection
        self._queue = queue
        self._channel = channel
        self._amqp = connection.driver == "amqp"
        if not self._amqp:
            channel.Message = RawMessage
        self._held: list[Any] = []

    def __iter__(self) -> Iterator[Delivery]:
        while True:
            with self._connection.translated():
                message = self._channel.basic_get(self._queue, no_ack=False)
            if message is None:
                return
            delivery = from_amqp(message, self._queue) if self._amqp else from_virtual(message, self._queue)
            self._held.append(delivery.tag)
            yield delivery

    def exists(self, queue: str) -> bool:
        """Whether another queue exists, as far as the broker tells."""
        return queue in depth(self._connection, [queue])

    def remove(self, delivery: Delivery) -> None:
        """Take ``delivery`` out of the queue for good."""
        self._held.remove(delivery.tag)
        with self._connection.translated():
            self._channel.basic_ack(delivery.tag)

    def put_back(self) -> None:
        """Return everything that was not removed; to the head of the queue, newest first, as far as can be."""
        while self._held:
            with self._connection.translated():
                self._channel.basic_reject(self._held.pop(), requeue=True)


@contextmanager
def browse(connection: BrokerConnection, queue: str) -> Iterator[Browser | None]:
    """Look at ``queue`` for the length of the block; None when it does not exist or is empty."""
    seen = depth(connection, [queue]).get(queue)
    if seen is None or not seen.ready:
        yield None
        return
    with connection.translated():
        channel = connection.kombu.channel()
    browser = Browser(connection, queue, channel)
    try:
        yield browser
    finally:
        browser.put_back()
        channel.close()
