"""Sending through one open connection, the shortest way its transport has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from opsq.broker.connection import BrokerConnection
from opsq.broker.message import OutMessage
from opsq.broker.topology import ExchangeSpec, QueueSpec


class Outlet(Protocol):
    """Thread: one at a time. Raises: BrokerUnavailable, and UsageError for what cannot be sent."""

    def send(self, messages: Sequence[OutMessage], timeout_s: float | None) -> int:
        """Send all; return how many are known to have reached no queue."""
        ...

    def flush(self, timeout_s: float | None) -> None:
        """Wait until the broker has everything."""
        ...

    def unconfirmed(self) -> list[OutMessage]:
        """Return what the broker may not have, to be sent again elsewhere."""
        ...


def open_outlet(connection: BrokerConnection, *, confirm: str, buffer: int) -> Outlet:
    """Return the way out of a connected connection. confirm: ``sync`` or ``async``, AMQP only."""
    with connection.translated():
        own = getattr(connection.kombu.transport, "open_outlet", None)
        if own is not None:
            return GuardedOutlet(connection, own(wait=confirm == "sync", buffer=buffer))
        channel = connection.kombu.channel()
    if hasattr(channel, "publish_messages"):
        return BatchOutlet(channel)
    return KombuOutlet(connection, channel)


class BatchOutlet:
    """A transport of opsq's own, which takes many messages at once and knows its queues."""

    def __init__(self, channel: Any) -> None:
        self._send = channel.publish_messages
        self._limit_silence = getattr(channel, "limit_silence", None)

    def send(self, messages: Sequence[OutMessage], timeout_s: float | None) -> int:
        """Send all or none."""
        if self._limit_silence is not None:
            self._limit_silence(timeout_s)
        unrouted: int = self._send(messages)
        return unrouted

    def flush(self, timeout_s: float | None) -> None:
        """Return at once: ``send`` returns when the broker has it."""

    def unconfirmed(self) -> list[OutMessage]:
        """Return nothing."""
        return []


class GuardedOutlet:
    """A way out that its transport brings along, with the errors of its library made ours."""

    def __init__(self, connection: BrokerConnection, own: Outlet) -> None:
        self._connection = connection
        self._own = own

    def send(self, messages: Sequence[OutMessage], timeout_s: float | None) -> int:
        """Send as the transport does."""
        with self._connection.translated():
            return self._own.send(messages, timeout_s)

    def flush(self, timeout_s: float | None) -> None:
        """Wait until the broker has everything."""
        with self._connection.translated():
            self._own.flush(timeout_s)

    def unconfirmed(self) -> list[OutMessage]:
        """Return what was sent and not confirmed."""
        return self._own.unconfirmed()


class KombuOutlet:
    """Any kombu transport, one message after the other."""

    def __init__(self, connection: BrokerConnection, channel: Any) -> None:
        self._connection = connection
        self._channel = channel
        self._declared: dict[tuple[bool, str], QueueSpec | ExchangeSpec] = {}

    def send(self, messages: Sequence[OutMessage], timeout_s: float | None) -> int:
        """Send in order; an error in the middle leaves the first ones sent."""
        with self._connection.translated():
            for message in messages:
                self._declare(message.declare)
                publish(self._channel, message)
        return 0

    def _declare(self, spec: QueueSpec | ExchangeSpec | None) -> None:
        if spec is None:
            return
        key = (isinstance(spec, QueueSpec), spec.name)
        known = self._declared.get(key)
        if known is not spec:
            if known != spec:
                self._connection.declare(self._channel, spec)
            self._declared[key] = spec

    def flush(self, timeout_s: float | None) -> None:
        """Return at once: ``send`` returns when the broker has it."""

    def unconfirmed(self) -> list[OutMessage]:
        """Return nothing."""
        return []


def publish(channel: Any, message: OutMessage) -> None:
    """Hand one message to a kombu channel; its body is bytes already."""
    properties = dict(message.properties)
    priority = properties.pop("priority", None)
    prepared = channel.prepare_message(
        message.body,
        priority=priority,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=dict(message.headers),
        properties=properties,
    )
    channel.basic_publish(prepared, exchange=message.exchange, routing_key=message.routing_key)
