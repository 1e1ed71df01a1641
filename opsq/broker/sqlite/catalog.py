"""Exchanges, queues and bindings of the embedded broker, shared by every process on the file.

Each change moves ``topology.version``; readers keep what they know until the number differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from opsq.broker.faults import BrokerUnusable
from opsq.broker.sqlite.database import Database
from opsq.broker.sqlite.envelope import label
from opsq.broker.sqlite.routes import Route, matching
from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.clock import Clock

_ROUTES_KEPT = 10_000
_EXCHANGE_TYPES = frozenset({"direct", "topic", "fanout"})


class Catalog:
    """What exists and what leads where. Thread: that of the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self._version = -1
        self._types: dict[str, str] = {}
        self._routes: dict[str, list[Route]] = {}
        self._ids: dict[str, int] = {}
        self._found: dict[tuple[str, str], tuple[str, ...]] = {}

    def declare(self, spec: QueueSpec) -> None:
        """Make sure the queue, its exchanges and its bindings exist; writes only when they do not."""
        for binding in spec.all_bindings():
            if not binding.exchange.no_declare:
                self.declare_exchange(binding.exchange)
        if not spec.no_declare:
            self.declare_queue(spec)
        for binding in spec.all_bindings():
            self.bind(spec.name, binding.exchange.name, binding.routing_key, binding.arguments)

    def declare_exchange(self, spec: ExchangeSpec) -> None:
        """Create an exchange. Raises: BrokerUnusable when it exists with another type."""
        if not spec.name:
            return
        if spec.type not in _EXCHANGE_TYPES:
            raise BrokerUnusable(
                f"exchange {spec.name!r}: the embedded broker has no exchanges of type {spec.type!r}; "
                "use direct, topic or fanout"
            )
        self.refresh()
        present = self._types.get(spec.name)
        if present is None:
            self._db.execute(
                "INSERT OR IGNORE INTO exchange VALUES (?, ?, ?, ?, ?)",
                (spec.name, spec.type, spec.durable, spec.auto_delete, _json(spec.arguments)),
            )
        elif present != spec.type:
            raise BrokerUnusable(
                f"exchange {spec.name!r} exists with type {present}, it cannot be declared as {spec.type}; "
                "use another name, or delete it first"
            )

    def declare_queue(self, spec: QueueSpec) -> None:
        """Create a queue, or bring its limits up to date."""
        wanted = spec.wire_arguments()
        arguments = _json(wanted)
        row = self._db.execute("SELECT arguments, expires_s FROM queue WHERE name = ?", (spec.name,)).fetchone()
        if row is not None and row[0] == arguments and row[1] is None:
            return
        self._db.execute(
            "INSERT INTO queue (name, label, durable, auto_delete, exclusive, ttl_s, expires_s, max_length, arguments,"
            " used_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET ttl_s = excluded.ttl_s,"
            " expires_s = excluded.expires_s, max_length = excluded.max_length, arguments = excluded.arguments,"
            " used_at = excluded.used_at",
            (
                spec.name,
                label(spec.name),
                spec.durable,
                spec.auto_delete,
                spec.exclusive,
                _seconds(wanted.get("x-message-ttl")),
                _seconds(wanted.get("x-expires")),
                wanted.get("x-max-length"),
                arguments,
                self._clock.now(),
            ),
        )

    def bind(self, queue: str, exchange: str, routing_key: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Let ``exchange`` feed ``queue``. Raises: BrokerUnusable when one of them does not exist."""
        if not exchange:
            return
        self.refresh()
        if exchange not in self._types:
            raise BrokerUnusable(
                f"queue {queue!r} cannot be bound: there is no exchange {exchange!r}; declare it first"
            )
        if queue not in self._ids:
            raise BrokerUnusable(
                f"queue {queue!r} cannot be bound to {exchange!r}: it does not exist; declare it first"
            )
        if Route(routing_key, queue) in self._routes.get(exchange, ()):
            return
        self._db.execute(
            "INSERT OR IGNORE INTO binding SELECT ?, ?, id, ? FROM queue WHERE name = ?",
            (exchange, routing_key, _json(arguments or {}), queue),
        )

    def unbind(self, queue: str, exchange: str, routing_key: str) -> None:
        """Stop ``exchange`` feeding ``queue`` by that key; nothing happens when it did not."""
        self._db.execute(
            "DELETE FROM binding WHERE exchange = ? AND routing_key = ?"
            " AND queue = (SELECT id FROM queue WHERE name = ?)",
            (exchange, routing_key, queue),
        )

    def delete_exchange(self, name: str) -> None:
        """Remove an exchange and its bindings; the queues stay."""
        with self._db.transaction():
            self._db.execute("DELETE FROM binding WHERE exchange = ?", (name,))
            self._db.execute("DELETE FROM exchange WHERE name = ?", (name,))

    def delete_queue(self, name: str) -> None:
        """Remove a queue with everything in it."""
        with self._db.transaction():
            row = self._db.execute("SELECT id FROM queue WHERE name = ?", (name,)).fetchone()
            if row is not None:
                self.drop(row[0])

    def drop(self, queue: int) -> None:
        """Remove a queue by id inside the caller's transaction, then exchanges that lived for it."""
        for sql in (
            "DELETE FROM message WHERE id IN (SELECT id FROM ready WHERE queue = ?)",
            "DELETE FROM ready WHERE queue = ?",
            "DELETE FROM message WHERE id IN (SELECT id FROM leased WHERE queue = ?)",
            "DELETE FROM leased WHERE queue = ?",
            "DELETE FROM consuming WHERE queue = ?",
            "DELETE FROM exchange WHERE auto_delete AND name IN (SELECT exchange FROM binding WHERE queue = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM binding b WHERE b.exchange = exchange.name AND b.queue <> ?1)",
            "DELETE FROM binding WHERE queue = ?",
            "DELETE FROM queue WHERE id = ?",
        ):
            self._db.execute(sql, (queue,))

    def refresh(self) -> int:
        """Read the topology again when somebody changed it; return its version."""
        version = int(self._db.execute("SELECT version FROM topology").fetchone()[0])
        if version != self._version:
            self._load()
            self._version = version
        return version

    def _load(self) -> None:
        self._found.clear()
        self._types = dict(self._db.execute("SELECT name, type FROM exchange").fetchall())
        self._ids = dict(self._db.execute("SELECT name, id FROM queue").fetchall())
        self._routes = {}
        bindings = self._db.execute(
            "SELECT b.exchange, b.routing_key, q.name FROM binding b JOIN queue q ON q.id = b.queue"
        )
        for exchange, routing_key, queue in bindings.fetchall():
            self._routes.setdefault(exchange, []).append(Route(routing_key, queue))

    def route(self, exchange: str, routing_key: str) -> tuple[str, ...]:
        """Return the queues a message reaches, by what was last read; the default exchange names one."""
        if not exchange:
            return (routing_key,) if routing_key in self._ids else ()
        key = (exchange, routing_key)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _ROUTES_KEPT:  # reply queues make a new key each
                self._found.clear()
            found = matching(self._types.get(exchange, "direct"), self._routes.get(exchange, ()), routing_key)
            self._found[key] = found
        return found

    def queue_id(self, name: str) -> int | None:
        """Return the id of a queue by what was last read; ``None`` when there is none."""
        return self._ids.get(name)

    def queue_ids(self) -> Mapping[str, int]:
        """Return every queue with its id by what was last read."""
        return self._ids

    def exchange_type(self, name: str) -> str | None:
        """Return the type of an exchange by what was last read; ``None`` when there is none."""
        return self._types.get(name)

    def bindings(self) -> list[tuple[str, str, str]]:
        """Return (queue, exchange, routing key) of every binding by what was last read."""
        return [(route.queue, name, route.routing_key) for name, routes in self._routes.items() for route in routes]


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(dict(value), order="sorted").decode()


def _seconds(milliseconds: Any) -> float | None:
    return None if milliseconds is None else float(milliseconds) / 1000.0
