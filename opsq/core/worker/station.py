"""What a remote command can see and touch of its worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from opsq.broker import standing as book
from opsq.broker.connection import open_connection
from opsq.broker.standing import StandingOrder
from opsq.clock import LamportClock
from opsq.core.pools.base import Pool
from opsq.core.worker.emit import Emitter
from opsq.core.worker.ledger import Entry, Ledger
from opsq.core.worker.load import Loader
from opsq.core.worker.plan import WorkerPlan
from opsq.core.worker.receive import Receiver
from opsq.core.worker.revocations import Keeper, RevokedStamps
from opsq.core.worker.standing import refresh
from opsq.errors import BrokerUnavailable, WireError
from opsq.settings import Settings
from opsq.wire.saferepr import saferepr

log = logging.getLogger(__name__)

OWNER_S = 2.0
DECODED_BYTES = 65_536
"""Arguments in bigger bodies are shown as their text; a list of big requests would not fit a reply."""


class Station:
    """The worker, as remote commands see it; what a command of your own gets first. Thread: any.

    kept_already: whoever sent the command at hand has written its orders into the broker's book, or it is not
    for everybody.
    """

    def __init__(self, plan: WorkerPlan, pool: Pool, emitter: Emitter, receiver: Receiver, loader: Loader) -> None:
        self.plan = plan
        self.pool = pool
        self.emitter = emitter
        self.receiver = receiver
        self.stamps: RevokedStamps = plan.stamps
        self.keeper = Keeper(plan.settings.worker_state_db, plan.ledger.revoked, plan.stamps)
        self.started_at = plan.clock.monotonic()
        self.memory_samples: list[str] = []
        self.kept_already = False
        self._loader = loader

    @property
    def app(self) -> Any:
        """The worker's app."""
        return self.plan.app

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return self.plan.settings

    @property
    def hostname(self) -> str:
        """The worker's node name."""
        return self.plan.hostname

    @property
    def ledger(self) -> Ledger:
        """What it has taken and not settled."""
        return self.plan.ledger

    @property
    def lamport(self) -> LamportClock:
        """Its logical clock."""
        return self.plan.lamport

    @property
    def consumer(self) -> Any:
        """The loop over its connection; None while it has none."""
        return self.plan.owner.consumer if self.plan.owner is not None else None

    def entries(self) -> list[Entry]:
        """What it has taken and not finished."""
        return [entry for entry in tuple(self.ledger.entries.values()) if not entry.finished and not entry.ended]

    def on_owner(self, work: Any) -> bool:
        """Run ``work`` on the owner thread and wait; false when there is no connection just now."""
        return self.plan.owner is not None and self.plan.owner.call(work, OWNER_S)

    def obey(self, orders: Sequence[StandingOrder]) -> None:
        """Obey these standing orders from now on, and have the broker keep them for other workers."""
        kept = self.kept_already or self._write(book.add, orders)
        self.plan.standing.apply(orders, kept=kept)
        self._enforce()

    def lift(self, orders: Sequence[StandingOrder]) -> None:
        """Obey these no more, and have the broker forget them."""
        if not self.kept_already:
            self._write(book.lift, orders)
        self.plan.standing.lift(orders)
        self._enforce()

    def read_standing_orders(self) -> None:
        """Take over what the broker's book says: commands may have been missed."""
        connection = open_connection(self.settings, purpose="read")
        try:
            connection.connect()
            refresh(self.plan.standing, connection)
        except BrokerUnavailable as exc:
            log.warning("standing orders could not be read again", extra={"error": str(exc)})
        finally:
            connection.close()
        self._enforce()

    def _enforce(self) -> None:
        plan = self.plan
        self.on_owner(lambda: plan.standing.enforce(self.consumer, self.receiver, plan.queues))

    def _write(self, how: Any, orders: Sequence[StandingOrder]) -> bool:
        """Change the book. A broker that cannot, or just now will not, costs the workers that start later."""
        connection = open_connection(self.settings, purpose="write")
        try:
            connection.connect()
            return bool(how(connection, orders, time.time()))
        except BrokerUnavailable as exc:
            self.ledger.count("orders_not_kept")
            log.error("a standing order could not be kept in the broker", extra={"error": str(exc)})
            return False
        finally:
            connection.close()

    def policy_changed(self, task: str) -> None:
        """Work the promises for ``task`` out anew, and apply them to what waits."""
        self.plan.policies.forget(task)
        self.on_owner(lambda: self.receiver.policy_changed(task))

    def call_off(self, entries: Iterable[Entry]) -> None:
        """Take back what has not begun, wherever it waits; it becomes REVOKED."""
        waiting = [entry for entry in entries if entry.started_at is None]

        def work() -> None:
            running = {job.key for job in self.pool.running()}
            for entry in waiting:
                if self.ledger.get(entry.key) is None or self.receiver.revoke(entry):
                    continue
                if entry.key not in running:
                    self.pool.cancel(entry.key, "revoked")

        if waiting:
            self.on_owner(work)

    def about(self, entry: Entry, safe: bool = False) -> dict[str, Any]:
        """One request as Celery shows it. safe: arguments as text. Source: Celery protocol C.5."""
        headers = entry.headers
        args, kwargs = self._arguments(entry, safe)
        return {
            "id": headers.id,
            "name": headers.shadow or headers.task,
            "args": args,
            "kwargs": kwargs,
            "type": headers.task,
            "hostname": self.plan.hostname,
            "time_start": entry.started_at,
            "acknowledged": entry.acked,
            "delivery_info": dict(entry.job.delivery_info),
            "worker_pid": entry.pid or None,
        }

    def _arguments(self, entry: Entry, safe: bool) -> tuple[Any, Any]:
        headers = entry.headers
        as_text = (headers.argsrepr or "", headers.kwargsrepr or "")
        if (safe and all(as_text)) or len(entry.job.body) > DECODED_BYTES:
            return as_text
        try:
            _, body = self._loader.load(entry.job)
        except WireError:
            return as_text
        if safe:
            return saferepr(body.args), saferepr(body.kwargs)
        try:
            msgspec.json.encode((body.args, body.kwargs))
        except (TypeError, ValueError, OverflowError):
            return as_text  # the message came by a serializer that can write more than replies can
        return body.args, body.kwargs
