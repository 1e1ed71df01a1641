"""Which commands are standing orders, and how a client writes them into the broker's book.

Used on both sides: a client keeps the order before it tells the workers, so that it counts although none is
there; a worker keeps it when it came from a client that does not know of books, such as Celery's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opsq.broker import standing as book
from opsq.broker.connection import BrokerConnection
from opsq.broker.standing import PAUSED_QUEUE, PAUSED_TASK, REVOKED, STAMP, StandingOrder
from opsq.control.commands import COMMANDS
from opsq.errors import BrokerUnavailable, UsageError

log = logging.getLogger(__name__)


class StandingBook:
    """Writes orders into the broker's book. Thread: any; each write has a connection of its own.

    connect: makes a connection, not yet connected. revoke_s: how long a revocation is kept by default.
    """

    def __init__(self, connect: Callable[[], BrokerConnection], revoke_s: float) -> None:
        self._connect = connect
        self._revoke_s = revoke_s

    def keep(self, command: str, arguments: Mapping[str, Any]) -> bool:
        """Keep what ``command`` orders; false when it is no such command, or could not be kept."""
        row = COMMANDS.get(command)
        if row is None or not row.standing:
            return False
        now = time.time()
        orders = orders_of(command, arguments, now, self._revoke_s)
        if not orders:
            return False
        connection = self._connect()
        try:
            connection.connect()
            return (book.lift if command == "resume" else book.add)(connection, orders, now)
        except BrokerUnavailable as exc:
            # The workers that are there are told all the same.
            log.error("a standing order could not be kept in the broker", extra={"error": str(exc)})
            return False
        finally:
            connection.close()


def orders_of(command: str, arguments: Mapping[str, Any], now: float, revoke_s: float) -> list[StandingOrder]:
    """What a command orders for all workers, also later ones. now: epoch seconds. Raises: UsageError."""
    for_s = arguments.get("for_s")
    if command in ("pause", "resume"):
        until = None if for_s is None else now + float(for_s)
        found = [StandingOrder(PAUSED_QUEUE, each, "", until) for each in texts(arguments.get("queue"))]
        found += [StandingOrder(PAUSED_TASK, each, "", until) for each in texts(arguments.get("task"))]
        if not found:
            raise UsageError(f"{command}: say what: queue=NAME or task=NAME")
        return found
    until = now + float(revoke_s if for_s is None else for_s)
    if command == "revoke_by_stamped_headers":
        stamps = stamps_of_arguments(arguments.get("headers"))
        return [StandingOrder(STAMP, name, value, until) for name, values in stamps.items() for value in values]
    return [StandingOrder(REVOKED, each, "", until) for each in dict.fromkeys(texts(arguments.get("task_id")))]


def texts(given: str | Sequence[str] | None) -> list[str]:
    """One text or several, as a list."""
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def stamps_of_arguments(headers: Any) -> dict[str, list[str]]:
    """Stamps with their values, from ``{name: value or values}`` or ``["name=value"]``. Raises: UsageError."""
    if isinstance(headers, Mapping):
        pairs = [(str(name), value) for name, value in headers.items()]
    elif isinstance(headers, (list, tuple)) and all(isinstance(each, str) and "=" in each for each in headers):
        split = [each.partition("=") for each in headers]
        pairs = [(name, [value for other, _, value in split if other == name]) for name, _, _ in split]
    else:
        raise UsageError(f"headers: expected name → value, or a list of name=value, got {headers!r:.100}")
    return {
        name: [str(each) for each in value] if isinstance(value, (list, tuple, set)) else [str(value)]
        for name, value in pairs
    }
