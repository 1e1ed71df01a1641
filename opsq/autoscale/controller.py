"""Scales groups from the monitor: one thread, one decision a tick for each, and one controller of several acts.

The history's lease says who acts; the others decide and tell as well, dry. A controller that has just begun holds for
as long as a shrink is held, so that a restart frees nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from opsq.autoscale.decision import Decision, History
from opsq.autoscale.fleet_sight import Served, Standing, observe, served
from opsq.autoscale.groups import Group
from opsq.autoscale.observation import Gauge
from opsq.autoscale.presets import Limits
from opsq.autoscale.record import held_back, record_of
from opsq.autoscale.rules import Decide
from opsq.autoscale.targets import CannotScale, Target
from opsq.chore import Chore
from opsq.clock import Clock
from opsq.events.decisions import DECIDED
from opsq.events.records import WorkerItem
from opsq.events.views import Views
from opsq.wire.event import Event

log = logging.getLogger(__name__)

LEASE: Final = "autoscale"
LEASE_S: Final = 30.0
TELL_S: Final = 60.0
HELD_BACK_S: Final = 10.0
_HOUR_S: Final = 3600.0
_DAY_S: Final = 24 * _HOUR_S


class Leases(Protocol):
    """Where the lease is held: the history's store."""

    def lease(self, name: str, holder: str, ttl_s: float) -> bool:
        """Hold ``name`` for the next seconds, if nobody else does."""
        ...


class Scaling:
    """One group under control. Thread: the controller's."""

    def __init__(self, name: str, group: Group, limits: Limits, target: Target) -> None:
        self.name, self.group, self.limits, self.target = name, group, limits, target
        self.history = History()
        self.failing = ""
        self.would_have: int | None = None
        self.told_at = -math.inf
        self.told: tuple[str, str | None] | None = None
        self.spent_h, self.day, self.at = 0.0, -1, -math.inf

    def spend(self, slots: int, at: float, now: float) -> None:
        """Count slot-hours of the day, by UTC."""
        if int(now // _DAY_S) != self.day:
            self.day, self.spent_h = int(now // _DAY_S), 0.0
        if math.isfinite(self.at):
            self.spent_h += slots * max(0.0, at - self.at) / _HOUR_S
        self.at = at


class Controller:
    """Decides for every group. Thread: its own; ``start`` and ``stop`` from any.

    workers: those the monitor sees. tell: takes the events of decisions. holder: this monitor's name, unique. dry: only
    decide and tell, whoever holds the lease.
    """

    def __init__(
        self,
        groups: Sequence[Scaling],
        decide: Decide,
        views: Views,
        workers: Callable[[], Sequence[WorkerItem]],
        leases: Leases,
        tell: Callable[[Sequence[Event]], None],
        holder: str,
        clock: Clock,
        *,
        every_s: float = 1.0,
        dry: bool = False,
        gauge: Callable[[], Gauge | None] = lambda: None,
    ) -> None:
        self._groups, self._decide, self._views, self._workers = groups, decide, views, workers
        self._leases, self._tell, self._holder, self._clock = leases, tell, holder, clock
        self._dry, self._gauge = dry, gauge
        self._leads: bool | None = None
        self._chore = Chore("opsq-controller", self.step, every_s=every_s, failing="groups cannot be scaled now")

    def start(self) -> None:
        """Begin; a second call does nothing."""
        self._chore.start()

    def stop(self, timeout_s: float) -> bool:
        """Change nothing any more and let another lead; false when a target still answers."""
        ended = self._chore.stop(timeout_s)
        if self._leads and ended:
            self._leases.lease(LEASE, self._holder, 0.0)
            self._leads = None
        return ended

    def step(self) -> None:
        """Decide once for every group. Thread: its own, or a test's. Raises: StoreUnavailable."""
        leads = not self._dry and self._leases.lease(LEASE, self._holder, LEASE_S)
        if leads != self._leads:
            log.info("this monitor %s", "scales" if leads else "decides, and changes nothing: dry run or another leads")
            self._leads = leads
        workers = self._workers()
        for scaling in self._groups:
            try:
                self._step(scaling, served(scaling.group, workers), leads)
                scaling.failing = ""
            except CannotScale as error:
                if str(error) != scaling.failing:
                    log.warning("group %s is not scaled: %s", scaling.name, error)
                scaling.failing = str(error)

    def _step(self, scaling: Scaling, seen: Served, leads: bool) -> None:
        at, now = self._clock.monotonic(), self._clock.now()
        size = scaling.target.size(seen)
        scaling.spend(size.slots, at, now)
        dry = not leads
        have = scaling.would_have if dry and scaling.would_have is not None else size.slots
        stands = Standing(
            at=at, now=now, have=have, starting=min(size.starting, have), running=min(seen.busy, have),
            spent=scaling.spent_h, gauge=self._gauge(),
        )  # fmt: skip
        looked = observe(scaling.group, self._views, scaling.limits, stands)
        if scaling.history.at is None:
            # As after a growth: what was before we began is not known, so nothing is taken away at once.
            scaling.history = History(grown_at=at)
        decision = self._decide(looked, scaling.history, scaling.limits)
        scaling.history, scaling.would_have = decision.history, decision.target if dry else None
        applied = size.slots
        try:
            if leads and decision.target != size.slots:
                scaling.target.resize(decision.target, seen)
                applied = decision.target
        finally:
            record = record_of(scaling.name, looked, decision, scaling.limits, applied=applied, dry=dry)
            self._report(scaling, decision, record, now)

    def _report(self, scaling: Scaling, decision: Decision, record: Mapping[str, Any], now: float) -> None:
        changed, kept = decision.target != decision.have, held_back(decision)
        waited_s = decision.at - scaling.told_at
        if not (changed or waited_s >= TELL_S or (kept != scaling.told and waited_s >= HELD_BACK_S)):
            return
        scaling.told_at, scaling.told = decision.at, kept
        fields = {**record, "queues": list(scaling.group.queues)}
        self._tell([Event(kind=DECIDED, hostname=self._holder, timestamp=now, fields=fields)])


def scalings(
    groups: Mapping[str, Group], limits: Callable[[Group], Limits], target: Callable[[Group], Target]
) -> list[Scaling]:
    """Put the groups under control. Raises: ConfigError for a target that cannot be."""
    return [Scaling(name, group, limits(group), target(group)) for name, group in sorted(groups.items())]
