"""kombu's AMQP transport with buffered reads, batches and heartbeats of our own.

Declares and publishes what kombu's stock one does, so stock clients share the queues. Frames of
channels that opsq reads or publishes on go to their ``FrameSink``; all others to py-amqp.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from amqp.exceptions import ConnectionForced
from kombu.transport import pyamqp as _pyamqp

from opsq.broker.amqp.buffered import BufferedTcp, BufferedTls, Frame
from opsq.broker.amqp.delayed import Delays
from opsq.broker.amqp.outlet import AmqpOutlet
from opsq.broker.amqp.source import AmqpSource
from opsq.broker.amqp.standing import AmqpBook
from opsq.broker.topology import QueueSpec

_Connection: Any = _pyamqp.Connection  # untyped
_Transport: Any = _pyamqp.Transport
# A read of 256 kB each; then whoever asked gets what came before more is read.
_READS_AT_ONCE = 4
# The broker sends one each half interval, so this much silence means two were lost.
_SILENT_INTERVALS = 1.1
# Longer than a hiccup of the network; the kernel gives up a peer that takes nothing for this long.
_TCP_USER_TIMEOUT = 18
_USER_TIMEOUT_MS = 10_000

FrameSink = Callable[[int, bytes], bool]
"""Gets type and payload of a frame; says whether it was for it."""


class Connection(_Connection):  # type: ignore[misc]  # Any
    """An AMQP connection.

    sinks: by channel number. delays: which messages wait in the broker (options ``delay_after_s``,
    ``delay_queue_type``). address: for messages, without a password. blocked: the broker has
    stopped reading what is published (memory or disk alarm). Thread: one at a time.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        settings = {_TCP_USER_TIMEOUT: _USER_TIMEOUT_MS, **(options.pop("socket_settings", None) or {})}
        after_s, queue_type = options.pop("delay_after_s", None), options.pop("delay_queue_type", "quorum")
        super().__init__(*args, socket_settings=settings, **options)
        self.delays = None if after_s is None else Delays(after_s, queue_type)
        self.sinks: dict[int, FrameSink] = {}
        self.address = f"broker amqp://{self.host}/{self.virtual_host}"
        self.blocked = False

    def Transport(  # py-amqp's name
        self,
        host: str,
        connect_timeout: float | None,
        ssl: Any = False,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        socket_settings: Any = None,
        **options: Any,
    ) -> Any:
        """Return a socket that reads many frames at once."""
        kind = BufferedTls if ssl else BufferedTcp
        return kind(
            host,
            connect_timeout=connect_timeout,
            ssl=ssl,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            socket_settings=socket_settings,
        )

    def blocking_read(self, timeout: float | None = None) -> bool:
        """Handle one frame, waiting for it if need be; say whether it was a method of py-amqp's."""
        transport = self.transport
        if not transport.frames:
            with transport.having_timeout(timeout):
                transport.receive()
        return bool(transport.frames) and self._dispatch(transport.frames.popleft())

    def pump(self) -> None:
        """Handle everything that has arrived, without waiting.

        Raises: what the broker says when it closes a channel or the connection; OSError.
        """
        transport = self.transport
        for _ in range(_READS_AT_ONCE):
            more = transport.receive_ready()
            self.handle_frames()
            if not more:
                return

    def handle_frames(self) -> None:
        """Handle the frames that are read already."""
        frames = self.transport.frames
        while frames:
            self._dispatch(frames.popleft())

    def _dispatch(self, frame: Frame) -> bool:
        kind, channel, payload = frame
        sink = self.sinks.get(channel)
        if sink is not None and sink(kind, payload):
            return False
        return bool(self.on_inbound_frame(frame))

    def _on_blocked(self, *reason: object) -> None:
        self.blocked = True

    def _on_unblocked(self) -> None:
        self.blocked = False

    def heartbeat_tick(self, rate: int = 2) -> None:
        """Send a heartbeat when nothing else was sent; to be called a few times per interval.

        Raises: ConnectionForced when the broker has been silent for too long.
        """
        if not self.heartbeat:
            return
        now, transport = time.monotonic(), self.transport
        silent_s = now - transport.received_at
        if silent_s > self.heartbeat * _SILENT_INTERVALS:
            transport.connected = False
            raise ConnectionForced(f"it has been silent for {silent_s:.0f} s, more than two heartbeats")
        if now - transport.sent_at >= self.heartbeat / 2:
            self.send_heartbeat()


class Transport(_Transport):  # type: ignore[misc]  # Any
    """``amqp://``."""

    Connection = Connection

    def open_source(self, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> Any:
        """Return the batched stream of deliveries for opsq's consumer."""
        return AmqpSource(self.client.connection, queues, no_ack=no_ack, prefetch=prefetch)

    def open_outlet(self, *, wait: bool, buffer: int) -> Any:
        """Return the batched way out for opsq's publisher."""
        return AmqpOutlet(self.client.connection, wait=wait, buffer=buffer)

    def standing_orders(self) -> AmqpBook:
        """Return the book of standing orders."""
        return AmqpBook(self.client)


class TlsTransport(Transport):
    """``amqps://``. Without options of its own the broker's name is checked too, not only its certificate."""

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        if not client.ssl:
            client.ssl = {"server_hostname": client.hostname or "localhost"}
