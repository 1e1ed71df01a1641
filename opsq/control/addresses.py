"""Where requests and replies go: the exchanges and queues of remote control.

Source: Celery protocol C.1.
"""

from __future__ import annotations

from msgspec import Struct

from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.settings import Settings


class Addresses(Struct, frozen=True):
    """The names that one cluster uses; expires_s, ttl_s: of its queues, None for none."""

    namespace: str = "celery"
    ttl_s: float | None = 300.0
    expires_s: float | None = 10.0
    exclusive: bool = True
    durable: bool = False

    @property
    def requests(self) -> ExchangeSpec:
        """The exchange that every worker's queue is bound to."""
        return ExchangeSpec(name=f"{self.namespace}.pidbox", type="fanout", durable=False)

    @property
    def replies(self) -> ExchangeSpec:
        """The exchange that replies go through."""
        return ExchangeSpec(name=f"reply.{self.namespace}.pidbox", type="direct", durable=False)

    def worker_queue(self, node: str) -> QueueSpec:
        """The queue of the worker ``node``."""
        return self._queue(f"{node}.{self.namespace}.pidbox", self.requests, "")

    def reply_queue(self, oid: str) -> QueueSpec:
        """The queue of the client ``oid``."""
        return self._queue(f"{oid}.reply.{self.namespace}.pidbox", self.replies, oid)

    def _queue(self, name: str, exchange: ExchangeSpec, routing_key: str) -> QueueSpec:
        return QueueSpec(
            name=name,
            exchange=exchange,
            routing_key=routing_key,
            durable=self.durable,
            auto_delete=not self.durable,
            exclusive=self.exclusive and not self.durable,
            message_ttl_s=self.ttl_s,
            expires_s=self.expires_s,
            no_ack=True,
        )


def addresses_of(settings: Settings) -> Addresses:
    """The names that the settings describe."""
    return Addresses(
        namespace=settings.control_exchange,
        ttl_s=settings.control_queue_ttl,
        expires_s=settings.control_queue_expires,
        exclusive=settings.control_queue_exclusive,
        durable=settings.control_queue_durable,
    )
