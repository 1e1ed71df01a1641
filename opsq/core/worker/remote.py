"""The step of remote control: the mailbox, and the first hello to the other workers."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from opsq.bootsteps import Bootstep, Provided
from opsq.broker.connection import open_connection
from opsq.broker.publisher import Publisher
from opsq.broker.retry import RetryPolicy
from opsq.control.addresses import addresses_of
from opsq.control.mailer import Mailer
from opsq.core.pools.base import Pool
from opsq.core.worker.ears import Wires
from opsq.core.worker.emit import Emitter
from opsq.core.worker.execute import Executor
from opsq.core.worker.mailbox import ControlMailbox
from opsq.core.worker.mingle import Mingle
from opsq.core.worker.plan import WorkerPlan
from opsq.core.worker.receive import Receiver
from opsq.core.worker.station import Station

REPLY_DEADLINE_S = 5.0
REPLY_RETRY = RetryPolicy(max_retries=1)
"""Once, because a connection that idled since the last command may be found broken by the next."""


class RemoteStep(Bootstep[Any]):
    """Answer remote commands, on a connection of its own, from before consuming until after it."""

    name: ClassVar[str] = "remote"
    requires: ClassVar[tuple[type[Any], ...]] = (Pool, Emitter, Receiver, Executor)
    provides: ClassVar[type[Any] | None] = ControlMailbox

    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan
        self._mailbox: ControlMailbox | None = None
        self._mingle: Mingle | None = None
        self._publisher: Publisher | None = None
        self._station: Station | None = None

    def start(self, up: Provided) -> ControlMailbox:
        """Read what an earlier worker kept, and start listening in the background."""
        plan, settings, loader = self.plan, self.plan.settings, up[Executor].loader
        pool: Pool = up[Pool]  # type: ignore[type-abstract]  # looked up by its protocol
        station = self._station = Station(plan, pool, up[Emitter], up[Receiver], loader)
        station.keeper.load()
        read, addresses = partial(open_connection, settings, purpose="read"), addresses_of(settings)
        self._publisher = Publisher(
            partial(open_connection, settings, purpose="write"), REPLY_RETRY, deadline_s=REPLY_DEADLINE_S
        )
        publish = self._publisher.publish
        wires = Wires(
            node=plan.hostname,
            connect=read,
            publish=publish,
            addresses=addresses,
            queue=addresses.worker_queue(plan.hostname),
            accept=loader.accept,
            limits=loader.limits,
            serializer=settings.task_serializer,
            serializers=loader.registry,
        )
        self._mailbox = ControlMailbox(station, wires, plan.probe)
        if not settings.worker_enable_remote_control:
            return self._mailbox
        self._mailbox.start()
        if settings.worker_mingle:
            mailer = Mailer(
                read,
                publish,
                addresses,
                serializer=settings.task_serializer,
                accept=loader.accept,
                lamport=plan.lamport,
                serializers=loader.registry,
            )
            self._mingle = Mingle(station, mailer)
            self._mingle.start()
        return self._mailbox

    def stop(self, deadline: float) -> None:
        """Stop listening, keep what was revoked, and leave what was changed for a while as it is."""
        soon = self.plan.soon(deadline)
        self.plan.overrides.stop()
        self.plan.levels.remove()
        if self._mingle is not None:
            self._mingle.stop(soon)
        if self._mailbox is not None:
            self._mailbox.stop(soon)
        if self._publisher is not None:
            self._publisher.close()
        if self._station is not None:
            self._station.keeper.save()
