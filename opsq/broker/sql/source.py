"""Deliveries from a SQL broker: polled in batches, one transaction to settle and take."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from opsq.broker.kombu_source import RawMessage, declare_queue, from_virtual
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.sql.lease import Lease, Row
from opsq.broker.topology import QueueSpec

POLL_FIRST_S = 0.02
POLL_MAX_S = 0.25
_REAP_S = 1.0


class SqlSource:
    """One consumer of a SQL broker. lease: its hold. lease_s: how long that lasts. Thread: the owner's.

    A queue that brought something is asked again soon, an empty one more and more seldom.
    """

    watchable = False

    def __init__(
        self, transport: Any, channel: Any, queues: Sequence[QueueSpec], lease: Lease, lease_s: float, no_ack: bool
    ) -> None:
        self._transport = transport
        self._engine = transport.engine
        self._channel = channel
        self._lease = lease
        self._lease_s = lease_s
        self._no_ack = no_ack
        self._held: set[int] = set()
        self._queues: list[str] = []
        self._renew_at = 0.0
        self._closed = False
        self.poll_s = POLL_FIRST_S
        self.set_queues(queues)

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle all, then take; one commit for both."""
        if not settlements and room <= 0:
            return []
        done = [each.tag for each in settlements if each.tag in self._held and each.how is not Settle.REQUEUE]
        back = [each.tag for each in settlements if each.tag in self._held and each.how is Settle.REQUEUE]
        taken: list[tuple[str, Row]] = []
        with self._engine.begin() as db:
            if done or back:
                self._lease.settle(db, done, back)
            for queue in self._queues:
                if len(taken) < room:
                    rows = self._lease.take(db, queue, room - len(taken), forget=self._no_ack)
                    taken += [(queue, row) for row in rows]
        self._queues.append(self._queues.pop(0)) if self._queues else None
        self._held.difference_update(done, back)
        if not self._no_ack:
            self._held.update(row.id for _, row in taken)
        self.poll_s = POLL_FIRST_S if taken or settlements else min(self.poll_s * 1.5, POLL_MAX_S)
        return [self._delivery(queue, row) for queue, row in taken]

    def _delivery(self, queue: str, row: Row) -> Delivery:
        try:
            payload = json.loads(row.payload)
            delivery = from_virtual(RawMessage(payload, channel=self._channel), queue)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            # Not kombu's envelope: handed on as it is, for intake to refuse with all there is to see.
            delivery = Delivery(row.payload.encode(), None, None, {}, {}, "", queue, 0)
        delivery.queue = queue
        delivery.tag = row.id
        delivery.deliveries = row.handed_out
        delivery.redelivered = delivery.redelivered or row.handed_out > 1
        return delivery

    def filenos(self) -> list[int]:
        """Return nothing: nobody tells of arrivals."""
        return []

    def woken(self) -> None:
        """Never called."""

    def keepalive(self) -> float:
        """Renew what is held, keep our private queues, and look after what others left behind."""
        now = time.monotonic()
        if now >= self._renew_at:
            if not self._no_ack:
                self._lease.renew(len(self._held))
            self._channel.keep_queues(self._queues)
            self._renew_at = now + self._lease_s / 3
        self._lease.reap()
        return min(_REAP_S, self._lease_s / 3)

    def limit(self, prefetch: int) -> None:
        """Do nothing: nobody pushes."""

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and read these queues."""
        for spec in queues:
            if spec.name not in self._queues:
                declare_queue(self._channel, spec)
        self._queues = [spec.name for spec in queues]
        self._private = [spec.name for spec in queues if spec.auto_delete or spec.exclusive]

    def pause(self, paused: bool) -> None:
        """Do nothing: nobody pushes."""

    def probe(self) -> bool:
        """Never called: this source asks, so it cannot miss anything."""
        return False

    def close(self) -> None:
        """Give back what is not settled, and delete the queues that go with their reader."""
        if self._closed:
            return
        self._closed = True
        held, self._held = sorted(self._held), set()
        if held:
            with self._engine.begin() as db:
                self._lease.settle(db, (), held)
        for name in self._private:
            self._channel.queue_delete(name)
        self._channel.close()
