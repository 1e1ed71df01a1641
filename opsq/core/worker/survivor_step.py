"""Count the deaths of the worker itself towards the quarantine of the messages that it ran."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import msgspec

from opsq.bootsteps import Bootstep, Provided
from opsq.clock import Clock
from opsq.core.pools.base import OnOutcomes
from opsq.core.pools.verdicts import process_died
from opsq.core.worker.ledger import Entry
from opsq.core.worker.plan import WorkerPlan
from opsq.core.worker.quarantine import death_of, with_death
from opsq.core.worker.receive import Receiver
from opsq.core.worker.settle import Settler
from opsq.core.worker.survivor import Survivor, folder_for


class SurvivorStep(Bootstep[Survivor]):
    """Who may have killed the worker before this one; for pools whose tasks share its process."""

    name: ClassVar[str] = "survivor"
    requires: ClassVar[tuple[type[Any], ...]] = (Settler, Receiver)
    provides: ClassVar[type[Any] | None] = Survivor

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._survivor: Survivor | None = None

    def start(self, up: Provided) -> Survivor:
        """Read the record, and note from now on what runs; before anything is taken."""
        plan, settler = self._plan, up[Settler]
        survivor = Survivor(
            folder_for(plan.settings.data_dir), plan.hostname, plan.settings.resolved_broker_url("read")
        )
        if plan.pool_class.capabilities.isolates_crash or not plan.settings.quarantine_after_deaths:
            return survivor
        survivor.open()
        self._survivor = settler.survivor = survivor
        up[Receiver].blame = partial(blame, survivor, settler.on_outcomes, plan.clock)
        return survivor

    def stop(self, deadline: float) -> None:
        """Leave nothing behind."""
        if self._survivor is not None:
            self._survivor.close()


def blame(survivor: Survivor, report: OnOutcomes, clock: Clock, entry: Entry) -> bool:
    """Report ``entry`` as one that killed its process, when it did; it is then run again or set aside, like any."""
    deaths = survivor.deaths(entry.headers.id)
    if not deaths:
        return False
    now = clock.now()
    told = process_died(entry.job, now, now, 0, "the worker process died while it ran the task", None)
    for _ in range(deaths - 1):
        headers = with_death(entry.job.headers, death_of(told, ""))
        entry.job = msgspec.structs.replace(entry.job, headers=headers)
    report([told])
    return True
