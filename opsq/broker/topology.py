"""Exchanges and queues as values: what they are called and how they are declared.

Nothing here talks to a broker and nothing here imports kombu; objects made with kombu are read by
their attributes (``from_kombu``), because users put ``kombu.Queue`` into ``task_queues``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from opsq.errors import ConfigError
from opsq.settings import Settings

EXCHANGE_TYPES = frozenset({"direct", "topic", "fanout", "headers"})


class ExchangeSpec(Struct, frozen=True, kw_only=True):
    """An exchange. The name ``""`` is the default exchange: it exists and is never declared.

    no_declare: somebody else creates it. delivery_mode: 1 transient, 2 persistent, for messages
    whose call does not say.
    """

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    arguments: Mapping[str, Any] = {}
    no_declare: bool = False
    delivery_mode: int | None = None

    def __hash__(self) -> int:
        return hash((self.name, self.type))


class BindingSpec(Struct, frozen=True, kw_only=True):
    """One more exchange that feeds a queue."""

    exchange: ExchangeSpec
    routing_key: str = ""
    arguments: Mapping[str, Any] = {}

    def __hash__(self) -> int:
        return hash((self.exchange, self.routing_key))


class QueueSpec(Struct, frozen=True, kw_only=True):
    """A queue and how it is bound.

    exchange: ``None`` means the default exchange only. message_ttl_s: seconds a message may wait.
    expires_s: seconds without a consumer after which the queue goes. max_priority: highest
    priority kept apart (RabbitMQ; SQLite always keeps 0 to 9 apart, higher first). arguments: as
    on the wire (``x-message-ttl`` in milliseconds and so on); the named fields win over them.
    """

    name: str
    exchange: ExchangeSpec | None = None
    routing_key: str = ""
    durable: bool = True
    auto_delete: bool = False
    exclusive: bool = False
    message_ttl_s: float | None = None
    expires_s: float | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    max_priority: int | None = None
    arguments: Mapping[str, Any] = {}
    binding_arguments: Mapping[str, Any] = {}
    bindings: tuple[BindingSpec, ...] = ()
    no_declare: bool = False
    no_ack: bool = False

    def __hash__(self) -> int:
        return hash((self.name, self.exchange, self.routing_key))

    def all_bindings(self) -> tuple[BindingSpec, ...]:
        """Return every binding, the queue's own first; the default exchange needs none."""
        own: tuple[BindingSpec, ...] = ()
        if self.exchange is not None and self.exchange.name:
            own = (BindingSpec(exchange=self.exchange, routing_key=self.routing_key, arguments=self.binding_arguments),)
        return own + self.bindings

    def wire_arguments(self) -> dict[str, Any]:
        """Return the queue's arguments as AMQP carries them: times in whole milliseconds."""
        named = {
            "x-message-ttl": _milliseconds(self.message_ttl_s),
            "x-expires": _milliseconds(self.expires_s),
            "x-max-length": self.max_length,
            "x-max-length-bytes": self.max_length_bytes,
            "x-max-priority": self.max_priority,
        }
        return {**self.arguments, **{key: value for key, value in named.items() if value is not None}}


_DRIVERS: Mapping[str, str] = MappingProxyType({"rediss": "redis", "sentinel": "redis"})


def queue_named(name: str, *, exchange_type: str = "direct", max_priority: int | None = None) -> QueueSpec:
    """Return Celery's queue of that name: durable, exchange and routing key called the same."""
    return QueueSpec(
        name=name,
        exchange=ExchangeSpec(name=name, type=exchange_type),
        routing_key=name,
        max_priority=max_priority,
    )


def event_exchange(name: str = "celeryev", *, driver: str = "") -> ExchangeSpec:
    """Return the exchange events go through; fanout where topics cannot be had.

    driver: kombu's driver type of the connection, for example ``redis``.
    Source: celery-protocol.md B.1.
    """
    fanout_only = driver in {"redis", "gcpubsub"}
    return ExchangeSpec(name=name, type="fanout" if fanout_only else "topic", durable=True)


def event_exchange_of(settings: Settings) -> ExchangeSpec:
    """Return the exchange that senders of events declare and publish to, by the broker that is written to."""
    url = settings.resolved_broker_url("write")
    scheme = (url if isinstance(url, str) else url[0]).partition(":")[0].partition("+")[0]
    return event_exchange(settings.event_exchange, driver=_DRIVERS.get(scheme, scheme))


def event_queue(
    unique: str,
    *,
    exchange: ExchangeSpec | None = None,
    prefix: str = "celeryev",
    routing_key: str = "#",
    message_ttl_s: float | None = 5.0,
    expires_s: float | None = 60.0,
) -> QueueSpec:
    """Return the private queue of one event receiver; it goes away with its consumer.

    unique: any text that no other receiver uses. Source: celery-protocol.md B.1.
    """
    return QueueSpec(
        name=f"{prefix}.{unique}",
        exchange=exchange or event_exchange(),
        routing_key=routing_key,
        durable=False,
        auto_delete=True,
        exclusive=True,
        message_ttl_s=message_ttl_s,
        expires_s=expires_s,
        no_ack=True,
    )


def worker_queue(node: str) -> QueueSpec:
    """Return the queue that only the worker ``node`` reads (``worker_direct``). Source: celery-protocol.md A.12."""
    return QueueSpec(name=f"{node}.dq2", exchange=ExchangeSpec(name="C.dq2"), routing_key=node)


def from_kombu(thing: Any) -> QueueSpec:
    """Read a ``QueueSpec`` from a ``kombu.Queue``, a mapping of options, a name or a ``QueueSpec``.

    Raises: ConfigError when it is none of these or has no name.
    """
    if isinstance(thing, QueueSpec):
        return thing
    if isinstance(thing, str):
        return queue_named(thing)
    if isinstance(thing, Mapping):
        return _from_mapping(thing)
    if not isinstance(getattr(thing, "name", None), str) or not thing.name:
        raise ConfigError(f"expected a queue (kombu.Queue, a name or a mapping with a name), got {thing!r}")
    exchange = exchange_from_kombu(getattr(thing, "exchange", None))
    routing_key = getattr(thing, "routing_key", None)
    return QueueSpec(
        name=thing.name,
        exchange=exchange,
        routing_key=routing_key or "",
        durable=_flag(thing, "durable", True),
        auto_delete=_flag(thing, "auto_delete", False),
        exclusive=_flag(thing, "exclusive", False),
        message_ttl_s=getattr(thing, "message_ttl", None),
        expires_s=getattr(thing, "expires", None),
        max_length=getattr(thing, "max_length", None),
        max_length_bytes=getattr(thing, "max_length_bytes", None),
        max_priority=getattr(thing, "max_priority", None),
        arguments=getattr(thing, "queue_arguments", None) or {},
        binding_arguments=getattr(thing, "binding_arguments", None) or {},
        bindings=tuple(sorted(map(_binding, getattr(thing, "bindings", None) or ()), key=_binding_order)),
        no_declare=_flag(thing, "no_declare", False),
        no_ack=_flag(thing, "no_ack", False),
    )


def exchange_from_kombu(thing: Any) -> ExchangeSpec | None:
    """Read an ``ExchangeSpec`` from a ``kombu.Exchange`` or a name; ``None`` for no or the default one.

    Raises: ConfigError for a type that no broker knows.
    """
    if thing is None or isinstance(thing, ExchangeSpec):
        return thing
    if isinstance(thing, str):
        return ExchangeSpec(name=thing) if thing else None
    name = getattr(thing, "name", "")
    if not name:
        return None
    kind = getattr(thing, "type", None) or "direct"
    if kind not in EXCHANGE_TYPES and not kind.startswith("x-"):
        raise ConfigError(f"exchange {name!r}: expected a type of {', '.join(sorted(EXCHANGE_TYPES))}, got {kind!r}")
    mode = getattr(thing, "delivery_mode", None)
    return ExchangeSpec(
        name=name,
        type=kind,
        durable=_flag(thing, "durable", True),
        auto_delete=_flag(thing, "auto_delete", False),
        arguments=getattr(thing, "arguments", None) or {},
        no_declare=_flag(thing, "no_declare", False),
        delivery_mode=mode if isinstance(mode, int) else None,
    )


def _from_mapping(options: Mapping[str, Any]) -> QueueSpec:
    name = options.get("name") or options.get("queue")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"expected a queue with a name, got {dict(options)!r}")
    kind = options.get("exchange_type") or "direct"
    exchange = options.get("exchange", name)
    if isinstance(exchange, str):
        exchange = ExchangeSpec(name=exchange, type=kind) if exchange else None
    key = options.get("routing_key") or options.get("binding_key") or name
    return QueueSpec(
        name=name,
        exchange=exchange_from_kombu(exchange),
        routing_key=key,
        durable=bool(options.get("durable", True)),
        auto_delete=bool(options.get("auto_delete", False)),
        exclusive=bool(options.get("exclusive", False)),
        message_ttl_s=options.get("message_ttl"),
        expires_s=options.get("expires"),
        max_length=options.get("max_length"),
        max_priority=options.get("max_priority"),
        arguments=options.get("queue_arguments") or {},
    )


def _binding(thing: Any) -> BindingSpec:
    exchange = exchange_from_kombu(getattr(thing, "exchange", None))
    if exchange is None:
        raise ConfigError(f"expected a binding with an exchange, got {thing!r}")
    return BindingSpec(
        exchange=exchange,
        routing_key=getattr(thing, "routing_key", None) or "",
        arguments=getattr(thing, "arguments", None) or {},
    )


def _binding_order(binding: BindingSpec) -> tuple[str, str]:
    # kombu keeps bindings in a set, whose order differs from process to process.
    return binding.exchange.name, binding.routing_key


def _flag(thing: Any, name: str, default: bool) -> bool:
    value = getattr(thing, name, None)
    return default if value is None else bool(value)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
