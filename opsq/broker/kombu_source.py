"""Deliveries from any kombu transport, one message at a time.

Transports with a socket (py-amqp, redis) are waited on by descriptor; those without are asked at
their polling interval, at most every 20 ms.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from kombu.transport.virtual import Message as _Message

from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.topology import ExchangeSpec, QueueSpec

_VirtualMessage: Any = _Message  # typed here and there, differently in each version of kombu
_POLL_S = 0.02
_SOCKET_POLL_S = 1.0
_CHORES_S = 1.0
_TRANSPORT_PROPERTIES = frozenset({"delivery_info", "delivery_tag", "body_encoding"})


class RawMessage(_VirtualMessage):  # type: ignore[misc]  # Any
    """A message of a virtual transport whose body is left as it was sent.

    kombu's own inflates a compressed body while receiving it, before anybody can look at its size.
    """

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:
        self.sent_headers = payload.get("headers") or {}
        properties = dict(payload.get("properties") or {})
        properties.setdefault("delivery_tag", uuid4().hex)
        bare = {**payload, "headers": {}, "properties": properties}
        try:
            super().__init__(bare, channel=channel, **kwargs)
        except (binascii.Error, ValueError, TypeError, AttributeError):
            # A body that is not what its encoding says; passed on as it is, for intake to refuse.
            super().__init__({**bare, "properties": {**properties, "body_encoding": None}}, channel=channel, **kwargs)
        self._raw = payload

    def serializable(self) -> dict[str, Any]:
        """Return what to put back into the queue: what was taken from it."""
        return dict(self._raw)


class KombuSource:
    """One consumer through kombu. Thread: the owner's."""

    watchable = True

    def __init__(self, connection: Any, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._no_ack = no_ack
        self._amqp = self._transport.driver_type == "amqp"
        self._channel = connection.channel()
        if not self._amqp:
            self._channel.Message = RawMessage
        self._inbox: list[Delivery] = []
        self._tags: dict[str, str] = {}
        self._specs: tuple[QueueSpec, ...] = ()
        self._unsettled: set[Any] = set()
        self._prefetch = 0
        self._closed = False
        self.poll_s = _SOCKET_POLL_S if self.filenos() else min(self._transport_poll_s(), _POLL_S)
        self.limit(prefetch)
        self.set_queues(queues)

    def _transport_poll_s(self) -> float:
        return float(getattr(self._transport, "polling_interval", None) or _POLL_S)

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle one by one, then drain what is there."""
        for each in settlements:
            self._settle(each)
        self._drain(room)
        batch, self._inbox = self._inbox[:room], self._inbox[room:]
        return batch

    def _drain(self, room: int) -> None:
        """Read until ``room`` deliveries are in the inbox or nothing more is there."""
        while len(self._inbox) < room:
            before = len(self._inbox)
            try:
                self._connection.drain_events(timeout=0)
            except TimeoutError:
                return
            if len(self._inbox) == before and not self._amqp:
                return

    def _settle(self, each: Settlement) -> None:
        if each.tag not in self._unsettled:
            return
        self._unsettled.discard(each.tag)
        if each.how is Settle.ACK:
            self._channel.basic_ack(each.tag)
        else:
            self._channel.basic_reject(each.tag, requeue=each.how is Settle.REQUEUE)

    def _received(self, queue: str, message: Any) -> None:
        delivery = from_amqp(message, queue) if self._amqp else from_virtual(message, queue)
        if not self._no_ack:
            self._unsettled.add(delivery.tag)
        self._inbox.append(delivery)

    def filenos(self) -> list[int]:
        """Return the sockets, where the transport has some."""
        if self._amqp:
            return [self._connection.connection.sock.fileno()]
        descriptors: Iterable[int] = getattr(getattr(self._transport, "cycle", None), "fds", None) or ()
        return list(descriptors)

    def woken(self) -> None:
        """Do nothing: draining reads the sockets."""

    def keepalive(self) -> float:
        """Send and check heartbeats where there are any."""
        if self._amqp:
            self._drain(1_000_000)  # reads the broker's heartbeats also while there is no room
        if self._transport.implements.heartbeats and self._connection.heartbeat:
            self._connection.heartbeat_check(rate=2)
            return float(min(_CHORES_S, self._connection.heartbeat / 4))
        return _CHORES_S

    def limit(self, prefetch: int) -> None:
        """Tell the broker; on AMQP only when it changed by a quarter, since it costs a round trip."""
        if self._amqp and self._prefetch and abs(prefetch - self._prefetch) * 4 < self._prefetch:
            return
        if prefetch != self._prefetch:
            self._channel.basic_qos(0, prefetch, self._qos_for_channel())
            self._prefetch = prefetch

    def _qos_for_channel(self) -> bool:
        # Per consumer, a new limit would count only for consumers that start later.
        return self._amqp and not self._transport.qos_semantics_matches_spec(self._connection.connection)

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and consume these queues, cancel the others."""
        wanted = {spec.name: spec for spec in queues}
        for name in [name for name in self._tags if name not in wanted]:
            self._channel.basic_cancel(self._tags.pop(name))
        self._specs = tuple(queues)
        for spec in self._specs:
            if spec.name not in self._tags:
                declare_queue(self._channel, spec)
                self._consume(spec.name)

    def _consume(self, name: str) -> None:
        tag = self._tags[name] = uuid4().hex
        self._channel.basic_consume(
            queue=name, consumer_tag=tag, no_ack=self._no_ack, callback=partial(self._received, name)
        )

    def pause(self, paused: bool) -> None:
        """Cancel on AMQP, which pushes, and give back what was pushed; elsewhere nobody asks meanwhile.

        Queues that would be deleted with their last consumer stay.
        """
        if not self._amqp:
            return
        for spec in self._specs:
            if paused and not spec.auto_delete and spec.name in self._tags:
                self._channel.basic_cancel(self._tags.pop(spec.name))
            elif not paused and spec.name not in self._tags:
                self._consume(spec.name)
        if paused and not self._no_ack:
            returned, self._inbox = self._inbox, []
            for delivery in returned:
                self._settle(Settlement(delivery.tag, Settle.REQUEUE))

    def probe(self) -> bool:
        """Say whether messages wait, asked on a channel of its own: a refusal closes the channel."""
        channel = self._connection.channel()
        try:
            return any(channel.queue_declare(queue=spec.name, passive=True).message_count > 0 for spec in self._specs)
        finally:
            channel.close()

    def close(self) -> None:
        """Put back what is not settled: kombu's memory transport would drop it."""
        if self._closed:
            return
        self._closed = True
        for tag in list(self._tags.values()):
            self._channel.basic_cancel(tag)
        self._tags.clear()
        if not self._amqp:
            for tag in self._unsettled:
                self._channel.basic_reject(tag, requeue=True)
        self._unsettled.clear()
        self._channel.close()


def from_amqp(message: Any, queue: str) -> Delivery:
    """Read an ``amqp.Message``."""
    properties = dict(message.properties)
    headers = properties.pop("application_headers", None) or {}
    info = message.delivery_info
    count = headers.get("x-delivery-count")
    body = message.body
    return Delivery(
        body=body.encode() if isinstance(body, str) else bytes(body),
        content_type=properties.pop("content_type", None),
        content_encoding=properties.pop("content_encoding", None),
        headers=headers,
        properties=properties,
        exchange=info.get("exchange") or "",
        routing_key=info.get("routing_key") or "",
        priority=properties.get("priority") or 0,
        redelivered=bool(info.get("redelivered")),
        queue=queue,
        tag=message.delivery_tag,
        deliveries=count + 1 if isinstance(count, int) else None,
    )


def from_virtual(message: RawMessage, queue: str) -> Delivery:
    """Read a message of one of kombu's virtual transports."""
    sent: dict[str, Any] = message.properties
    info = message.delivery_info or {}
    body = message.body
    priority = sent.get("priority")
    return Delivery(
        body=body.encode() if isinstance(body, str) else bytes(body or b""),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        headers=message.sent_headers,
        properties={key: value for key, value in sent.items() if key not in _TRANSPORT_PROPERTIES},
        exchange=info.get("exchange") or "",
        routing_key=info.get("routing_key") or "",
        priority=priority if isinstance(priority, int) else 0,
        redelivered=bool(message._raw.get("redelivered") or info.get("redelivered")),
        queue=queue,
        tag=message.delivery_tag,
        deliveries=None,
    )


def declare_exchange(channel: Any, spec: ExchangeSpec) -> None:
    """Make sure an exchange exists, through any kombu channel; also tells virtual ones of its type."""
    if spec.name and not spec.no_declare:
        channel.exchange_declare(
            exchange=spec.name,
            type=spec.type,
            durable=spec.durable,
            auto_delete=spec.auto_delete,
            arguments=dict(spec.arguments) or None,
        )


class Declared:
    """What was declared on one channel, so that each is declared once. Thread: one at a time."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._known: dict[tuple[bool, str], QueueSpec | ExchangeSpec] = {}

    def once(self, spec: QueueSpec | ExchangeSpec | None) -> None:
        """Declare what was not declared before, or has changed since."""
        if spec is None:
            return
        key = (isinstance(spec, QueueSpec), spec.name)
        known = self._known.get(key)
        if known is spec:
            return
        if known != spec:
            if isinstance(spec, QueueSpec):
                declare_queue(self._channel, spec)
            else:
                declare_exchange(self._channel, spec)
        self._known[key] = spec

    def forget(self) -> None:
        """Declare everything anew, each when it is next needed."""
        self._known.clear()


def declare_queue(channel: Any, spec: QueueSpec) -> None:
    """Make sure a queue, its exchanges and its bindings exist, through any kombu channel."""
    bindings = spec.all_bindings()
    for binding in bindings:
        declare_exchange(channel, binding.exchange)
    if not spec.no_declare:
        channel.queue_declare(
            queue=spec.name,
            durable=spec.durable,
            exclusive=spec.exclusive,
            auto_delete=spec.auto_delete,
            arguments=spec.wire_arguments() or None,
        )
    for binding in bindings:
        channel.queue_bind(
            queue=spec.name,
            exchange=binding.exchange.name,
            routing_key=binding.routing_key,
            arguments=dict(binding.arguments) or None,
        )
