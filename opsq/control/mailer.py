"""Ask workers and collect their replies, until all asked have answered or the time is up."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import Consumer
from opsq.broker.faults import BrokerUnusable
from opsq.broker.message import Delivery, OutMessage
from opsq.clock import LamportClock
from opsq.control.addresses import Addresses
from opsq.errors import UsageError, WireError
from opsq.wire.content import DEFAULT_REGISTRY, JSON_ONLY, ContentRegistry
from opsq.wire.control import Reply, ReplyTo, Request, encode_request, parse_reply

log = logging.getLogger(__name__)

PREFETCH = 1_000

Connect = Callable[[], BrokerConnection]
Publish = Callable[[OutMessage], None]
OnReply = Callable[[Reply], None]


class Call(Struct, frozen=True, kw_only=True):
    """What to ask and whom.

    destination: node names; none for everybody. pattern, matcher: ``glob`` or ``pcre`` over node names.
    timeout_s: how long to wait for replies, all of them. limit: end after so many replies. kept: what is to
    outlive the workers was written into the broker.
    """

    command: str
    arguments: dict[str, Any] = {}
    destination: tuple[str, ...] | None = None
    pattern: str | None = None
    matcher: str | None = None
    timeout_s: float = 1.0
    limit: int | None = None
    kept: bool = False


class Mailer:
    """Sends requests to workers. Thread: any; each ``ask`` has a connection and a reply queue of its own.

    connect: makes a connection to read from. publish: sends one message. accept: content types of replies.
    """

    def __init__(
        self,
        connect: Connect,
        publish: Publish,
        addresses: Addresses,
        *,
        serializer: str = "json",
        accept: frozenset[str] = JSON_ONLY,
        lamport: LamportClock | None = None,
        serializers: ContentRegistry = DEFAULT_REGISTRY,
    ) -> None:
        self._connect = connect
        self._publish = publish
        self._addresses = addresses
        self._serializer = serializer
        self._accept = accept
        self._serializers = serializers
        self._lamport = lamport or LamportClock()
        self.malformed = 0

    def check(self) -> None:
        """Raise BrokerUnusable when the broker has no way to reach every worker; asks it nothing."""
        connection = self._connect()
        if connection.tested and not connection.broker.features.fanout:
            raise BrokerUnusable(
                f"broker {connection.sanitised_url} cannot send one message to several readers, so remote control "
                "(inspect, control, revoke) does not work on it: signal the processes, or use Redis or RabbitMQ"
            )

    def tell(self, call: Call) -> None:
        """Send ``call`` and wait for nobody. Raises: BrokerUnavailable."""
        self.check()
        self._publish(self._message(call, None, None))

    def ask(self, call: Call, on_reply: OnReply | None = None) -> list[Reply]:
        """Send ``call`` and collect replies until its limit or its time; a destination is a limit.

        on_reply: called with each as it comes. Raises: BrokerUnavailable.
        """
        return Asking(self, call, on_reply).run()

    def reply_queue_of(self, oid: str) -> Any:
        """The queue that the client ``oid`` is answered on."""
        return self._addresses.reply_queue(oid)

    def connection(self) -> BrokerConnection:
        """A new connection to read replies from, not yet connected."""
        return self._connect()

    def send(self, call: Call, ticket: str, oid: str) -> None:
        """Publish the request; replies bear ``ticket`` and go to ``oid``."""
        self._publish(self._message(call, ticket, oid))

    def read(self, delivery: Delivery) -> Reply | None:
        """Read one reply; None, counted, for what is not one."""
        try:
            reply = parse_reply(
                delivery.body,
                delivery.content_type,
                delivery.content_encoding,
                delivery.headers,
                accept=self._accept,
                registry=self._serializers,
            )
        except WireError as exc:
            self.malformed += 1
            log.warning("a reply to a remote command cannot be read", extra={"error": str(exc)})
            return None
        if reply.clock is not None:
            self._lamport.witness(reply.clock)
        return reply

    def _message(self, call: Call, ticket: str | None, oid: str | None) -> OutMessage:
        replies = self._addresses.replies.name
        request = Request(
            method=call.command,
            arguments=call.arguments,
            destination=call.destination,
            pattern=call.pattern,
            matcher=call.matcher,
            ticket=ticket,
            reply_to=ReplyTo(replies, oid) if oid is not None else None,
            clock=self._lamport.tick(),
            expires=time.time() + call.timeout_s,
            kept=call.kept,
        )
        body, mime, encoding, headers = encode_request(request, self._serializer, self._serializers)
        return OutMessage(
            body=body,
            content_type=mime,
            content_encoding=encoding,
            headers=headers,
            properties={"delivery_mode": 2},
            exchange=self._addresses.requests.name,
            routing_key="",
            declare=self._addresses.requests,
        )


class Asking:
    """One question under way. Thread: ``run`` blocks the one that asks; ``stop`` from any."""

    def __init__(self, mailer: Mailer, call: Call, on_reply: OnReply | None = None) -> None:
        self._mailer = mailer
        self._call = call
        self._on_reply = on_reply
        self._limit = call.limit or (len(set(call.destination)) if call.destination else None)
        self._ticket, self._oid = str(uuid.uuid4()), str(uuid.uuid4())
        self._replies: list[Reply] = []
        self._ends_at: float | None = None
        self._stopped = False
        self._consumer: Consumer | None = None

    def run(self) -> list[Reply]:
        """Ask, and return the replies. Raises: BrokerUnavailable."""
        self._mailer.check()
        connection = self._mailer.connection()
        queue = self._mailer.reply_queue_of(self._oid)
        try:
            connection.connect()
            consumer = self._consumer = Consumer(
                connection, [queue], on_batch=self._on_batch, on_tick=self._on_tick, no_ack=True, prefetch=PREFETCH
            )
            # On the consumer's own turn, when the queue for the replies exists and is being read.
            consumer.call_soon(self._send)
            if not self._stopped:
                consumer.run()
            # Brokers without auto-delete would keep its binding for ever.
            with connection.closing():
                connection.kombu.channel().queue_delete(queue.name)
        finally:
            self._consumer = None
            connection.close()
        return self._replies

    def stop(self) -> None:
        """Wait no longer. Thread: any."""
        self._stopped = True
        consumer = self._consumer
        if consumer is not None:
            consumer.stop()

    def _send(self) -> None:
        self._mailer.send(self._call, self._ticket, self._oid)
        self._ends_at = time.monotonic() + self._call.timeout_s

    def _on_tick(self) -> float | None:
        if self._ends_at is None:
            return 0.05
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            self.stop()
        return max(left_s, 0.0)

    def _on_batch(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            reply = self._mailer.read(delivery)
            if reply is None or reply.ticket not in (None, self._ticket):
                continue
            self._replies.append(reply)
            if self._on_reply is not None:
                self._on_reply(reply)
        if self._limit is not None and len(self._replies) >= self._limit:
            self.stop()


def destination_of(given: Any) -> tuple[str, ...] | None:
    """Node names as a tuple; none for everybody. Raises: UsageError."""
    if not given:
        return None
    if isinstance(given, str):
        return (given,)
    if isinstance(given, (list, tuple, set, frozenset)) and all(isinstance(each, str) for each in given):
        return tuple(given)
    raise UsageError(f"destination: expected a list of node names, got {given!r:.100}")
