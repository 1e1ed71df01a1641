"""Deliveries from a SQL broker: polled in batches, one transaction to settle and take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.polled import PolledSource, read_envelope
from opsq.broker.sql.lease import Lease, Row
from opsq.broker.topology import QueueSpec

_REAP_S = 1.0


class SqlSource(PolledSource):
    """One consumer of a SQL broker. lease: its hold. lease_s: how long that lasts. Thread: the owner's.

    A queue that brought something is asked again soon, an empty one more and more seldom.
    """

    def __init__(
        self, transport: Any, channel: Any, queues: Sequence[QueueSpec], lease: Lease, lease_s: float, no_ack: bool
    ) -> None:
        self._engine = transport.engine
        self._lease = lease
        self._lease_s = lease_s
        self._no_ack = no_ack
        self._held: set[int] = set()
        self._renew_at = 0.0
        super().__init__(channel, queues)

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
        self.ask_again(soon=bool(taken or settlements))
        return [self._delivery(queue, row) for queue, row in taken]

    def _delivery(self, queue: str, row: Row) -> Delivery:
        delivery = read_envelope(self._channel, queue, row.payload)
        delivery.tag = row.id
        delivery.deliveries = row.handed_out
        delivery.redelivered = delivery.redelivered or row.handed_out > 1
        return delivery

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

    def _give_back(self) -> None:
        held, self._held = sorted(self._held), set()
        if held:
            with self._engine.begin() as db:
                self._lease.settle(db, (), held)
