"""Everything that is decided before a worker starts: names, numbers, queues, pool."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from opsq.broker.prefetch import Adaptive
from opsq.broker.topology import QueueSpec
from opsq.clock import Clock, LamportClock
from opsq.core.pools.base import Pool
from opsq.core.worker.child import ChildSetup, address_of
from opsq.core.worker.ledger import Ledger
from opsq.core.worker.level_file import LevelFile
from opsq.core.worker.overrides import Overrides
from opsq.core.worker.owner import Owner
from opsq.core.worker.policy import Policies
from opsq.core.worker.probes import Probe
from opsq.core.worker.revocations import RevokedStamps
from opsq.core.worker.shutdown import Haste, Shutdown
from opsq.core.worker.standing import Standing
from opsq.settings import Settings

PREFETCH_MAX = 65_535


class Scaler(Protocol):
    """What scales the worker, as the remote command ``autoscale`` sees it."""

    def set_bounds(self, most: int | None, fewest: int | None) -> tuple[int, int]:
        """Keep within these from now on, None for as it is; both as they are then. Raises: UsageError."""
        ...

    def facts(self) -> dict[str, int]:
        """What ``inspect stats`` says of it, with Celery's keys."""
        ...


@dataclass
class WorkerPlan:
    """What the steps are built from; ``pool`` and ``owner`` are there once they have started.

    on_ready: called on the owner thread when consuming begins. on_fatal: called when it cannot go
    on. request_stop, resize: of the worker, for remote control. stamps: revoked ones. haste: how a
    second signal hurries a shutdown. ahead: what the pool did before the first thread. shutdown: winds
    down what ``owner`` began. overrides, levels: what remote control changed. scaler: when the
    worker scales itself, set by its step. told: what was said about the broker, once each.
    """

    app: Any
    settings: Settings
    hostname: str
    version: str
    queues: tuple[QueueSpec, ...]
    pool_class: type[Any]
    slots: int
    clock: Clock
    ledger: Ledger
    policies: Policies
    on_ready: Callable[[], None]
    on_fatal: Callable[[BaseException], None]
    request_stop: Callable[[], None]
    resize: Callable[[int], None]
    stamps: RevokedStamps
    probe: Probe = None
    lamport: LamportClock = field(default_factory=LamportClock)
    haste: Haste = field(default_factory=Haste)
    ahead: Mapping[str, Any] = field(default_factory=dict)
    pool: Pool | None = None
    owner: Owner | None = None
    shutdown: Shutdown | None = None
    overrides: Overrides = field(default_factory=Overrides)
    levels: LevelFile = field(default_factory=LevelFile)
    scaler: Scaler | None = None
    told: set[str] = field(default_factory=set)
    _stop_by: float | None = None

    def __post_init__(self) -> None:
        expires_s = self.settings.worker_revoke_expires
        self.standing = Standing(self.ledger.revoked, self.stamps, expires_s, self.overrides)

    def shutdown_within(self, seconds: float) -> None:
        """From now, how long what runs may take to finish."""
        self._stop_by = self.clock.monotonic() + seconds

    def running_may_last_until(self, deadline: float) -> float:
        """The moment (monotonic seconds) at which a warm shutdown becomes a cold one."""
        return deadline if self._stop_by is None else min(deadline, self._stop_by)

    def soon(self, deadline: float) -> float:
        """A near moment for steps that have nothing to wait for: a warm shutdown may have no end.

        Never all that is left: a slot that is stuck must not use up the time of the steps after it.
        """
        now = self.clock.monotonic()
        return now + min(1.0 if self.haste.hurry.is_set() else 5.0, max(0.0, deadline - now) / 2)

    def prefetch(self, slots: int) -> int | Adaptive:
        """How many deliveries to hold for ``slots`` slots."""
        settings = self.settings
        if settings.worker_disable_prefetch:
            return slots
        multiplier = settings.worker_prefetch_multiplier
        if multiplier is None:
            return Adaptive(slots, target_s=settings.worker_prefetch_target)
        return min(PREFETCH_MAX, slots * multiplier) if multiplier else PREFETCH_MAX

    def max_connection_failures(self, first: bool) -> int | None:
        """Failed attempts in a row before giving up; None for never. first: there was no connection yet."""
        settings = self.settings
        retry = settings.broker_connection_retry
        if first and settings.broker_connection_retry_on_startup is not None:
            retry = settings.broker_connection_retry_on_startup
        return (settings.broker_connection_max_retries or None) if retry else 0

    def child_setup(self) -> ChildSetup:
        """How children build their runner. Raises: ConfigError when they cannot find the app."""
        return ChildSetup(
            address_of(self.app, self.settings.app), self.hostname, self.app.cli_values(), self.levels.path
        )

    def facts(self) -> dict[str, Any]:
        """What a heartbeat says about the worker. Thread: any."""
        pool, ledger = self.pool, self.ledger
        busy = len(pool.running()) if pool is not None else 0
        consumer = self.owner.consumer if self.owner is not None else None
        return {
            "active": busy,
            "processed": ledger.processed,
            "slots": pool.slots if pool is not None else self.slots,
            "busy": busy,
            "prefetch": consumer.prefetch if consumer is not None else 0,
            "queues": [queue.name for queue in self.standing.consumed(self.queues)],
            "pool": self.pool_class.name,
            "paused": sorted(f"{each.kind.removeprefix('paused_')} {each.name}" for each in self.standing.pauses()),
        }


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
