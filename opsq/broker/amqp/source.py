"""RabbitMQ for opsq's consumer: deliveries in batches, acknowledgements in one write."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from amqp.exceptions import ResourceLocked

from opsq.broker.amqp import frames
from opsq.broker.amqp.acks import Unsettled
from opsq.broker.amqp.delayed import LADDER
from opsq.broker.amqp.faults import told
from opsq.broker.amqp.inbox import Assembler
from opsq.broker.kombu_source import declare_queue
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.topology import QueueSpec

log = logging.getLogger(__name__)

CHORES_S = 1.0
# Up to here each change of the prefetch is told; above only changes of a quarter.
_SMALL_PREFETCH = 64
# The broker pushes to a reader without acknowledgements as fast as it can; more than this waits in the socket.
_FULL = 4_096
# With the watch of ten seconds before it, a silent broker is given up within fifteen.
_PROBE_S = 3.0
# Two heartbeats of the broker are missing already: what is asked now is a formality.
_PROBE_SILENT_S = 1.0


class AmqpSource:
    """One consumer of any number of queues, on a channel of its own. Thread: the owner's.

    Quorum queues, and RabbitMQ from 4.0 on, limit each consumer by itself, and a changed limit counts
    only for consumers made later; so there the consumers are made anew when it has doubled or halved.
    """

    watchable = True
    poll_s = CHORES_S

    def __init__(self, connection: Any, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> None:
        self._connection = connection
        self._no_ack = no_ack
        self._inbox: list[Delivery] = []
        self._queues: dict[str, str] = {}  # by consumer tag
        self._specs: dict[str, QueueSpec] = {}
        self._lost: list[str] = []
        self._locked: dict[str, QueueSpec] = {}
        self._made = 0
        self._prefetch = 0
        self._paused = self._closed = False
        self._channel = connection.channel()
        self._number: int = self._channel.channel_id
        self._unsettled = Unsettled(self._number)
        self._assembler = Assembler(self._received)
        self._per_consumer = _is_per_consumer(connection) or any(map(is_quorum, queues))
        connection.sinks[self._number] = self._frame
        self.limit(prefetch)
        self.set_queues(queues)

    # ---- the hot path

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle in one write, then take what has arrived."""
        with told(self._connection):
            if settlements and not self._no_ack:
                self._send(self._unsettled.settle(settlements))
            if len(self._inbox) < room:
                self._connection.pump()
            if self._lost:
                self._consume_again()
        batch = self._inbox[:room]
        del self._inbox[:room]
        return batch

    def _send(self, data: bytes) -> None:
        if data:
            self._connection.transport.write(data)

    def _frame(self, kind: int, payload: bytes) -> bool:
        if kind != frames.METHOD:
            return self._assembler.add(kind, payload)
        method = payload[:4]
        if method == frames.DELIVER:
            self._assembler.begin(payload)
            return True
        if method == frames.CANCEL:
            self._cancelled(payload)
            return True
        return False

    def _received(self, method: bytes, header: bytes, body: bytes) -> None:
        delivery = frames.read_delivery(method, header, body, self._queues)
        spec = self._specs.get(delivery.queue or "")
        if spec is not None and is_quorum(spec):
            count = delivery.headers.get("x-delivery-count")
            delivery.deliveries = count + 1 if isinstance(count, int) else 1
        if delivery.exchange.startswith(LADDER) and delivery.queue:
            # Came by the ladder of delays; a retry goes straight to its queue, not by the same key again.
            delivery.exchange, delivery.routing_key = "", delivery.queue
        if not self._no_ack:
            self._unsettled.add(delivery.tag)
        self._inbox.append(delivery)

    def filenos(self) -> list[int]:
        """Return the socket."""
        return [self._connection.sock.fileno()]

    def woken(self) -> None:
        """Do nothing: the exchange reads the socket."""

    def keepalive(self) -> float:
        """Send a heartbeat if it is time, and give up a broker that is silent."""
        with told(self._connection):
            if len(self._inbox) < _FULL:
                self._connection.pump()  # the broker's heartbeats also count while there is no room
            self._connection.heartbeat_tick()
            for spec in list(self._locked.values()):
                if spec.name in self._specs:
                    self._begin(spec)
        return min(CHORES_S, (self._connection.heartbeat or CHORES_S * 4) / 4)

    # ---- limits

    def limit(self, prefetch: int) -> None:
        """Tell the broker, without waiting for its answer."""
        if prefetch == self._prefetch or self._no_ack:
            return
        with told(self._connection):
            if self._per_consumer:
                self._limit_consumers(prefetch)
            elif prefetch <= _SMALL_PREFETCH or abs(prefetch - self._prefetch) * 4 >= self._prefetch:
                self._send(frames.qos(self._number, prefetch, shared=True))
                self._prefetch = prefetch

    def _limit_consumers(self, prefetch: int) -> None:
        first = not self._prefetch
        if not first and self._prefetch < prefetch * 2 and prefetch < self._prefetch * 2:
            return
        self._prefetch = prefetch
        self._send(frames.qos(self._number, prefetch, shared=False))
        if not first and not self._paused:
            for tag, name in list(self._queues.items()):
                self._consume(self._specs[name])
                self._channel.basic_cancel(tag)
                del self._queues[tag]

    # ---- queues

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and consume these queues, cancel the others."""
        wanted = {spec.name: spec for spec in queues}
        with told(self._connection):
            for tag, name in list(self._queues.items()):
                if name not in wanted:
                    self._channel.basic_cancel(tag)
                    del self._queues[tag]
            reading = set(self._queues.values())
            self._specs = wanted
            for spec in queues:
                if spec.name not in reading:
                    self._begin(spec)

    def _begin(self, spec: QueueSpec) -> None:
        if spec.exclusive and not self._is_ours(spec):
            return
        declare_queue(self._channel, spec)
        if not self._paused or spec.auto_delete:
            self._consume(spec)

    def _is_ours(self, spec: QueueSpec) -> bool:
        """Try to make an exclusive queue ours, on a channel of its own: a refusal closes the channel.

        After a half-open connection the broker holds the old one, with its private queues, for up to
        two heartbeats more. The other queues must not wait for that.
        """
        channel = self._connection.channel()
        try:
            declare_queue(channel, spec)
        except ResourceLocked:
            if spec.name not in self._locked:
                log.warning(
                    "a private queue belongs to another connection, trying again each second; if it stays so, "
                    "another process runs under the same name",
                    extra={"queue": spec.name},
                )
            self._locked[spec.name] = spec
            return False
        self._locked.pop(spec.name, None)
        channel.close()
        return True

    def _consume(self, spec: QueueSpec) -> None:
        self._made += 1
        tag = f"opsq-{self._made}"
        self._queues[tag] = spec.name  # before the answer: deliveries may come with it
        self._channel.basic_consume(queue=spec.name, consumer_tag=tag, no_ack=self._no_ack)

    def _cancelled(self, payload: bytes) -> None:
        """The broker took a queue away: deleted by somebody, or its leader moved."""
        tag, _ = frames.short_text(payload, 4)
        name = self._queues.pop(tag, None)
        if name is not None:
            self._lost.append(name)

    def _consume_again(self) -> None:
        lost, self._lost = self._lost, []
        for name in lost:
            spec = self._specs.get(name)
            if spec is not None and name not in self._queues.values():
                self._begin(spec)

    def pause(self, paused: bool) -> None:
        """Cancel and give back what was pushed, or consume again.

        Queues that would be deleted with their last consumer stay.
        """
        self._paused = paused
        with told(self._connection):
            if not paused:
                reading = set(self._queues.values())
                for spec in self._specs.values():
                    if spec.name not in reading and spec.name not in self._locked:
                        self._consume(spec)
                return
            for tag, name in list(self._queues.items()):
                if not self._specs[name].auto_delete:
                    self._channel.basic_cancel(tag)
                    del self._queues[tag]
            if not self._no_ack:
                returned, self._inbox = self._inbox, []
                given_back = [Settlement(each.tag, Settle.REQUEUE) for each in returned]
                self._send(self._unsettled.settle(given_back))

    def probe(self) -> bool:
        """Say whether messages wait, asked on a channel of its own: a refusal closes the channel.

        Raises: TimeoutError when the broker does not answer, which is what this is to find out.
        """
        transport, heartbeat_s = self._connection.transport, self._connection.heartbeat
        silent = bool(heartbeat_s) and time.monotonic() - transport.received_at >= heartbeat_s * 0.9
        try:
            with told(self._connection), transport.having_timeout(_PROBE_SILENT_S if silent else _PROBE_S):
                channel = self._connection.channel()
                waiting = any(
                    channel.queue_declare(queue=name, passive=True).message_count > 0
                    for name, spec in self._specs.items()
                    if not spec.exclusive
                )
                channel.close()
        except TimeoutError:
            transport.connected = False
            raise
        return waiting

    def close(self) -> None:
        """Close the channel: the broker takes back what is not settled.

        Raises: ConnectionResetError when the connection is known to be broken; a goodbye over it
        would only be waited for.
        """
        if self._closed:
            return
        self._closed = True
        if not self._connection.connected:
            raise ConnectionResetError("the connection to the broker is broken")
        with told(self._connection):
            self._channel.close()
        self._connection.sinks.pop(self._number, None)


def is_quorum(spec: QueueSpec) -> bool:
    """Say whether a queue is declared as a quorum queue."""
    return spec.arguments.get("x-queue-type") == "quorum"


def _is_per_consumer(connection: Any) -> bool:
    """Say whether this broker has no limits for a whole channel. Source: RabbitMQ 4.0 release notes."""
    properties: Mapping[str, Any] = connection.server_properties
    major = str(properties.get("version") or "0").partition(".")[0]
    return properties.get("product") == "RabbitMQ" and major.isdigit() and int(major) >= 4
