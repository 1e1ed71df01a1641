"""One consumer's hold on rows: taking, settling, renewing and giving them back, each in one transaction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from msgspec import Struct

from opsq.broker.faults import LeaseLost
from opsq.broker.sql.tables import Tables
from opsq.broker.sqlite.process import ProcessId, is_gone, this_process

_AT_ONCE = 500


class Row(Struct, frozen=True):
    """One message as it was taken. handed_out: how often, this time included."""

    id: int
    payload: str
    handed_out: int


class Lease:
    """The messages of one consumer. name: the broker's, without its password. Thread: the owner's.

    Every method but ``take`` and ``settle`` is a transaction of its own.
    """

    def __init__(self, engine: Any, tables: Tables, seconds: float, name: str) -> None:
        self._engine = engine
        self._t = tables
        self._seconds = seconds
        self._name = name
        self._process = this_process()
        self.holder = _written(self._process)

    def take(self, db: Any, queue: str, room: int, *, forget: bool) -> list[Row]:
        """Take up to ``room`` messages of ``queue``, oldest first. forget: they count as settled at once."""
        message, queues = self._t.message, self._t.queue
        found = db.execute(
            sa.select(message.c.id, message.c.payload, message.c.version)
            .where(message.c.queue_id == sa.select(queues.c.id).where(queues.c.name == queue).scalar_subquery())
            .where(message.c.visible.is_(True))
            .order_by(message.c.id)
            .limit(room)
            .with_for_update(skip_locked=True)
        ).all()
        if not found:
            return []
        ids = [row.id for row in found]
        if forget:
            db.execute(sa.delete(message).where(message.c.id.in_(ids)))
        else:
            # The version counts how often a message was taken; stock kombu counts it up as well.
            db.execute(self._set_visible(ids, False).values(version=message.c.version + 1))
            until = self._t.now + self._seconds
            db.execute(
                sa.insert(self._t.lease).values(
                    [{"message_id": id, "holder": self.holder, "until": until} for id in ids]
                )
            )
        return [Row(row.id, row.payload, row.version) for row in found]

    def settle(self, db: Any, done: Sequence[int], back: Sequence[int]) -> None:
        """Delete ``done`` and put ``back`` where they were, as far as they are still ours.

        Raises: LeaseLost when some are not; nothing of this transaction counts then.
        """
        lease = self._t.lease
        ids = [*done, *back]
        freed = 0
        for part in _parts(ids):
            freed += db.execute(
                sa.delete(lease).where(lease.c.message_id.in_(part)).where(lease.c.holder == self.holder)
            ).rowcount
        if freed != len(ids):
            raise self._lost()
        for part in _parts(done):
            db.execute(sa.delete(self._t.message).where(self._t.message.c.id.in_(part)))
        for part in _parts(back):
            db.execute(self._set_visible(part, True))

    def renew(self, held: int) -> None:
        """Hold everything for another while. Raises: LeaseLost when something is gone."""
        lease = self._t.lease
        with self._engine.begin() as db:
            kept = db.execute(
                sa.update(lease).where(lease.c.holder == self.holder).values(until=self._t.now + self._seconds)
            ).rowcount
        if kept < held:
            raise self._lost()

    def reap(self) -> int:
        """Put back what nobody holds any more: leases run out, or their process on this machine is gone."""
        lease = self._t.lease
        with self._engine.begin() as db:
            holders = db.execute(sa.select(lease.c.holder).where(lease.c.holder != self.holder).distinct()).scalars()
            dead = [holder for holder in holders if self._is_dead(holder)]
            over = (
                db.execute(
                    sa.select(lease.c.message_id)
                    .where(sa.or_(lease.c.until < self._t.now, lease.c.holder.in_(dead)))
                    .limit(_AT_ONCE)
                    .with_for_update(skip_locked=True)
                )
                .scalars()
                .all()
            )
            if over:
                db.execute(self._set_visible(over, True))
                db.execute(sa.delete(lease).where(lease.c.message_id.in_(over)))
        return len(over)

    def _is_dead(self, holder: str) -> bool:
        process = _read(holder)
        return process is not None and process.boot == self._process.boot and is_gone(process, self._process)

    def _set_visible(self, ids: Sequence[int], visible: bool) -> Any:
        # The column timestamp would be set to this client's clock, and kombu serves by it first.
        return (
            sa.update(self._t.message).where(self._t.message.c.id.in_(ids)).values(visible=visible, timestamp=sa.null())
        )

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"broker {self._name}: this process was silent for longer than its lease; "
            "its messages went back to the queue"
        )


def _parts(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[at : at + _AT_ONCE] for at in range(0, len(ids), _AT_ONCE)]


def _written(process: ProcessId) -> str:
    return f"{process.boot} {process.namespace or '-'} {os.getpid()} {process.started or '-'} {uuid4().hex}"


def _read(holder: str) -> ProcessId | None:
    words = holder.split(" ")
    if len(words) != 5 or not words[2].isdigit():
        return None
    return ProcessId(words[0], words[1].replace("-", "", 1) if words[1] == "-" else words[1], int(words[2]), words[3])
