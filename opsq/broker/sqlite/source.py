"""The embedded broker for opsq's consumer: batches, leases, doorbell."""

from __future__ import annotations

from collections.abc import Sequence

from opsq.broker.message import Delivery, Settle, Settlement
from opsq.broker.sqlite.broker import SqliteBroker
from opsq.broker.sqlite.doorbell import Doorbell
from opsq.broker.sqlite.store import channel_of
from opsq.broker.topology import QueueSpec

REAP_S = 1.0


class SqliteSource:
    """One consumer on the file. Thread: the owner's.

    no_ack: what was delivered is settled with the next exchange, without anybody asking.
    """

    watchable = False

    def __init__(self, broker: SqliteBroker, queues: Sequence[QueueSpec], *, no_ack: bool) -> None:
        self._broker = broker
        self._no_ack = no_ack
        self._delivered: list[int] = []
        self._specs: tuple[QueueSpec, ...] = ()
        self._closed = False
        self.poll_s = broker.poll_s
        # Bound before the first look: a message that comes in between still rings.
        self._doorbell = Doorbell(broker.path, "consumers")
        try:
            broker.reaper.run()
            self._lease = broker.lease()
        except BaseException:
            self._doorbell.close()
            raise
        self._renew_at = broker.clock.monotonic() + self._lease.seconds / 3
        try:
            self.set_queues(queues)
        except BaseException:
            self.close()
            raise

    def exchange(self, settlements: Sequence[Settlement], room: int) -> list[Delivery]:
        """Settle and take in one transaction; looks without a lock when there is nothing to settle."""
        done = [each.tag for each in settlements if each.how is not Settle.REQUEUE]
        if len(done) != len(settlements):
            self._lease.give_back([each.tag for each in settlements if each.how is Settle.REQUEUE])
        done += self._delivered
        if not done and (room <= 0 or not self._lease.waiting()):
            return []
        batch = self._lease.take(done, max(room, 0))
        self._delivered = [delivery.tag for delivery in batch] if self._no_ack else []
        return batch

    def filenos(self) -> list[int]:
        """Return the doorbell."""
        return [self._doorbell.fileno()]

    def woken(self) -> None:
        """Take the rings, before the look that answers them."""
        self._doorbell.drain()

    def keepalive(self) -> float:
        """Renew the lease when a third of it is over, bring back what the dead held, mind the file."""
        now = self._broker.clock.monotonic()
        if now >= self._renew_at:
            self._lease.renew()
            self._renew_at = now + self._lease.seconds / 3
        self._broker.reaper.run()
        self._broker.database.check_file()
        if self._specs and not self._lease.is_current():
            self.set_queues(self._specs)  # somebody deleted a queue of ours
        return min(REAP_S, self._lease.seconds / 3)

    def limit(self, prefetch: int) -> None:
        """Do nothing: the consumer asks for no more than it has room for."""

    def set_queues(self, queues: Sequence[QueueSpec]) -> None:
        """Declare and take from these queues."""
        self._specs = tuple(queues)
        for spec in self._specs:
            self._broker.catalog.declare(spec)
            self._doorbell.listen(channel_of(spec.name))
        self._lease.subscribe([spec.name for spec in self._specs])

    def pause(self, paused: bool) -> None:
        """Do nothing: the consumer does not ask while it is paused."""

    def probe(self) -> bool:
        """Say whether anything waits."""
        return self._lease.waiting()

    def close(self) -> None:
        """Give back what is not settled, and the doorbell."""
        if self._closed:
            return
        self._closed = True
        self._doorbell.close()
        if self._delivered:
            self._lease.settle(self._delivered)
        self._lease.close()
