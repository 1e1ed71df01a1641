"""Redis as a kombu transport of our own: ``Connection("redis://…", transport=Transport)``.

Whatever speaks kombu works on it as on kombu's, which it extends: same keys, same envelopes, so stock
clients and workers share the queues. opsq's own publisher and consumer use it by shorter ways:
``Channel.publish_messages`` and ``Transport.open_source``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis.exceptions
from kombu.transport import redis as _kombu_redis

from opsq.broker.kombu_source import Declared
from opsq.broker.message import OutMessage
from opsq.broker.redis.depth import depth_of
from opsq.broker.redis.faults import explained, wrong_policy
from opsq.broker.redis.keys import Keys, keys_of, seconds_option
from opsq.broker.redis.publish import Post
from opsq.broker.redis.routes import Routes
from opsq.broker.redis.source import DEFAULT_LEASE_S, RedisSource, SourceOptions
from opsq.broker.redis.standing import RedisBook
from opsq.broker.redis.wire import Wire
from opsq.broker.source import QueueDepth
from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.errors import BrokerUnavailable, ConfigError

_kombu: Any = _kombu_redis  # typed here and there, differently in each version of kombu

IO_S = 6.0
_KEEP_QUEUES_S = 10.0
_KEEP_BINDINGS_S = 600.0


class Channel(_kombu.Channel):  # type: ignore[misc]  # Any
    """One kombu channel, with a batch way out."""

    def __init__(self, connection: Transport, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._fanout_queues: dict[str, tuple[str, str]] = {}  # kombu's own is shared by all channels
        self._post: Post | None = None
        self._silence_s = IO_S
        self._declared = Declared(self)
        self._keep_queues_at = 0.0
        self._keep_bindings_at = 0.0

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Let no peer be silent for longer than a wire lets it."""
        parameters: dict[str, Any] = super()._connparams(asynchronous)
        parameters["socket_timeout"] = min(float(parameters.get("socket_timeout") or IO_S), IO_S)
        return parameters

    # ---- topology

    def exchange_declare(self, exchange: str | None = None, type: str = "direct", **kwargs: Any) -> None:
        """Declare an exchange, and note its type in Redis: other processes must publish to it alike."""
        super().exchange_declare(exchange=exchange, type=type, **kwargs)
        if exchange and type not in (None, "direct") and not kwargs.get("passive"):
            self.client.hset(self.connection.keys.exchange_types, exchange, type)

    def queue_bind(self, queue: str, exchange: str | None = None, routing_key: str = "", **kwargs: Any) -> None:
        """Let an exchange feed a queue."""
        super().queue_bind(queue, exchange=exchange, routing_key=routing_key, **kwargs)
        if self._post is not None:
            self._post.routes.forget()

    def declare(self, spec: QueueSpec | ExchangeSpec | None) -> None:
        """Declare what was not declared on this channel before. Raises: BrokerUnavailable."""
        try:
            self._declared.once(spec)
        except redis.exceptions.RedisError as exc:
            raise explained(exc, self.connection.name) from exc

    def fanout_bindings(self, spec: QueueSpec) -> list[tuple[str, str]]:
        """Return (exchange, routing key) of the bindings that are pub/sub."""
        return [
            (each.exchange.name, each.routing_key)
            for each in spec.all_bindings()
            if self.typeof(each.exchange.name).type == "fanout"
        ]

    def keep_queues(self, wire: Wire, now: float) -> None:
        """Keep the queues of this channel that would expire. now: monotonic seconds."""
        if not self._expires or now < self._keep_queues_at:
            return
        self._keep_queues_at = now + min(_KEEP_QUEUES_S, min(self._expires.values()) / 3000)
        keys = self.connection.keys
        wire.calls([("PEXPIRE", key, left) for name, left in self._expires.items() for key in keys.lists([name])])
        if now >= self._keep_bindings_at and hasattr(self, "sweep_bindings"):
            self._keep_bindings_at = now + _KEEP_BINDINGS_S
            self._refresh_bindings(list(self._expires))
            self.sweep_bindings()

    # ---- publishing

    def limit_silence(self, timeout_s: float | None) -> None:
        """Let no reply to what is published be waited for longer, nor longer than ``IO_S``."""
        self._silence_s = IO_S if timeout_s is None else min(timeout_s, IO_S)
        if self._post is not None:
            self._post.limit_silence(self._silence_s)

    def publish_messages(self, messages: Sequence[OutMessage]) -> int:
        """Publish all messages or none, in one round trip; return how many reached no queue."""
        post = self._post
        if post is None:
            wire = self.connection.new_wire(self)
            routes = Routes(wire, self.connection.keys, self.state.exchanges)
            post = self._post = Post(wire, self.connection.keys, routes)
            post.limit_silence(self._silence_s)
        for message in messages:
            self.declare(message.declare)
        return post.send(messages, self._expires)

    def close(self) -> None:
        """Close every connection of this channel. Safe to call twice."""
        if self._post is not None:
            self._post.close()
        super().close()


class Transport(_kombu.Transport):  # type: ignore[misc]
    """The transport to hand to ``kombu.Connection``.

    Options beside kombu's own: ``lease_seconds``; ``allow_eviction``, to consume from a server that
    may drop messages when its memory runs short.
    """

    Channel = Channel
    scheme = "redis"
    connection_errors = (*_kombu.Transport.connection_errors, BrokerUnavailable)

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.keys = Keys()
        self._looker: Wire | None = None
        self._seen: set[str] = set()

    @property
    def name(self) -> str:
        """The URL, fit for messages."""
        client = self.client
        login = f"{client.userid or ''}:**@" if client.userid or client.password else ""
        place = f"{client.hostname or '127.0.0.1'}:{client.port or self.default_port}"
        return f"{self.scheme}{'s' if client.ssl else ''}://{login}{place}/{str(client.virtual_host or '0').strip('/')}"

    def establish_connection(self) -> Any:
        """Connect. Raises: BrokerUnavailable, or BrokerUnusable when trying again is of no use."""
        try:
            connection = super().establish_connection()
        except redis.exceptions.RedisError as exc:
            raise explained(exc, self.name) from exc
        return connection

    def create_channel(self, connection: Any) -> Any:
        """Return a channel."""
        channel = super().create_channel(connection)
        self.keys = keys_of(channel)
        return channel

    def new_wire(self, channel: Any) -> Wire:
        """Open one more socket to the same server, for batches."""
        connection = channel.pool.make_connection()
        return Wire(connection, float(connection.socket_timeout), self.name)

    def open_source(self, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> RedisSource:
        """Return the batch reader that opsq's consumer works with.

        Raises: BrokerUnusable when the server would drop messages that wait.
        """
        channel = self.create_channel(self)
        options = self.client.transport_options
        if not no_ack and not options.get("allow_eviction"):
            self._check_policy(channel)
        return RedisSource(
            channel,
            lambda: self.new_wire(channel),
            queues,
            no_ack=no_ack,
            keys=keys_of(channel),
            options=SourceOptions(
                lease_s=seconds_option(options, "lease_seconds", DEFAULT_LEASE_S),
                visibility_s=float(channel.visibility_timeout),
            ),
        )

    def _check_policy(self, channel: Any) -> None:
        try:
            memory = channel.client.info("memory")
        except redis.exceptions.ResponseError:
            return  # not allowed to ask
        policy = str(memory.get("maxmemory_policy", ""))
        if policy.startswith("allkeys") and memory.get("maxmemory"):
            raise wrong_policy(policy, self.name)

    def notices(self) -> list[str]:
        """Say so when the server keeps nothing on disk; nothing when it may not be asked."""
        channel = self.channels[0] if self.channels else self.create_channel(self)
        try:
            found = {**channel.client.config_get("appendonly"), **channel.client.config_get("save")}
        except redis.exceptions.RedisError:
            return []
        if found.get("appendonly") == "yes" or found.get("save"):
            return []
        return ["it keeps nothing on disk (appendonly no, save empty): whatever waits is lost when it restarts"]

    def queue_depth(self, queue: str) -> QueueDepth | None:
        """Return what waits in a queue; ``None`` when no trace of such a queue is there."""
        found = depth_of(self._look(), self.keys, queue, known=queue in self._seen)
        if found is not None:
            self._seen.add(queue)
        return found

    def standing_orders(self) -> RedisBook:
        """Return the book of standing orders."""
        wire = self._look()
        return RedisBook(wire, self.keys.standing)

    def _look(self) -> Wire:
        """The socket for looking things up. Raises: BrokerUnavailable."""
        if self._looker is None or self._looker.broken:
            self._looker = self.new_wire(self.channels[0] if self.channels else self.create_channel(self))
        return self._looker

    def close_connection(self, connection: Any) -> None:
        """Close every socket."""
        if self._looker is not None:
            self._looker.close()
            self._looker = None
        super().close_connection(connection)


class SentinelChannel(Channel, _kombu.SentinelChannel):  # type: ignore[misc]
    """The same, on whatever server the sentinels call the primary."""


class SentinelTransport(Transport, _kombu.SentinelTransport):  # type: ignore[misc]
    """The transport for ``sentinel://…`` with the transport option ``master_name``.

    Each connection asks for the primary anew, so that after a failover the next one is right.
    """

    Channel = SentinelChannel
    scheme = "sentinel"
    default_port = _kombu.SentinelTransport.default_port

    def establish_connection(self) -> Any:
        """Connect to the primary. Raises: ConfigError when nobody said which one; else as the parent."""
        if not self.client.transport_options.get("master_name"):
            raise ConfigError(
                "broker URL sentinel://…: the name of the primary is missing; "
                'set broker_transport_options = {"master_name": "…"}'
            )
        return super().establish_connection()
