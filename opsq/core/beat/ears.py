"""The beat's ears for remote commands: a thread and a connection of their own, as in the worker."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, OutMessage
from opsq.control.addresses import addresses_of
from opsq.control.arguments import checked
from opsq.control.schedules import COMMANDS
from opsq.core.worker.handlers import is_for
from opsq.errors import OpsqError, UsageError, WireError
from opsq.wire.content import accept_set
from opsq.wire.control import Reply, Request, encode_reply, parse_request
from opsq.wire.limits import Limits

log = logging.getLogger(__name__)

PREFETCH = 100
RETRY_FIRST_S = 0.2
RETRY_MAX_S = 5.0

Answer = Callable[[str, Mapping[str, Any]], Any]


class Ears:
    """Hears requests and answers them. Thread: ``start`` and ``stop`` from any.

    answer: carries out one command and returns the reply; None keeps still. ping: whether a ping is answered.
    on_listening: called each time requests are heard again.
    """

    def __init__(
        self,
        app: Any,
        node: str,
        answer: Answer,
        ping: Callable[[], bool],
        on_listening: Callable[[], None] = lambda: None,
    ) -> None:
        settings = app.settings
        self._app = app
        self._node = node
        self._answer = answer
        self._ping = ping
        self._on_listening = on_listening
        self._addresses = addresses_of(settings)
        self._serializers = app.caller.serializers
        self._accept = accept_set(settings.accept_content, self._serializers)
        self._limits = Limits(
            max_bytes=settings.message_max_bytes,
            max_decompressed_bytes=settings.message_max_decompressed_bytes,
            max_depth=settings.message_max_depth,
        )
        # Several beats of one host share a name; each needs a queue of its own.
        self._queue = self._addresses.worker_queue(f"{node}-{uuid.uuid4().hex[:8]}")
        self._stopping = threading.Event()
        self._consumer: Consumer | None = None
        self._thread: threading.Thread | None = None
        self.malformed = 0

    def start(self) -> None:
        """Listen in the background."""
        self._thread = threading.Thread(target=self._main, name="opsq-beat-control", daemon=True)
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Listen no longer, by ``deadline`` (monotonic seconds). Harmless twice."""
        self._stopping.set()
        consumer, thread = self._consumer, self._thread
        if consumer is not None:
            consumer.stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _main(self) -> None:
        retry_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            began_at = time.monotonic()
            try:
                self._listen()
            except OpsqError as error:
                log.info("remote commands are not heard just now", extra={"error": str(error)})
            except Exception:  # boundary: a bug here may cost commands, never the schedule
                log.exception("listening for remote commands failed and is tried again")
            if time.monotonic() - began_at > RETRY_MAX_S:
                retry_s = RETRY_FIRST_S
            self._stopping.wait(retry_s * random.uniform(0.5, 1.0))
            retry_s = min(RETRY_MAX_S, retry_s * 2)

    def _listen(self) -> None:
        connection = self._app.connection("read")
        try:
            connection.connect()
            if not connection.supports_fanout:
                log.info("this broker has no broadcasts, so remote commands are not heard")
                self._stopping.wait()
                return
            consumer = Consumer(connection, [self._queue], on_batch=self._receive, prefetch=PREFETCH, no_ack=True)
            self._consumer = consumer
            consumer.call_soon(self._on_listening)
            if not self._stopping.is_set():
                consumer.run()
        finally:
            self._consumer = None
            connection.close()

    def _receive(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            request = self._read(delivery)
            if request is None or self._stopping.is_set():
                continue
            answer = self._carry_out(request)
            if answer is not None and request.reply_to is not None and request.ticket is not None:
                self._reply(request, answer)

    def _read(self, delivery: Delivery) -> Request | None:
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
            return request if is_for(request, self._node) else None
        except (WireError, ValueError) as error:
            self.malformed += 1
            log.warning("a remote command cannot be read", extra={"error": str(error)})
            return None

    def _carry_out(self, request: Request) -> Any:
        if request.method == "ping":
            return {"ok": "pong"} if self._ping() else None
        command = COMMANDS.get(request.method)
        if command is None:
            return None  # of a worker's; Celery's beat keeps still as well
        try:
            return self._answer(command.name, checked(command, request.arguments))
        except (OpsqError, TypeError) as error:
            return {"error": str(error)}
        except Exception as error:  # boundary: whoever asked is told; the beat goes on
            log.exception("a remote command failed", extra={"command": request.method})
            return {"error": repr(error)}

    def _reply(self, request: Request, answer: Any) -> None:
        reply = Reply(hostname=self._node, value=answer, ticket=request.ticket, clock=0)
        serializer = self._app.settings.task_serializer
        try:
            body, mime, encoding, headers = encode_reply(reply, serializer, self._serializers)
        except UsageError as error:
            told = Reply(hostname=self._node, value={"error": str(error)}, ticket=request.ticket, clock=0)
            body, mime, encoding, headers = encode_reply(told, serializer, self._serializers)
        assert request.reply_to is not None  # its caller has looked
        ours = request.reply_to.exchange == self._addresses.replies.name
        message = OutMessage(
            body=body,
            content_type=mime,
            content_encoding=encoding,
            headers=headers,
            properties={"delivery_mode": 1},
            exchange=request.reply_to.exchange,
            routing_key=request.reply_to.routing_key,
            declare=self._addresses.replies if ours else None,
        )
        try:
            self._app.publisher.publish(message, deadline_s=RETRY_MAX_S)
        except (OpsqError, OSError) as error:
            # Usually the one who asked has gone.
            log.info("a reply could not be sent", extra={"command": request.method, "error": str(error)})
