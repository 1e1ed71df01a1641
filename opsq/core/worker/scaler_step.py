"""The step by which a worker scales itself; handed to it by the command line, as users hand in steps of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Protocol

from opsq.autoscale.observation import Gauge
from opsq.autoscale.presets import Limits
from opsq.bootsteps import Bootstep, Provided
from opsq.broker.depth_watch import DepthWatch
from opsq.broker.source import QueueDepth
from opsq.core.pools.base import Pool
from opsq.core.worker.emit import Emitter
from opsq.core.worker.plan import WorkerPlan
from opsq.core.worker.receive import Receiver
from opsq.core.worker.scaler import Decide, Scaler
from opsq.core.worker.scaler_hints import HintEars
from opsq.core.worker.scaler_machine import MachineWatch
from opsq.core.worker.scaler_sight import Depths, Sight
from opsq.core.worker.scaler_watch import Watch
from opsq.errors import ConfigError, Fault

ANNOUNCED: Final = "worker-autoscale"
PROBE_RETRY_S: Final = 1.0


class Gauges(Protocol):
    """Where the user's own measure comes from. Thread: any."""

    def start(self) -> None:
        """Begin to read it."""
        ...

    def stop(self, timeout_s: float) -> bool:
        """Read it no more; false when a reading still goes on."""
        ...

    def read(self) -> Gauge | None:
        """The last reading with its age, at once; a value of None when there is none yet."""
        ...


class ScalerStep(Bootstep[Scaler]):
    """Scale the pool while the worker runs.

    decide, limits: the policy and what it obeys. gauges: the user's own measure, None without one. floor: fewest slots
    at an epoch second. dry: see ``Scaler``.
    """

    name: ClassVar[str] = "scaler"
    requires: ClassVar[tuple[type[Any], ...]] = (WorkerPlan, Pool, Emitter, Receiver)
    provides: ClassVar[type[Any] | None] = Scaler

    def __init__(
        self,
        decide: Decide,
        limits: Limits,
        gauges: Gauges | None = None,
        *,
        floor: Callable[[float], int] = lambda at: 0,
        dry: bool = False,
    ) -> None:
        self._decide, self.limits, self._gauges, self._floor, self._dry = decide, limits, gauges, floor, dry
        self._plan: WorkerPlan | None = None
        self._scaler: Scaler | None = None
        self.depths: DepthWatch | None = None
        self.hints: HintEars | None = None

    def start(self, up: Provided) -> Scaler:
        """Begin to look; the first decision comes within a second. Raises: ConfigError for a pool of fixed size."""
        plan, emitter = up[WorkerPlan], up[Emitter]
        pool: Pool = up[Pool]  # type: ignore[type-abstract]  # looked up by its protocol
        if not pool.capabilities.resize:
            raise ConfigError([_fixed(plan.pool_class.name)])
        clock, settings = plan.clock, plan.settings
        watch = Watch(self.limits.preset.patience * self.limits.slo_s)
        machine = MachineWatch(settings.autoscale_memory_limit, isolated=pool.capabilities.isolates_crash)
        sight = Sight(plan.ledger, pool, watch, machine, up[Receiver].waiting, clock.monotonic(), self._gauge)
        hints = HintEars(settings)
        sight.floor, sight.hints = self._floor, hints.heard

        def observe(found: Mapping[str, QueueDepth]) -> None:
            sight.told = Depths(clock.monotonic(), found)

        def names() -> list[str]:
            return [queue.name for queue in plan.standing.consumed(plan.queues)]

        def tell(record: dict[str, Any]) -> None:
            fields = {**record, "type": ANNOUNCED, "timestamp": clock.now(), "queues": names()}
            emitter.buffer.put(fields)
            emitter.wake()

        depths = DepthWatch(settings, names, observe, self.limits.tick_s, PROBE_RETRY_S)
        scaler = Scaler(
            plan.hostname, sight, pool, self._decide, self.limits, names, plan.resize, tell, clock,
            ask=depths.ask_now, winding_down=lambda: plan.owner is None or plan.owner.paused, dry=self._dry,
        )  # fmt: skip
        plan.ledger.watch = watch
        self._plan, self.depths, self._scaler, self.hints = plan, depths, scaler, hints
        if not self._dry:
            plan.scaler = scaler
        if self._gauges is not None:
            self._gauges.start()
        depths.start()
        hints.start()
        scaler.start()
        return scaler

    def stop(self, deadline: float) -> None:
        """Leave the pool as it is."""
        if self._plan is None or self._scaler is None or self.depths is None:
            return
        left_s = self._plan.soon(deadline) - self._plan.clock.monotonic()
        self._plan.ledger.watch = self._plan.scaler = None
        self._scaler.stop(left_s)
        self.depths.stop(left_s)
        if self.hints is not None:
            self.hints.stop(left_s)
        if self._gauges is not None:
            self._gauges.stop(left_s)

    def _gauge(self) -> Gauge | None:
        return None if self._gauges is None else self._gauges.read()


def _fixed(pool: str) -> Fault:
    return Fault(
        f"the {pool} pool has a fixed size, so it cannot be autoscaled",
        "autoscale_max_slots",
        "choose -P prefork, threads, asyncio, gevent or eventlet, or leave --autoscale out",
    )
