"""What a beat does with the remote commands that it hears: those of the schedule, and ping."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from opsq.clock import LamportClock
from opsq.control.addresses import addresses_of
from opsq.control.arguments import checked
from opsq.control.schedules import COMMANDS
from opsq.core.worker.ears import RETRY_MAX_S, SILENT, Ears, Wires
from opsq.errors import OpsqError
from opsq.wire.content import accept_set
from opsq.wire.control import Request
from opsq.wire.limits import Limits

log = logging.getLogger(__name__)

Order = Callable[[str, Mapping[str, Any]], Any]


def beat_ears(app: Any, node: str, order: Order, ping: Callable[[], bool], on_listening: Callable[[], None]) -> Ears:
    """The ears of the beat ``node``, not yet started.

    order: carries out one command and returns the reply; None keeps still. ping: whether a ping is answered.
    on_listening: called each time requests are heard again.
    """

    def answer(request: Request) -> Any:
        if request.method == "ping":
            return {"ok": "pong"} if ping() else SILENT
        command = COMMANDS.get(request.method)
        if command is None:
            return SILENT  # of a worker's; Celery's beat keeps still as well
        try:
            told = order(command.name, checked(command, request.arguments))
        except (OpsqError, TypeError) as error:
            return {"error": str(error)}
        except Exception as error:  # boundary: whoever asked is told; the beat goes on
            log.exception("a remote command failed", extra={"command": request.method})
            return {"error": repr(error)}
        return SILENT if told is None else told

    return Ears(
        _wires(app, node),
        answer,
        lamport=LamportClock(),
        count=lambda what: None,
        on_listening=on_listening,
        thread="opsq-beat-control",
    )


def _wires(app: Any, node: str) -> Wires:
    settings, serializers, addresses = app.settings, app.caller.serializers, addresses_of(app.settings)
    return Wires(
        node=node,
        connect=partial(app.connection, "read"),
        publish=lambda message: app.publisher.publish(message, deadline_s=RETRY_MAX_S),
        addresses=addresses,
        # Several beats of one host share a name; each needs a queue of its own.
        queue=addresses.worker_queue(f"{node}-{uuid.uuid4().hex[:8]}"),
        accept=accept_set(settings.accept_content, serializers),
        limits=Limits(
            max_bytes=settings.message_max_bytes,
            max_decompressed_bytes=settings.message_max_decompressed_bytes,
            max_depth=settings.message_max_depth,
        ),
        serializer=settings.task_serializer,
        serializers=serializers,
    )
