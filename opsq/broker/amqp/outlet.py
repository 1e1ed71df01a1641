"""Publishing to RabbitMQ: many messages in one write, confirmed together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from opsq.broker.amqp import frames
from opsq.broker.amqp.delayed import DELAYS, Delays, bind_to_ladder, declare_ladder, delayed
from opsq.broker.amqp.faults import told
from opsq.broker.amqp.inbox import Assembler
from opsq.broker.confirms import Confirms
from opsq.broker.faults import BrokerUnusable
from opsq.broker.kombu_source import Declared
from opsq.broker.message import OutMessage
from opsq.broker.topology import QueueSpec
from opsq.broker.wake import readable
from opsq.errors import BrokerUnavailable

# Frames of this many messages go out in one write; confirms are read in between.
_AT_ONCE = 256
# A broker that is reachable confirms within milliseconds; after this much silence another connection is tried.
_SILENCE_S = 8.0


class AmqpOutlet:
    """A channel in confirm mode.

    wait: ``send`` returns when the broker confirmed everything; otherwise up to ``buffer`` messages
    may be on their way. A message whose queue was deleted behind our back comes back from the broker
    (it is sent as mandatory); then the queue is declared anew and the message sent once more.
    Thread: one at a time.
    """

    def __init__(self, connection: Any, *, wait: bool, buffer: int) -> None:
        self._connection = connection
        self._wait = wait
        self._buffer = max(buffer, 1)
        self._confirms = Confirms()
        self._delays: Delays | None = connection.delays
        self._bound: set[str] = set()
        self._assembler = Assembler(self._returned)
        self._homeless: list[OutMessage] = []
        with told(connection):
            self._channel = connection.channel()
            self._channel.confirm_select()
        self._declared = Declared(self._channel)
        self._number: int = self._channel.channel_id
        connection.sinks[self._number] = self._frame

    def send(self, messages: Sequence[OutMessage], timeout_s: float | None) -> int:
        """Send, and wait for the confirms of all of them together."""
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        with told(self._connection):
            for start in range(0, len(messages), _AT_ONCE):
                self._write(messages[start : start + _AT_ONCE])
                if len(self._confirms) >= self._buffer:
                    self._await(self._buffer // 2, give_up_at)
                elif not self._wait or len(messages) > _AT_ONCE:
                    self._connection.pump()
            if self._wait:
                self._await(0, give_up_at)
            self._settle_accounts(give_up_at)
        return 0

    def flush(self, timeout_s: float | None) -> None:
        """Wait until the broker has everything."""
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        with told(self._connection):
            self._await(0, give_up_at)
            self._settle_accounts(give_up_at)

    def unconfirmed(self) -> list[OutMessage]:
        """Return what was sent and not confirmed, oldest first."""
        return [*self._homeless, *self._confirms.refused, *self._confirms.unconfirmed()]

    def _write(self, messages: Sequence[OutMessage]) -> None:
        parts = []
        for message in messages:
            self._declared.once(message.declare)
            if "eta" in message.headers and self._delays is not None:
                message = self._delayed(message, self._delays)
            mandatory = isinstance(message.declare, QueueSpec)
            parts.append(frames.publish(self._number, message, self._connection.frame_max, mandatory=mandatory))
        for message in messages:  # noted before the write: what fails in the middle may have arrived or not
            self._confirms.sent(message)
        self._connection.transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def _delayed(self, message: OutMessage, delays: Delays) -> OutMessage:
        """Return the message as it is to be sent: by the ladder of delays when its time is far away."""
        later = delayed(message, delays, time.time())
        spec = message.declare
        if later is None or not isinstance(spec, QueueSpec):
            return message
        if not self._bound:
            declare_ladder(self._channel, delays)
        if spec.name not in self._bound:
            bind_to_ladder(self._channel, spec)
            self._bound.add(spec.name)
        return later

    # ---- what the broker says

    def _frame(self, kind: int, payload: bytes) -> bool:
        if kind != frames.METHOD:
            return self._assembler.add(kind, payload)
        method = payload[:4]
        if method == frames.ACK:
            self._confirms.on_ack(*frames.read_confirm(payload))
        elif method == frames.NACK:
            self._confirms.on_nack(*frames.read_confirm(payload))
        elif method == frames.RETURN:
            self._assembler.begin(payload)
        else:
            return False
        return True

    def _returned(self, method: bytes, header: bytes, body: bytes) -> None:
        """A message reached no queue. It is still unconfirmed: the broker confirms it after returning it."""
        exchange, routing_key = frames.read_return(method)
        for message in self._confirms.unconfirmed():
            came_from = exchange == DELAYS or (message.exchange, message.routing_key) == (exchange, routing_key)
            if came_from and message.body == body:
                self._homeless.append(message)
                return

    def _settle_accounts(self, give_up_at: float | None) -> None:
        """Send returned messages once more, their queue declared anew. Raises: BrokerUnavailable for refused ones."""
        refused = self._confirms.refused
        if refused:  # kept there: whoever drops this connection sends them again
            raise BrokerUnavailable(
                f"{self._connection.address} refused {len(refused)} messages, the first for "
                f"{refused[0].routing_key!r}; look for a full queue (x-overflow: reject-publish) "
                "or a resource alarm on the broker"
            )
        if not self._homeless:
            return
        again, self._homeless = self._homeless, []
        self._declared.forget()
        self._bound.clear()
        self._write(again)
        self._await(0, give_up_at)
        if self._homeless:
            lost = self._homeless[0]
            self._homeless = []
            raise BrokerUnusable(
                f"{self._connection.address} has no queue for exchange {lost.exchange!r} and routing key "
                f"{lost.routing_key!r}, though {getattr(lost.declare, 'name', '')!r} was declared; "
                "check the queue's bindings"
            )

    def _await(self, open_at_most: int, give_up_at: float | None) -> None:
        """Read until at most so many are unconfirmed. Raises: BrokerUnavailable when it takes too long."""
        silent_since = time.monotonic()
        self._read_until(lambda: len(self._confirms) <= open_at_most, give_up_at, silent_since)

    def _read_until(self, done: Callable[[], bool], give_up_at: float | None, silent_since: float) -> None:
        transport = self._connection.transport
        descriptor = transport.sock.fileno()
        self._connection.handle_frames()
        while not done():
            now = time.monotonic()
            quiet_s = now - max(silent_since, transport.received_at)
            if give_up_at is not None and now >= give_up_at:
                raise BrokerUnavailable(self._late("in time"))
            if quiet_s >= _SILENCE_S and not self._connection.blocked:
                raise BrokerUnavailable(self._late(f"for {quiet_s:.0f} s"))
            wait_s = 1.0 if give_up_at is None else min(1.0, give_up_at - now)
            readable((descriptor,), wait_s)
            self._connection.pump()

    def _late(self, how_long: str) -> str:
        count = len(self._confirms)
        if self._connection.blocked:
            return (
                f"{self._connection.address} has stopped taking messages because of a memory or disk alarm, "
                f"{count} unconfirmed; free memory or disk on the broker (rabbitmq-diagnostics alarms)"
            )
        return f"{self._connection.address} did not confirm {count} messages {how_long}; check its load and the network"
