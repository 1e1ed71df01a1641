"""Where a message goes: from exchange and routing key to lists and channels.

Bindings are read from Redis, where kombu keeps them, and remembered for a second: a queue that
another process binds is served after that, and one that is missing is looked for again before a
message is dropped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

from opsq.broker.redis.keys import Keys
from opsq.broker.redis.wire import Wire

REMEMBER_S = 1.0
_REMEMBERED_KEYS = 1_024


class _Table(Struct, frozen=True):
    read_at: float
    bindings: tuple[tuple[str, str, str], ...]
    by_key: dict[str, tuple[str, ...]]


class Routes:
    """declared: kombu's table of the exchanges this process has declared. Thread: one at a time."""

    def __init__(self, wire: Wire, keys: Keys, declared: Mapping[str, Mapping[str, Any]]) -> None:
        self._wire = wire
        self._keys = keys
        self._declared = declared
        self._tables: dict[str, _Table] = {}
        self._types: dict[str, str] = {}

    def exchange_type(self, exchange: str) -> str:
        """Return what kind of exchange it is; direct when nobody ever said."""
        mine = self._declared.get(exchange)
        if mine is not None:
            return str(mine["type"])
        known = self._types.get(exchange)
        if known is None:
            stored = self._wire.call("HGET", self._keys.exchange_types, exchange)
            known = stored.decode() if stored else ""
            if known:
                self._types[exchange] = known
        return known or "direct"

    def queues(self, exchange: str, routing_key: str) -> tuple[str, ...]:
        """Return the queues that a message for an exchange, not a fanout one, goes to."""
        table = self._tables.get(exchange)
        if table is None or time.monotonic() - table.read_at > REMEMBER_S:
            table = self._read(exchange)
            return _match(table, routing_key, self.exchange_type(exchange))
        found = _match(table, routing_key, self.exchange_type(exchange))
        return found or _match(self._read(exchange), routing_key, self.exchange_type(exchange))

    def forget(self) -> None:
        """Read every table again: something was bound here."""
        self._tables.clear()

    def _read(self, exchange: str) -> _Table:
        members = self._wire.call("SMEMBERS", self._keys.binding(exchange)) or []
        parts = [member.decode(errors="replace").split(self._keys.sep) for member in members]
        bindings = tuple((part[0], part[1], part[2]) for part in sorted(parts) if len(part) == 3)
        table = self._tables[exchange] = _Table(time.monotonic(), bindings, {})
        return table


def _match(table: _Table, routing_key: str, kind: str) -> tuple[str, ...]:
    found = table.by_key.get(routing_key)
    if found is None:
        if kind == "topic":
            hits = [queue for _, pattern, queue in table.bindings if _compiled(pattern).match(routing_key)]
        else:
            hits = [queue for key, _, queue in table.bindings if key == routing_key]
        found = tuple(dict.fromkeys(hits))
        if len(table.by_key) < _REMEMBERED_KEYS:
            table.by_key[routing_key] = found
    return found


@lru_cache(maxsize=1_024)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error:
        return re.compile(r"(?!)")  # written by somebody else, matches nothing
