"""Sending through one open connection, the shortest way its transport has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from opsq.broker.confirms import Confirms
from opsq.broker.connection import BrokerConnection
from opsq.broker.message import OutMessage
from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.errors import BrokerUnavailable


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
        channel = connection.kombu.channel()
    if hasattr(channel, "publish_messages"):
        return BatchOutlet(channel)
    if connection.driver == "amqp":
        return ConfirmOutlet(connection, channel, wait=confirm == "sync", buffer=buffer)
    return KombuOutlet(connection, channel)


class BatchOutlet:
    """A transport of opsq's own, which takes many messages at once and knows its queues."""

    def __init__(self, channel: Any) -> None:
        self._send = channel.publish_messages

    def send(self, messages: Sequence[OutMessage], timeout_s: float | None) -> int:
        """Send all or none."""
        unrouted: int = self._send(messages)
        return unrouted

    def flush(self, timeout_s: float | None) -> None:
        """Return at once: ``send`` returns when the broker has it."""

    def unconfirmed(self) -> list[OutMessage]:
        """Return nothing."""
        return []


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


class ConfirmOutlet(KombuOutlet):
    """AMQP with publisher confirms. wait: ``send`` returns when the broker confirmed everything;
    otherwise up to ``buffer`` messages may be on their way.
    """

    def __init__(self, connection: BrokerConnection, channel: Any, *, wait: bool, buffer: int) -> None:
        super().__init__(connection, channel)
        self._wait = wait
        self._buffer = buffer
        self._confirms = Confirms()
        with connection.translated():
            channel.confirm_select()
        channel.events["basic_ack"].add(self._confirms.on_ack)
        channel.events["basic_nack"].add(self._confirms.on_nack)

    def send(self, messages: Sequence[OutMessage], timeout_s: float | None) -> int:
        """Send, and wait for the confirms of all of them together."""
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        with self._connection.translated():
            for message in messages:
                self._declare(message.declare)
                publish(self._channel, message)
                self._confirms.sent(message)
                if len(self._confirms) >= self._buffer:
                    self._await(self._buffer // 2, give_up_at)
            if self._wait:
                self._await(0, give_up_at)
            else:
                self._read_what_is_there()
        return 0

    def flush(self, timeout_s: float | None) -> None:
        """Wait until the broker has everything."""
        with self._connection.translated():
            self._await(0, None if timeout_s is None else time.monotonic() + timeout_s)

    def unconfirmed(self) -> list[OutMessage]:
        """Return what was sent and not confirmed, oldest first."""
        return self._confirms.unconfirmed()

    def _await(self, open_at_most: int, give_up_at: float | None) -> None:
        while len(self._confirms) > open_at_most:
            left = None if give_up_at is None else give_up_at - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"{len(self._confirms)} messages were not confirmed in time")
            self._connection.kombu.drain_events(timeout=left)
        self._check_refused()

    def _read_what_is_there(self) -> None:
        try:
            while len(self._confirms):
                self._connection.kombu.drain_events(timeout=0)
        except TimeoutError:
            self._check_refused()

    def _check_refused(self) -> None:
        refused, self._confirms.refused = self._confirms.refused, []
        if refused:
            raise BrokerUnavailable(
                f"broker {self._connection.sanitised_url} refused {len(refused)} messages, the first for "
                f"{refused[0].routing_key!r}; look for a full queue or a resource alarm on the broker"
            )


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
