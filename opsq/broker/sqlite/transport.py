"""The embedded broker as a kombu transport: ``Connection("sqlite:///…", transport=Transport)``.

Whatever speaks kombu works on it. opsq's own publisher and consumer use the same objects by shorter
ways: ``Channel.publish_messages`` and ``Transport.open_source``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from queue import Empty
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.exceptions import ChannelError
from kombu.transport import base
from kombu.transport import virtual as _virtual
from kombu.utils.uuid import uuid

from opsq.broker.message import Delivery, OutMessage
from opsq.broker.source import QueueDepth
from opsq.broker.sqlite.broker import SqliteBroker, path_of_url
from opsq.broker.sqlite.doorbell import Doorbell
from opsq.broker.sqlite.lease import Lease
from opsq.broker.sqlite.source import SqliteSource
from opsq.broker.sqlite.standing import SqliteBook
from opsq.broker.sqlite.store import channel_of
from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.errors import BrokerUnavailable, UsageError

virtual: Any = _virtual  # typed here and there, differently in each version of kombu


class QoS(virtual.QoS):  # type: ignore[misc]  # Any
    """Settles in the file at once; the base class only keeps count."""

    def ack(self, delivery_tag: int) -> None:
        """Forget a message."""
        self.channel.settle_one(delivery_tag, requeue=False)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Drop a message, or put it back at the head."""
        self.channel.settle_one(delivery_tag, requeue=requeue)
        super().ack(delivery_tag)

    def restore_unacked(self) -> list[Any]:
        """Put everything back that was not settled."""
        self._flush()
        for tag in list(self._delivered):
            self.channel.settle_one(tag, requeue=True)
        self._delivered.clear()
        return []


class Channel(virtual.Channel):  # type: ignore[misc]
    """One kombu channel on the file."""

    QoS = QoS
    supports_fanout = True
    body_encoding = None

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.broker: SqliteBroker = connection.broker
        self._leases: dict[str, Lease] = {}
        self._renewed_at: dict[str, float] = {}
        self._held: dict[int, Lease] = {}

    # ---- topology

    def exchange_declare(
        self,
        exchange: str | None = None,
        type: str = "direct",
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        nowait: bool = False,
        passive: bool = False,
    ) -> None:
        """Create an exchange, or with ``passive`` only look for it."""
        name = exchange or f"amq.{type}"
        self.broker.catalog.refresh()
        if passive:
            if self.broker.catalog.exchange_type(name) is None:
                raise _not_found("exchange", name)
            return
        spec = ExchangeSpec(
            name=name, type=type or "direct", durable=durable, auto_delete=auto_delete, arguments=arguments or {}
        )
        self.broker.catalog.declare_exchange(spec)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Remove an exchange and its bindings."""
        self.broker.catalog.delete_exchange(exchange)

    def queue_declare(
        self,
        queue: str | None = None,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> queue_declare_ok_t:
        """Create a queue, or with ``passive`` only look for it; say how many messages wait."""
        name = queue or f"amq.gen-{uuid()}"
        if passive:
            if not self._has_queue(name):
                raise _not_found("queue", name)
        else:
            spec = QueueSpec(
                name=name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments or {}
            )
            self.broker.catalog.declare_queue(spec)
        return queue_declare_ok_t(name, self._size(name), 0)

    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **kwargs: Any) -> Any:
        """Write kombu's names for limits the way AMQP carries them."""
        return base.to_rabbitmq_queue_arguments(arguments or {}, **kwargs)

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Let an exchange feed a queue."""
        self.broker.catalog.bind(queue, exchange or "", routing_key or "", arguments)

    def queue_unbind(self, queue: str, exchange: str | None = None, routing_key: str = "", **kwargs: Any) -> None:
        """Stop an exchange feeding a queue."""
        self.broker.catalog.unbind(queue, exchange or "", routing_key or "")

    def queue_delete(self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any) -> None:
        """Remove a queue with everything in it, unless it is used or filled and that was asked."""
        waiting = self.broker.store.waiting(queue)
        if waiting is None or (if_empty and waiting.ready) or (if_unused and waiting.consumers):
            return
        self.broker.catalog.delete_queue(queue)

    def list_bindings(self) -> list[tuple[str, str, str]]:
        """Return (queue, exchange, routing key) of every binding."""
        self.broker.catalog.refresh()
        return self.broker.catalog.bindings()

    def get_exchanges(self) -> list[str]:
        """Return the names of all exchanges that something is bound to."""
        return sorted({exchange for _, exchange, _ in self.list_bindings()})

    # ---- publishing

    def basic_publish(self, message: dict[str, Any], exchange: str, routing_key: str, **kwargs: Any) -> None:
        """Publish what ``prepare_message`` made."""
        body = message["body"]
        self.publish_messages(
            [
                OutMessage(
                    body=body.encode() if isinstance(body, str) else bytes(body or b""),
                    content_type=message["content-type"],
                    content_encoding=message["content-encoding"],
                    headers=message["headers"],
                    properties={key: value for key, value in message["properties"].items() if key != "delivery_info"},
                    exchange=exchange or "",
                    routing_key=routing_key or "",
                )
            ]
        )

    def publish_messages(self, messages: Sequence[OutMessage]) -> int:
        """Publish all messages in one transaction; return how many reached no queue."""
        return self.broker.store.put(messages)

    # ---- consuming

    def basic_consume(self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any) -> None:
        """Deliver from ``queue`` to ``callback`` whenever events are drained."""
        self._lease(queue)
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self.connection.listen(queue)
        if no_ack:
            raw_callback = self.connection._callbacks[queue]

            def settle_first(payload: dict[str, Any]) -> Any:
                self.settle_one(payload["properties"]["delivery_tag"], requeue=False)
                return raw_callback(payload)

            self.connection._callbacks[queue] = settle_first

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop delivering; what was delivered can still be settled."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        lease = self._leases.get(queue) if queue else None
        if queue and lease is not None and lease not in self._held.values():
            lease.close()
            del self._leases[queue]

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Take one message, or return ``None``."""
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)
        if message is not None and no_ack:
            self.settle_one(message.delivery_tag, requeue=False)
        return message

    def settle_one(self, tag: int, *, requeue: bool) -> None:
        """Forget a message this channel holds, or put it back; one it does not hold is left alone."""
        lease = self._held.pop(tag, None)
        if lease is None:
            return
        if requeue:
            lease.give_back([tag])
        else:
            lease.settle([tag])

    def _lease(self, queue: str) -> Lease:
        lease = self._leases.get(queue)
        now = self.broker.clock.monotonic()
        if lease is None:
            if not self._has_queue(queue):
                raise _not_found("queue", queue)
            lease = self._leases[queue] = self.broker.lease()
            lease.subscribe([queue])
            self._renewed_at[queue] = now
        elif now - self._renewed_at[queue] > lease.seconds / 3:
            lease.renew()
            self._renewed_at[queue] = now
        return lease

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        lease = self._lease(queue)
        batch = lease.take([], 1) if lease.waiting() else []
        if not batch:
            raise Empty
        self._held[batch[0].tag] = lease
        return _payload(batch[0])

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        self.broker.catalog.refresh()
        return self.broker.catalog.queue_id(queue) is not None

    def _size(self, queue: str) -> int:
        return self.broker.store.size(queue)

    def _purge(self, queue: str) -> int:
        return self.broker.store.purge(queue)

    def close(self) -> None:
        """Give everything back that was not settled. Safe to call twice."""
        if not self.closed:
            super().close()
            for lease in self._leases.values():
                lease.close()
            self._leases.clear()


class Transport(virtual.Transport):  # type: ignore[misc]
    """The transport to hand to ``kombu.Connection``."""

    Channel = Channel
    can_parse_url = True  # the URL is a path; kombu would read it as a host
    driver_type = "sqlite"
    driver_name = "sqlite3"
    connection_errors = (*virtual.Transport.connection_errors, BrokerUnavailable)
    channel_errors = (*virtual.Transport.channel_errors, UsageError)
    implements = virtual.Transport.implements.extend(
        asynchronous=False, batch_publish=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.broker: SqliteBroker
        self._doorbell: Doorbell | None = None

    def establish_connection(self) -> Any:
        """Open the file. Raises: BrokerUnusable, BrokerUnavailable."""
        self.broker = SqliteBroker(path_of_url(self.client.hostname), self.client.transport_options)
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        """Close channels, doorbell and file."""
        try:
            super().close_connection(connection)
        finally:  # giving back fails while the file is locked; the lease's end does it then
            if self._doorbell is not None:
                self._doorbell.close()
                self._doorbell = None
            self.broker.close()

    def open_source(self, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> SqliteSource:
        """Return the batch reader that opsq's consumer works with."""
        return SqliteSource(self.broker, queues, no_ack=no_ack)

    def queue_depth(self, queue: str) -> QueueDepth | None:
        """Return what waits in a queue, exactly; ``None`` when there is no such queue."""
        waiting = self.broker.store.waiting(queue)
        if waiting is None:
            return None
        age = None if waiting.oldest_at is None else max(0.0, self.broker.clock.now() - waiting.oldest_at)
        return QueueDepth(waiting.ready, waiting.unacked, age, waiting.consumers)

    def standing_orders(self) -> SqliteBook:
        """Return the book of standing orders."""
        return SqliteBook(self.broker.database)

    def listen(self, queue: str) -> None:
        """Wake ``drain_events`` when something is published to ``queue``."""
        if self._doorbell is None:
            self._doorbell = Doorbell(self.broker.path, channel_of(queue))
        else:
            self._doorbell.listen(channel_of(queue))

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message, waiting up to ``timeout`` seconds. Raises: TimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                self.cycle.get(self._deliver, timeout=timeout)
                return
            except Empty:
                left = self.broker.poll_s if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._wait(min(left, self.broker.poll_s))

    def _wait(self, seconds: float) -> None:
        if self._doorbell is None:
            time.sleep(seconds)
        else:
            self._doorbell.wait(seconds)

    def driver_version(self) -> str:
        """Return the version of the SQLite library."""
        rows = self.broker.database.execute("SELECT sqlite_version()")
        return str(rows.fetchone()[0])


def _payload(delivery: Delivery) -> dict[str, Any]:
    """Return a delivery in the form kombu's virtual channels pass around."""
    info = {
        "exchange": delivery.exchange,
        "routing_key": delivery.routing_key,
        "redelivered": delivery.redelivered,
        "priority": delivery.priority,
    }
    return {
        "body": delivery.body,
        "content-type": delivery.content_type,
        "content-encoding": delivery.content_encoding,
        "headers": delivery.headers,
        "redelivered": delivery.redelivered,
        "properties": {**delivery.properties, "delivery_tag": delivery.tag, "delivery_info": info},
    }


def _not_found(kind: str, name: str) -> ChannelError:
    return ChannelError(f"NOT_FOUND - no {kind} {name!r}", (50, 10), f"{kind}_declare", "404")
