"""The worker's ears for remote commands: a thread and a connection of their own.

Consuming, settling and running do not notice it, and it answers while every slot is busy or the
consuming connection is lost. Requests come through a fanout, so each worker gets every one.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from opsq.broker.connection import BrokerConnection
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, OutMessage
from opsq.control.addresses import Addresses
from opsq.core.worker.handlers import is_for, run
from opsq.core.worker.probes import Probe
from opsq.core.worker.station import Station
from opsq.errors import OpsqError, UsageError, WireError
from opsq.wire.content import Limits
from opsq.wire.control import Reply, Request, encode_reply, parse_request

log = logging.getLogger(__name__)

PREFETCH = 100
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 5.0

Connect = Callable[[], BrokerConnection]
Publish = Callable[[OutMessage], None]


class ControlMailbox:
    """Receives requests, runs them one after the other, sends the replies.

    publish: sends a reply; may raise. accept, limits: what requests may be. Thread: ``start`` and
    ``stop`` from any.
    """

    def __init__(
        self,
        station: Station,
        connect: Connect,
        publish: Publish,
        addresses: Addresses,
        accept: frozenset[str],
        limits: Limits,
        probe: Probe = None,
    ) -> None:
        self._station = station
        self._connect = connect
        self._publish = publish
        self._addresses = addresses
        self._accept = accept
        self._limits = limits
        self._probe = probe
        self._node = station.plan.hostname
        self._serializers = station.plan.app.caller.serializers
        self._stopping = threading.Event()
        self._consumer: Consumer | None = None
        self._thread: threading.Thread | None = None
        self._deaf_once = False

    def start(self) -> None:
        """Start listening in the background."""
        self._thread = threading.Thread(target=self._main, name="opsq-control", daemon=True)
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
        """Carry out what is for this worker. Thread: the mailbox's."""
        for delivery in deliveries:
            request = self._read(delivery)
            if request is None or self._stopping.is_set():
                continue
            command, answer = run(self._station, request)
            silent = command is not None and command.silent and not isinstance(answer, dict)
            if request.reply_to is not None and request.ticket is not None and not silent:
                self._answer(request, answer)

    def _main(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            began_at = time.monotonic()
            try:
                self._listen()
            except OpsqError as exc:
                log.info("remote commands are not heard just now", extra={"error": str(exc)})
            except Exception:  # boundary: a bug here may cost commands, never the worker
                log.exception("listening for remote commands failed and is tried again")
            if time.monotonic() - began_at > RETRY_MAX_S:
                retry_s = RETRY_FIRST_S
            self._stopping.wait(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(RETRY_MAX_S, retry_s * 2)

    def _listen(self) -> None:
        """Connect and receive until stopped. Raises: BrokerUnavailable."""
        connection = self._connect()
        try:
            connection.connect()
            if not connection.supports_fanout:
                log.info("this broker has no broadcasts, so remote commands are not heard")
                self._stopping.wait()
                return
            queue = self._addresses.worker_queue(self._node)
            consumer = Consumer(connection, [queue], on_batch=self.receive, prefetch=PREFETCH, no_ack=True)
            self._consumer = consumer
            consumer.call_soon(self._heard)
            if not self._stopping.is_set():
                consumer.run()
        finally:
            self._consumer = None
            connection.close()

    def _heard(self) -> None:
        log.debug("listening for remote commands")
        if self._deaf_once:
            self._station.read_standing_orders()
        self._deaf_once = True
        if self._probe is not None:
            self._probe("listening", "", None)

    def _read(self, delivery: Delivery) -> Request | None:
        """The request, when it is one and is for this worker."""
        counters = self._station.ledger
        try:
            request = parse_request(
                delivery.body,
                delivery.content_type,
                delivery.content_encoding,
                delivery.headers,
                accept=self._accept,
                limits=self._limits,
                registry=self._serializers,
            )
            if request.clock is not None:
                self._station.lamport.witness(request.clock)
            return request if is_for(request, self._node) else None
        except (WireError, ValueError) as exc:
            counters.count("control_malformed")
            log.warning("a remote command cannot be read", extra={"error": str(exc)})
            return None

    def _answer(self, request: Request, answer: object) -> None:
        reply = Reply(hostname=self._node, value=answer, ticket=request.ticket, clock=self._station.lamport.tick())
        serializer, registry = self._station.settings.task_serializer, self._serializers
        try:
            body, mime, encoding, headers = encode_reply(reply, serializer, registry)
        except UsageError as exc:
            error = Reply(hostname=self._node, value={"error": str(exc)}, ticket=reply.ticket, clock=reply.clock)
            body, mime, encoding, headers = encode_reply(error, serializer, registry)
        assert request.reply_to is not None  # its caller has looked
        message = OutMessage(
            body=body,
            content_type=mime,
            content_encoding=encoding,
            headers=headers,
            properties={"delivery_mode": 1},
            exchange=request.reply_to.exchange,
            routing_key=request.reply_to.routing_key,
            declare=self._addresses.replies if request.reply_to.exchange == self._addresses.replies.name else None,
        )
        try:
            self._publish(message)
        except (OpsqError, OSError) as exc:
            # Usually the one who asked has gone; on Redis its queue is then not bound any more.
            self._station.ledger.count("control_replies_lost")
            log.info("a reply could not be sent", extra={"command": request.method, "error": str(exc)})
