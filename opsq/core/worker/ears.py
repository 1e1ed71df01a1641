"""Ears for remote commands: a thread and a connection of their own. A worker has some, and so has a beat.

Consuming, settling and running do not notice them, and they answer while every slot is busy or the consuming
connection is lost. Requests come through a fanout, so each node gets every one.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, OutMessage
from opsq.broker.topology import QueueSpec
from opsq.clock import LamportClock
from opsq.control.addresses import Addresses
from opsq.core.worker.handlers import is_for
from opsq.errors import OpsqError, UsageError, WireError
from opsq.wire.content import ContentRegistry
from opsq.wire.control import Reply, Request, encode_reply, parse_request
from opsq.wire.limits import Limits

log = logging.getLogger(__name__)

PREFETCH: Final = 100
RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0
SILENT: Final = object()
"""What ``Answer`` returns where no reply is to be sent."""

Answer = Callable[[Request], Any]


class Wires(Struct, frozen=True, kw_only=True):
    """How a node hears and answers. publish: sends a reply; may raise. accept, limits: what requests may be.

    queue: its own, where requests arrive. serializer: of replies.
    """

    node: str
    connect: Callable[[], BrokerConnection]
    publish: Callable[[OutMessage], None]
    addresses: Addresses
    queue: QueueSpec
    accept: frozenset[str]
    limits: Limits
    serializer: str
    serializers: ContentRegistry


class Ears:
    """Receives requests, has them answered one after the other, sends the replies.

    answer: carries out a request; must not raise. on_listening: called each time requests are heard again.
    count: takes note of ``control_malformed`` and ``control_replies_lost``. Thread: ``start`` and ``stop`` from any;
    ``answer`` and the others are called in the ears' own.
    """

    def __init__(
        self,
        wires: Wires,
        answer: Answer,
        *,
        lamport: LamportClock,
        count: Callable[[str], object],
        on_listening: Callable[[], None],
        thread: str = "opsq-control",
    ) -> None:
        self._wires = wires
        self._answer = answer
        self._lamport = lamport
        self._count = count
        self._on_listening = on_listening
        self._thread_name = thread
        self._stopping = threading.Event()
        self._consumer: Consumer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen in the background."""
        self._thread = threading.Thread(target=self._main, name=self._thread_name, daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Listen no longer, by ``deadline`` (monotonic seconds). Harmless twice."""
        self._stopping.set()
        consumer, thread = self._consumer, self._thread
        if consumer is not None:
            consumer.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))

    def receive(self, deliveries: Sequence[Delivery]) -> None:
        """Have answered what is for this node. Thread: the ears'."""
        for delivery in deliveries:
            request = self._read(delivery)
            if request is None or self._stopping.is_set():
                continue
            answer = self._answer(request)
            if answer is not SILENT and request.reply_to is not None and request.ticket is not None:
                self._reply(request, answer)

    def _main(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            began_at = time.monotonic()
            try:
                self._listen()
            except OpsqError as exc:
                log.info("remote commands are not heard just now", extra={"error": str(exc)})
            except Exception:  # boundary: a bug here may cost commands, never the work itself
                log.exception("listening for remote commands failed and is tried again")
            if time.monotonic() - began_at > RETRY_MAX_S:
                retry_s = RETRY_FIRST_S
            self._stopping.wait(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(RETRY_MAX_S, retry_s * 2)

    def _listen(self) -> None:
        """Connect and receive until stopped. Raises: BrokerUnavailable."""
        connection = self._wires.connect()
        try:
            connection.connect()
            if not connection.supports_fanout:
                log.info("this broker has no broadcasts, so remote commands are not heard")
                self._stopping.wait()
                return
            queues = [self._wires.queue]
            consumer = Consumer(connection, queues, on_batch=self.receive, prefetch=PREFETCH, no_ack=True)
            self._consumer = consumer
            consumer.call_soon(self._on_listening)
            if not self._stopping.is_set():
                consumer.run()
        finally:
            self._consumer = None
            connection.close()

    def _read(self, delivery: Delivery) -> Request | None:
        """The request, when it is one and is for this node."""
        try:
            request = parse_request(
                delivery.body,
                delivery.content_type,
                delivery.content_encoding,
                delivery.headers,
                accept=self._wires.accept,
                limits=self._wires.limits,
                registry=self._wires.serializers,
            )
            if request.clock is not None:
                self._lamport.witness(request.clock)
            return request if is_for(request, self._wires.node) else None
        except (WireError, ValueError) as exc:
            self._count("control_malformed")
            log.warning("a remote command cannot be read", extra={"error": str(exc)})
            return None

    def _reply(self, request: Request, answer: Any) -> None:
        assert request.reply_to is not None  # its caller has looked
        body, mime, encoding, headers = self._encoded(request, answer)
        replies = self._wires.addresses.replies
        message = OutMessage(
            body=body,
            content_type=mime,
            content_encoding=encoding,
            headers=headers,
            properties={"delivery_mode": 1},
            exchange=request.reply_to.exchange,
            routing_key=request.reply_to.routing_key,
            declare=replies if request.reply_to.exchange == replies.name else None,
        )
        try:
            self._wires.publish(message)
        except (OpsqError, OSError) as exc:
            # Usually the one who asked has gone; on Redis its queue is then not bound any more.
            self._count("control_replies_lost")
            log.info("a reply could not be sent", extra={"command": request.method, "error": str(exc)})

    def _encoded(self, request: Request, answer: Any) -> Any:
        """A reply as bytes; of an answer that has none, the error."""
        wires = self._wires
        reply = Reply(hostname=wires.node, value=answer, ticket=request.ticket, clock=self._lamport.tick())
        try:
            return encode_reply(reply, wires.serializer, wires.serializers)
        except UsageError as exc:
            error = Reply(hostname=wires.node, value={"error": str(exc)}, ticket=reply.ticket, clock=reply.clock)
            return encode_reply(error, wires.serializer, wires.serializers)
