"""Which function answers which remote command, and what becomes of a request that cannot be answered.

A handler is a function of the ``Station`` and of the arguments in the table of commands; what it
returns is the reply. Source: kombu's pidbox, Celery protocol C.3.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from opsq.control.commands import BY_ANY_NAME, Command, checked
from opsq.core.worker import answers, orders
from opsq.core.worker.station import Station
from opsq.errors import OpsqError
from opsq.wire.control import Request

log = logging.getLogger(__name__)

Handler = Callable[..., Any]

HANDLERS: Final[Mapping[str, Handler]] = {
    "ping": answers.ping,
    "clock": answers.clock,
    "report": answers.report,
    "conf": answers.conf,
    "stats": answers.stats,
    "active": answers.active,
    "reserved": answers.reserved,
    "scheduled": answers.scheduled,
    "revoked": answers.revoked,
    "registered": answers.registered,
    "active_queues": answers.active_queues,
    "query_task": answers.query_task,
    "memsample": answers.memsample,
    "memdump": answers.memdump,
    "objgraph": answers.objgraph,
    "hello": answers.hello,
    "rate_limit": orders.rate_limit,
    "time_limit": orders.time_limit,
    "revoke": orders.revoke,
    "terminate": orders.terminate,
    "revoke_by_stamped_headers": orders.revoke_by_stamped_headers,
    "enable_events": orders.enable_events,
    "disable_events": orders.disable_events,
    "heartbeat": orders.heartbeat,
    "pool_grow": orders.pool_grow,
    "pool_shrink": orders.pool_shrink,
    "pool_restart": orders.pool_restart,
    "autoscale": orders.autoscale,
    "add_consumer": orders.add_consumer,
    "cancel_consumer": orders.cancel_consumer,
    "shutdown": orders.shutdown,
    "election": orders.election,
}
"""By name in the table of commands; a test checks that none is missing."""


def is_for(request: Request, node: str) -> bool:
    """Whether ``node`` is meant: by destination, else by pattern, else everybody is.

    Raises: ValueError for a matcher that nobody knows or a pattern that is none.
    """
    if request.destination:
        return node in request.destination
    if request.pattern is None or request.matcher is None:
        return True
    if request.matcher == "glob":
        return fnmatchcase(node, request.pattern)
    if request.matcher == "pcre":
        try:
            return re.match(request.pattern, node) is not None
        except re.error as exc:
            raise ValueError(f"{request.pattern!r} is no regular expression: {exc}") from exc
    raise ValueError(f"matcher: expected glob or pcre, got {request.matcher!r}")


def run(station: Station, request: Request) -> tuple[Command | None, Any]:
    """Carry ``request`` out; the command, None when there is none of that name, and the reply. Never raises."""
    command = BY_ANY_NAME.get(request.method)
    if command is None:
        log.error("an unknown remote command was asked for", extra={"command": request.method[:100]})
        return None, {"error": repr(KeyError(request.method))}
    try:
        arguments = checked(command, request.arguments)
        if command.effect == "write":
            # In the message itself: of several orders, each is to be seen in the log.
            log.info("remote command %s %.500r", command.name, arguments)
        return command, HANDLERS[command.name](station, **arguments)
    except OpsqError as exc:
        return command, {"error": str(exc)}
    except Exception as exc:  # noqa: BLE001 boundary: whoever asked is told; the worker goes on
        log.warning("a remote command failed", extra={"command": command.name, "error": repr(exc)})
        return command, {"error": repr(exc)}
