"""The standing orders as this worker obeys them: revoked tasks, paused queues and task types.

Read from the broker's book before the first message of each connection is taken, and again when remote control
is heard again after a silence; between these, remote commands bring the changes. A message is checked against
memory only, so an order costs nothing on the way of a task.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from opsq.bootsteps import Bootstep, Provided
from opsq.broker import standing as book
from opsq.broker.connection import BrokerConnection
from opsq.broker.standing import PAUSED_QUEUE, PAUSED_TASK, REVOKED, STAMP, StandingOrder
from opsq.broker.topology import QueueSpec
from opsq.core.worker.ledger import RevokedIds
from opsq.core.worker.overrides import Override, Overrides
from opsq.core.worker.receive import Receiver
from opsq.core.worker.revocations import RevokedStamps
from opsq.errors import BrokerUnavailable

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
PAUSES = (PAUSED_QUEUE, PAUSED_TASK)


class Standing:
    """Orders in force. Thread: any, but ``enforce`` is the owner's.

    expires_s: how long ``ids`` and ``stamps`` remember by themselves. Pauses end by ``overrides``.
    """

    def __init__(self, ids: RevokedIds, stamps: RevokedStamps, expires_s: float, overrides: Overrides) -> None:
        self._ids = ids
        self._stamps = stamps
        self._expires_s = expires_s
        self._overrides = overrides
        self._lock = threading.Lock()
        self._pauses: dict[Key, StandingOrder] = {}
        self._unkept: set[Key] = set()
        self._version = 1
        self._enforced = 0

    def take(self, orders: Iterable[StandingOrder]) -> None:
        """Obey exactly these pauses from now on, beside those that no book keeps, and these revocations too."""
        found = list(orders)
        pauses = {each.key: each for each in found if each.kind in PAUSES}
        with self._lock:
            kept = {key: each for key, each in self._pauses.items() if key in self._unkept}
            gone = [each for key, each in self._pauses.items() if key not in pauses and key not in kept]
        self.lift(gone)
        self.apply(found)

    def apply(self, orders: Iterable[StandingOrder], *, kept: bool = True) -> None:
        """Obey these too. kept: whether the broker has them in its book."""
        now = time.time()
        for order in orders:
            if order.kind == REVOKED:
                self._ids.add(order.name, self._age_s(order, now))
            elif order.kind == STAMP:
                self._stamps.add(order.name, order.value, self._age_s(order, now))
            elif order.kind in PAUSES:
                self._pause(order, kept)

    def lift(self, orders: Iterable[StandingOrder]) -> None:
        """Obey these pauses no more."""
        with self._lock:
            for order in orders:
                self._unkept.discard(order.key)
                if self._pauses.pop(order.key, None) is not None:
                    self._version += 1
                self._overrides.drop(_title(order))

    def paused(self, kind: str) -> frozenset[str]:
        """Names of the queues or task types that are paused."""
        with self._lock:
            return frozenset(each.name for each in self._pauses.values() if each.kind == kind)

    def pauses(self) -> list[StandingOrder]:
        """The pauses in force."""
        with self._lock:
            return list(self._pauses.values())

    def consumed(self, queues: Sequence[QueueSpec]) -> tuple[QueueSpec, ...]:
        """Those of ``queues`` that are to be taken from."""
        paused = self.paused(PAUSED_QUEUE)
        return tuple(each for each in queues if each.name not in paused) if paused else tuple(queues)

    def enforce(self, consumer: Any, receiver: Receiver, queues: Sequence[QueueSpec]) -> None:
        """Have consumer and receiver act on the pauses, if those have changed. consumer: none before there is one."""
        if self._version == self._enforced:
            return
        self._enforced = version = self._version
        receiver.set_paused(self.paused(PAUSED_TASK))
        if consumer is None:
            self._enforced = version - 1  # its queues are looked at when it is there
            return
        wanted = {each.name: each for each in self.consumed(queues)}
        for name in set(consumer.queues) - wanted.keys():
            consumer.cancel_queue(name)
        for name in wanted.keys() - set(consumer.queues):
            consumer.add_queue(wanted[name])

    def _pause(self, order: StandingOrder, kept: bool) -> None:
        with self._lock:
            if self._pauses.get(order.key) == order:
                return
            self._pauses[order.key] = order
            self._version += 1
            if not kept:
                self._unkept.add(order.key)
        if order.until is None:
            self._overrides.drop(_title(order))
        else:
            end: Callable[[], None] = lambda: self.lift([order])  # noqa: E731
            self._overrides.begin(Override(_title(order), "paused", "running", order.until, end))

    def _age_s(self, order: StandingOrder, now: float) -> float:
        """How old it is taken to be, so that it is forgotten when it ends."""
        return 0.0 if order.until is None else self._expires_s - (order.until - now)


def _title(order: StandingOrder) -> str:
    return f"{'queue' if order.kind == PAUSED_QUEUE else 'task'} {order.name}"


class StandingOrdersRead:
    """What the step below provides: whoever requires it comes after the book was read."""


class StandingStep(Bootstep[Any]):
    """Read the standing orders of the broker, before anything is taken from it."""

    name: ClassVar[str] = "standing orders"
    requires: ClassVar[tuple[type[Any], ...]] = (BrokerConnection, Receiver)
    provides: ClassVar[type[Any] | None] = StandingOrdersRead

    def __init__(self, standing: Standing) -> None:
        self.standing = standing

    def start(self, up: Provided) -> StandingOrdersRead:
        """Read them; a book that cannot be read is reported, and what is in memory counts on."""
        refresh(self.standing, up[BrokerConnection])
        self.standing.enforce(None, up[Receiver], ())
        return StandingOrdersRead()


def refresh(standing: Standing, connection: BrokerConnection) -> None:
    """Take over what the broker's book says, as far as it can be read."""
    try:
        orders = book.read(connection, time.time())
    except BrokerUnavailable as exc:
        log.error("standing orders cannot be read; tasks revoked before may run", extra={"error": str(exc)})
        return
    if orders is not None:
        standing.take(orders)
