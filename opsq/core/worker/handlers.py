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

from opsq.control.arguments import checked
from opsq.control.commands import BY_ANY_NAME, Command
from opsq.core.own_commands import own_commands
from opsq.core.worker import answers, log_levels, orders, pausing, revoking, stacks
from opsq.core.worker.replay import replay
from opsq.core.worker.station import Station
from opsq.errors import OpsqError
from opsq.masking import mask
from opsq.wire.control import Request
from opsq.wire.saferepr import saferepr

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
    "revoke": revoking.revoke,
    "terminate": revoking.terminate,
    "revoke_by_stamped_headers": revoking.revoke_by_stamped_headers,
    "enable_events": orders.enable_events,
    "disable_events": orders.disable_events,
    "heartbeat": orders.heartbeat,
    "pool_grow": orders.pool_grow,
    "pool_shrink": orders.pool_shrink,
    "pool_restart": orders.pool_restart,
    "autoscale": orders.autoscale,
    "add_consumer": orders.add_consumer,
    "cancel_consumer": orders.cancel_consumer,
    "replay": replay,
    "shutdown": orders.shutdown,
    "stack": stacks.stack,
    "overrides": pausing.overrides,
    "pause": pausing.pause,
    "resume": pausing.resume,
    "log_level": log_levels.log_level,
    "election": orders.election,
}
"""By name in the table of commands; a test checks that none is missing."""


OFTEN: Final = frozenset({"enable_events", "heartbeat"})
"""Asked for by monitors all the time (by Flower every five seconds): neither logged nor announced."""


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
    own = own_commands(station.app).get(request.method)
    command = own.command if own is not None else BY_ANY_NAME.get(request.method)
    if command is None:
        log.error("an unknown remote command was asked for", extra={"command": request.method[:100]})
        return None, {"error": repr(KeyError(request.method))}
    handler = own.run if own is not None else HANDLERS[command.name]
    # What is for some workers only is no order for those that come later.
    station.kept_already = request.kept or bool(request.destination) or request.pattern is not None
    try:
        arguments = checked(command, request.arguments)
        if command.effect == "write":
            # In the message itself: of several orders, each is to be seen in the log.
            level = logging.DEBUG if command.name in OFTEN else logging.INFO
            log.log(level, "remote command %s %.500r", command.name, mask(arguments))
        answer = handler(station, **arguments)
    except OpsqError as exc:
        answer = {"error": str(exc)}
    except Exception as exc:  # noqa: BLE001 boundary: whoever asked is told; the worker goes on
        log.warning("a remote command failed", extra={"command": command.name, "error": repr(exc)})
        answer = {"error": repr(exc)}
    if command.effect == "write" and not command.hidden and command.name not in OFTEN:
        _announce(station, command, request, answer)
    return command, answer


def _announce(station: Station, command: Command, request: Request, answer: Any) -> None:
    """Have the monitors see that something was changed, and how the worker is now."""
    emitter = station.emitter
    emitter.buffer.put(
        {
            **station.plan.facts(),
            "type": "worker-command",
            "timestamp": station.plan.clock.now(),
            "command": command.name,
            "arguments": saferepr(mask(request.arguments)),
            "answer": saferepr(answer),
        }
    )
    emitter.beat_now()
