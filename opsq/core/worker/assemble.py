"""What a worker is made of, as two literal lists: read them top to bottom.

The process graph lives as long as the process. The connection graph is made anew for every
connection; the owner thread, last step of the first graph, runs it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from opsq import plugins
from opsq.bootsteps import Bootstep, Provided
from opsq.broker.connection import BrokerConnection, open_connection
from opsq.broker.consumer import Consumer
from opsq.broker.notices import notices
from opsq.broker.publisher import Publisher
from opsq.broker.retry import NO_RETRY
from opsq.core.app import Opsq
from opsq.core.pools.base import Pool, PoolConfig
from opsq.core.schedules.zones import zone_of_settings
from opsq.core.worker.chord_step import ChordStep
from opsq.core.worker.clerk import Clerk
from opsq.core.worker.emit import EVENTS_DEADLINE_S, Emitter
from opsq.core.worker.execute import Executor
from opsq.core.worker.health import HealthServer, live, ready
from opsq.core.worker.intake import Intake
from opsq.core.worker.ledger import Ledger
from opsq.core.worker.owner import Owner
from opsq.core.worker.plan import WorkerPlan
from opsq.core.worker.policy import Policies
from opsq.core.worker.put_off import put_off
from opsq.core.worker.quarantine_room import waiting_aside
from opsq.core.worker.receive import Receiver
from opsq.core.worker.remote import RemoteStep
from opsq.core.worker.settle import Settler
from opsq.core.worker.shutdown import Shutdown
from opsq.core.worker.standing import StandingOrdersRead, StandingStep
from opsq.core.worker.success_log import SuccessLog
from opsq.core.worker.survivor import Survivor
from opsq.core.worker.survivor_step import SurvivorStep
from opsq.core.worker.vitals import Vitals
from opsq.core.worker.voice import Voice
from opsq.settings import Settings

log = logging.getLogger(__name__)

TICK_S = 1.0
"""The owner wakes so often anyway; see ``health.py``."""


def given(plan: WorkerPlan) -> dict[type[Any], object]:
    """What exists before any step."""
    return {Opsq: plan.app, Settings: plan.settings, WorkerPlan: plan, Ledger: plan.ledger, Policies: plan.policies}


def process_steps(plan: WorkerPlan) -> list[Bootstep[Any]]:
    """The steps of the process, the user's included. Raises: ConfigError for one that is not a step."""
    return [
        HealthStep(plan),
        EmitterStep(plan),
        ExecutorStep(plan),
        VoiceStep(plan),
        ClerkStep(plan),
        ChordStep(),
        SettlerStep(plan),
        PoolStep(plan),
        ReceiverStep(plan),
        SurvivorStep(plan),
        RemoteStep(plan),
        OwnerStep(plan),
        *_users(plan.app, "worker", "opsq.worker_steps"),
    ]


def connection_steps(plan: WorkerPlan) -> list[Bootstep[Any]]:
    """The steps of one connection, the user's included."""
    return [
        ConnectionStep(plan),
        StandingStep(plan.standing),
        ConsumerStep(plan),
        *_users(plan.app, "consumer", "opsq.connection_steps"),
    ]


class _Step(Bootstep[Any]):
    def __init__(self, plan: WorkerPlan) -> None:
        self.plan = plan


class EmitterStep(_Step):
    """Announce what happens, on a connection of its own."""

    name: ClassVar[str] = "emitter"
    provides: ClassVar[type[Any] | None] = Emitter
    _emitter: Emitter | None = None

    def start(self, up: Provided) -> Emitter:
        """Connect nothing yet; the emitter's own thread does."""
        plan, settings = self.plan, self.plan.settings
        connect = partial(open_connection, settings, purpose="write")
        publisher = Publisher(connect, NO_RETRY, deadline_s=EVENTS_DEADLINE_S, confirm="async")
        vitals = Vitals(plan.version, plan.facts, plan.clock)
        self._emitter = Emitter(plan.hostname, publisher, settings, vitals, plan.clock, plan.lamport)
        self._emitter.start()
        return self._emitter

    def stop(self, deadline: float) -> None:
        """Say goodbye."""
        if self._emitter is not None:
            self._emitter.stop(self.plan.soon(deadline))


class ExecutorStep(_Step):
    """What a slot does with a job."""

    name: ClassVar[str] = "executor"
    provides: ClassVar[type[Any] | None] = Executor

    def start(self, up: Provided) -> Executor:
        """Build it."""
        plan = self.plan
        own_thread = not plan.pool_class.capabilities.shares_thread
        return Executor(plan.app, plan.hostname, plan.clock, own_thread)


class VoiceStep(_Step):
    """Let the tasks that run in this very process be heard; child processes have voices of their own."""

    name: ClassVar[str] = "voice"
    requires: ClassVar[tuple[type[Any], ...]] = (Executor, Emitter)
    _voice: Voice | None = None

    def start(self, up: Provided) -> None:
        """Listen to what tasks say."""
        plan, emitter = self.plan, up[Emitter]
        if plan.pool_class.capabilities.isolates_crash:
            return
        self._voice = Voice(emitter.emit, emitter.wake, plan.settings.event_log_lines_max, plan.clock)
        emitter.on_flush = self._voice.heard
        up[Executor].speak(self._voice)

    def stop(self, deadline: float) -> None:
        """Listen no more."""
        if self._voice is not None:
            self._voice.stop()
            self.plan.app.sender.voice = None


class ClerkStep(_Step):
    """Paperwork for what no slot finishes."""

    name: ClassVar[str] = "clerk"
    requires: ClassVar[tuple[type[Any], ...]] = (Executor, Emitter)
    provides: ClassVar[type[Any] | None] = Clerk
    _clerk: Clerk | None = None

    def start(self, up: Provided) -> Clerk:
        """Start its thread."""
        executor = up[Executor]
        self._clerk = Clerk(
            executor.recorder,
            executor.follower,
            self.plan.app.publisher.publish,
            up[Emitter],
            up[Ledger],
            self.plan.settings,
            partial(waiting_aside, self.plan.settings),
        )
        self._clerk.start()
        return self._clerk

    def stop(self, deadline: float) -> None:
        """Finish what is queued."""
        if self._clerk is not None:
            self._clerk.stop(self.plan.soon(deadline))


class SettlerStep(_Step):
    """From outcomes to acknowledgements."""

    name: ClassVar[str] = "settler"
    requires: ClassVar[tuple[type[Any], ...]] = (Emitter, Clerk)
    provides: ClassVar[type[Any] | None] = Settler

    def start(self, up: Provided) -> Settler:
        """Build it."""
        plan = self.plan
        return Settler(up[Ledger], up[Emitter], up[Clerk], plan.clock, plan.pool_class.name, plan.probe)


class PoolStep(_Step):
    """The slots."""

    name: ClassVar[str] = "pool"
    requires: ClassVar[tuple[type[Any], ...]] = (Executor, Settler)
    provides: ClassVar[type[Any] | None] = Pool
    _pool: Pool | None = None

    def start(self, up: Provided) -> Pool:
        """Make the slots. Raises: ConfigError when children cannot find the app."""
        plan, settler = self.plan, up[Settler]
        config = PoolConfig(
            slots=plan.slots,
            run=up[Executor],
            on_started=settler.on_started,
            on_outcomes=settler.on_outcomes,
            on_soft_limit=settler.on_soft_limit,
            settings=plan.settings,
            child_setup=plan.child_setup() if plan.pool_class.capabilities.isolates_crash else None,
            clock=plan.clock,
            extra=plan.ahead,
        )
        pool: Pool = plan.pool_class(config)
        self._pool = plan.pool = pool
        pool.start()
        return pool

    def stop(self, deadline: float) -> None:
        """End the slots; what still runs was given back before."""
        if self._pool is not None:
            self._pool.stop(self.plan.soon(deadline))


class ReceiverStep(_Step):
    """From deliveries to slots."""

    name: ClassVar[str] = "receiver"
    requires: ClassVar[tuple[type[Any], ...]] = (Pool, Emitter, Clerk, Executor)
    provides: ClassVar[type[Any] | None] = Receiver

    def start(self, up: Provided) -> Receiver:
        """Build it from the rules of intake."""
        ledger, loader, stamps = up[Ledger], up[Executor].loader, self.plan.stamps
        intake = Intake(
            up[Policies],
            loader.accept,
            loader.limits,
            ledger.revoked,
            zone_of_settings(self.plan.settings.timezone, self.plan.settings.enable_utc),
            serializers=loader.registry,
            stamp_revoked=stamps.covers,
        )
        receiver = Receiver(intake, ledger, _pool(up), up[Emitter], up[Clerk], self.plan.clock, self.plan.probe)
        plan, clerk = self.plan, up[Clerk]
        receiver.put_off = put_off(plan.settings, ledger, clerk.later, lambda: plan.app.publisher, lambda: plan.queues)
        return receiver


class OwnerStep(_Step):
    """The thread that owns the connection; stopping it is the worker's shutdown."""

    name: ClassVar[str] = "owner"
    requires: ClassVar[tuple[type[Any], ...]] = (Receiver, Settler, Pool, Survivor)
    provides: ClassVar[type[Any] | None] = Owner
    _shutdown: Shutdown | None = None

    def start(self, up: Provided) -> Owner:
        """Start consuming in the background."""
        plan = self.plan
        owner = Owner(
            lambda: connection_steps(plan),
            up,
            up[Ledger],
            up[Receiver],
            up[Settler],
            plan.on_ready,
            plan.on_fatal,
            plan.max_connection_failures,
            plan.probe,
        )
        plan.owner = owner
        self._shutdown = Shutdown(owner, _pool(up), up[Ledger], up[Receiver], up[Settler], plan.haste)
        plan.shutdown = self._shutdown
        owner.start()
        return owner

    def stop(self, deadline: float) -> None:
        """Take nothing new, give back what has not begun, wait for what runs."""
        if self._shutdown is not None:
            self._shutdown.run(self.plan.running_may_last_until(deadline))


class HealthStep(_Step):
    """The health port, when one is wanted; it outlives the pool, so that probes see a worker that stops."""

    name: ClassVar[str] = "health"
    _server: HealthServer | None = None

    def start(self, up: Provided) -> None:
        """Open the port. Raises: HealthPortTaken."""
        plan, settings = self.plan, self.plan.settings
        if settings.worker_health_port is not None:
            checks = {"/live": partial(live, plan), "/ready": partial(ready, plan)}
            self._server = HealthServer(
                settings.worker_health_host, settings.worker_health_port, checks, shared=settings.worker_autoreload
            )
            self._server.start()
            log.info("health port", extra={"host": settings.worker_health_host, "port": self._server.port})

    def stop(self, deadline: float) -> None:
        """Close it."""
        if self._server is not None:
            self._server.stop()


class ConnectionStep(_Step):
    """The broker connection to consume from."""

    name: ClassVar[str] = "connection"
    provides: ClassVar[type[Any] | None] = BrokerConnection
    _connection: BrokerConnection | None = None

    def start(self, up: Provided) -> BrokerConnection:
        """Connect. Raises: BrokerUnavailable."""
        self._connection = open_connection(self.plan.settings, purpose="read")
        self._connection.connect()
        for notice in notices(self._connection):
            if notice not in self.plan.told:
                self.plan.told.add(notice)
                log.warning(notice)
        return self._connection

    def stop(self, deadline: float) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()


class ConsumerStep(_Step):
    """The loop over that connection, not yet running."""

    name: ClassVar[str] = "consumer"
    requires: ClassVar[tuple[type[Any], ...]] = (BrokerConnection, StandingOrdersRead, Receiver, Settler, Pool)
    provides: ClassVar[type[Any] | None] = Consumer

    def start(self, up: Provided) -> Consumer:
        """Build it; the owner thread runs it."""
        plan, receiver = self.plan, up[Receiver]
        tick = _Tick(receiver, plan, up[Settler].successes)
        tick.consumer = Consumer(
            up[BrokerConnection],
            plan.standing.consumed(plan.queues),
            on_batch=tick.on_batch,
            on_settled=up[Settler].on_settled,
            on_stale=up[Settler].on_stale,
            on_tick=tick,
            prefetch=plan.prefetch(_pool(up).slots),
            clock=plan.clock,
        )
        return tick.consumer


def _pool(up: Provided) -> Pool:
    return up[Pool]  # type: ignore[type-abstract]  # looked up by its protocol


class _Tick:
    """What is due at each turn; tells the consumer how much is only held, so that this does not starve the slots."""

    def __init__(self, receiver: Receiver, plan: WorkerPlan, successes: SuccessLog) -> None:
        self._receiver = receiver
        self._successes = successes
        self._plan = plan
        self._limit = plan.settings.worker_eta_task_limit
        self._held = 0
        self.consumer: Consumer | None = None

    def on_batch(self, deliveries: list[Any]) -> None:
        """Take a batch in."""
        self._receiver.on_batch(deliveries)
        self._tell()

    def __call__(self) -> float | None:
        """Release what is due, act on new standing orders, and say that the loop turns."""
        self._plan.standing.enforce(self.consumer, self._receiver, self._plan.queues)
        wait_s = self._receiver.on_tick()
        self._tell()
        self._successes.tick()
        if self._plan.owner is not None:
            self._plan.owner.ticked_at = self._plan.clock.monotonic()
        return TICK_S if wait_s is None else min(wait_s, TICK_S)

    def _tell(self) -> None:
        held = self._receiver.held()
        if self._limit is not None:
            held = min(held, self._limit)
        if held != self._held and self.consumer is not None:
            self._held = held
            self.consumer.set_held(held)


def _users(app: Any, kind: str, group: str) -> list[Bootstep[Any]]:
    """The user's steps, from ``app.steps`` and from entry points; classes are instantiated."""
    found: Sequence[Any] = [*app.steps.get(kind, ()), *plugins.load_group(group).values()]
    return [step() if isinstance(step, type) else step for step in found]
