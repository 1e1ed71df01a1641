"""MongoDB as a kombu transport of our own: kombu's collections and documents, with leases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kombu.transport import mongodb as _kombu_mongodb
from kombu.utils import json as _kombu_json
from pymongo.errors import DocumentTooLarge, PyMongoError

from opsq.broker.mongodb.server_clock import ServerClock
from opsq.broker.mongodb.source import MongoSource
from opsq.broker.mongodb.standing import MongoBook
from opsq.broker.source import Source
from opsq.broker.topology import QueueSpec
from opsq.errors import UsageError
from opsq.masking import mask_url

_kombu: Any = _kombu_mongodb  # typed here and there, differently in each version of kombu
_dumps: Any = _kombu_json.dumps

DEFAULT_LEASE_S = 30.0
MAX_MESSAGE_BYTES = 16_777_216
"""MongoDB's own limit on a document."""
_IO_MS = 10_000
_LASTING_S = 60.0


class Channel(_kombu.Channel):  # type: ignore[misc]  # Any
    """kombu's channel with short time-outs, and what it holds marked as such."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lasting: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def _prepare_client_options(self, options: Any) -> Any:
        prepared = super()._prepare_client_options(options)
        wait_ms = int((self.connection.client.connect_timeout or 4) * 1000)
        limits = {"serverSelectionTimeoutMS": wait_ms, "connectTimeoutMS": wait_ms, "socketTimeoutMS": _IO_MS}
        for name, value in limits.items():
            if prepared.get(name) is None and prepared.get(name.lower()) is None:
                prepared.pop(name, None)
                prepared.pop(name.lower(), None)
                prepared[name] = value
        return {key: value for key, value in prepared.items() if value is not None}

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        try:
            super()._put(queue, message, **kwargs)
        except DocumentTooLarge as exc:
            raise UsageError(
                f"message for {queue!r}: {len(_dumps(message))} bytes as MongoDB gets it, and MongoDB takes at most "
                f"{MAX_MESSAGE_BYTES}; keep large data elsewhere and send where it is"
            ) from exc

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        # MongoDB has no empty queues; one that is bound is known all the same.
        return bool(self.routing.find_one({"queue": queue}) or self.messages.find_one({"queue": queue}))

    # ---- bindings: kombu broadcasts through a capped collection, which only it reads and few servers have

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        lasting = (kwargs.get("arguments") or {}).get("x-expires")
        if lasting or kwargs.get("auto_delete") or kwargs.get("exclusive"):
            self._lasting[queue] = lasting / 1000 if lasting else _LASTING_S
        super()._new_queue(queue, **kwargs)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: Any, queue: str) -> None:
        row = {"exchange": exchange, "queue": queue, "routing_key": routing_key, "pattern": pattern}
        more: dict[str, Any] = {"opsq_type": self.typeof(exchange).type}
        if queue in self._lasting:
            until = ServerClock(self.client).look() + self._lasting[queue]
            more |= {"opsq_lasts_s": self._lasting[queue], "opsq_read_until": until}
        self.routing.update_one(row, {"$set": {**row, **more}}, upsert=True)

    def _put_fanout(self, exchange: str, message: Any, routing_key: str, **kwargs: Any) -> None:
        for each in self.routing.find({"exchange": exchange, "opsq_type": "fanout"}):
            self._put(each["queue"], message)

    def queue_delete(self, queue: str, **kwargs: Any) -> None:
        """Delete a queue with its bindings and what is in it."""
        self.messages.delete_many({"queue": queue})
        super().queue_delete(queue, **kwargs)

    def keep_queues(self, names: Sequence[str], now: float) -> None:
        """Say that our private queues are still read, and delete those whose reader is long gone."""
        for name in names:
            if name in self._lasting:
                self.routing.update_many({"queue": name}, {"$set": {"opsq_read_until": now + self._lasting[name]}})
        for over in self.routing.find({"opsq_read_until": {"$lt": now}}):
            self.queue_delete(over["queue"])

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        """Return the type of an exchange, also of one that another process declared."""
        if exchange not in self.state.exchanges:
            bound = self.routing.find_one({"exchange": exchange}) or {}
            if bound.get("opsq_type") or bound.get("pattern"):  # kombu keeps the pattern only
                return self.exchange_types[bound.get("opsq_type") or "topic"]
        return super().typeof(exchange, default)

    def get_table(self, exchange: str) -> Any:
        """Return every binding, also of an exchange that only others declared."""
        if exchange in self.state.exchanges:
            return super().get_table(exchange)
        return frozenset(
            (each["routing_key"], each["pattern"], each["queue"]) for each in self.routing.find({"exchange": exchange})
        )

    def close(self) -> None:
        """Close the channel and its pool of connections."""
        if not self.closed:
            database = self.client
            super().close()
            database.client.close()


class Transport(_kombu.Transport):  # type: ignore[misc]  # Any
    """kombu's MongoDB transport with leases. Transport options beside kombu's: lease_seconds."""

    Channel = Channel
    connection_errors = (*_kombu.Transport.connection_errors, PyMongoError)

    @property
    def name(self) -> str:
        """The broker's URL without its password."""
        host = str(self.client.hostname or "")
        return mask_url(host if "://" in host else f"mongodb://{host}")

    def open_source(self, queues: Sequence[QueueSpec], *, no_ack: bool, prefetch: int) -> Source:
        """Return a consumer's stream of deliveries."""
        lease_s = float(self.client.transport_options.get("lease_seconds", DEFAULT_LEASE_S))
        return MongoSource(self, self.client.channel(), queues, lease_s, no_ack)

    def standing_orders(self) -> MongoBook:
        """Return the book of standing orders."""
        return MongoBook(self.client.default_channel.client)
