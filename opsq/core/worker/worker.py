"""A worker: takes tasks from queues and runs them, until it is told to stop.

``run`` is the whole life of a worker process. ``start`` and ``stop`` are its two halves, for a worker
inside another program or a test.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from typing import Any

from opsq import __version__, logs
from opsq.bootsteps import Graph
from opsq.clock import Clock, SystemClock
from opsq.core.pools.registry import load_pool
from opsq.core.worker.assemble import connection_steps, given, process_steps
from opsq.core.worker.ledger import Ledger, RevokedIds
from opsq.core.worker.plan import WorkerPlan, cpus
from opsq.core.worker.policy import Policies, Policy, check_pool
from opsq.core.worker.posix import StopSignals, leave
from opsq.core.worker.probes import Probe
from opsq.errors import ExitCode, LifecycleError, OpsqError, UsageError
from opsq.signals import celeryd_after_setup, celeryd_init, setup_logging, worker_init, worker_ready, worker_shutdown

log = logging.getLogger(__name__)

FOREVER_S = 10.0**9
"""A warm shutdown without a limit; a second signal still ends it."""
WINDING_DOWN_S = 10.0
"""What the steps after the pool may take: events, results, connections."""


class Worker:
    """One worker of one app. Thread: ``run``, ``start`` and ``stop`` from one thread at a time.

    pool, concurrency: instead of the settings ``worker_pool`` and ``worker_concurrency``. queues: to
    consume, all declared ones by default. probe: see ``probes.py``.
    Raises: ConfigError when the settings, the tasks and the pool do not fit together.
    """

    def __init__(
        self,
        app: Any,
        *,
        pool: str | None = None,
        concurrency: int | None = None,
        queues: Sequence[str] = (),
        exclude_queues: Sequence[str] = (),
        hostname: str | None = None,
        clock: Clock | None = None,
        probe: Probe = None,
    ) -> None:
        app.import_task_modules()
        settings = app.settings
        self.app = app
        self.settings = settings
        self.hostname = node_name(hostname or settings.worker_hostname)
        celeryd_init.send(sender=self.hostname, instance=self, conf=app.conf, options={})
        self.policies = Policies(app.tasks, settings)
        self.ledger = Ledger(RevokedIds(settings.worker_revokes_max, settings.worker_revoke_expires))
        pool_class = load_pool(pool or str(settings.worker_pool))
        wanted = concurrency or settings.worker_concurrency or cpus()
        self.plan = WorkerPlan(
            app=app,
            settings=settings,
            hostname=self.hostname,
            version=__version__,
            clock=clock or SystemClock(),
            queues=app.queues.select(
                queues or settings.worker_queues, exclude_queues or settings.worker_exclude_queues
            ),
            pool_class=pool_class,
            slots=min(wanted, pool_class.capabilities.max_slots or wanted),
            ledger=self.ledger,
            policies=self.policies,
            on_ready=self._on_ready,
            on_fatal=self._on_fatal,
            probe=probe,
        )
        check_pool(pool_class.name, pool_class.capabilities, self._all_policies(), self._broker_is_memory())
        self.ready = threading.Event()
        self._wanted = threading.Event()
        self._exit_code: int = ExitCode.OK
        self.error: BaseException | None = None
        self._graph = Graph(process_steps(self.plan), given(self.plan))
        celeryd_after_setup.send(sender=self.hostname, instance=self, conf=app.conf)

    def explain(self) -> str:
        """What would be started, in which order."""
        outer = process_steps(self.plan)
        promised = [step.provides for step in outer if step.provides is not None]
        inner = Graph(connection_steps(self.plan), dict.fromkeys([*promised, *given(self.plan)]))
        return f"process\n{self._graph.explain()}\nconnection, anew each time\n{inner.explain()}"

    def promises(self) -> str:
        """What this worker promises for each task, one line each."""
        lines = []
        for policy in self._all_policies():
            promise = "at least once" if policy.acks_late else "at most once"
            lines.append(f"  {policy.task}: {promise}")
        return "\n".join(sorted(lines))

    def purge(self) -> int:
        """Delete every waiting message of its queues; how many."""
        return sum(self.app.purge_queue(queue.name) for queue in self.plan.queues)

    def run(self) -> int:
        """Work until a signal says stop; returns the exit code.

        TERM or INT: finish what runs. A second INT, or QUIT: return what runs to the broker and go.
        Thread: main.
        """
        self._set_up_logs()
        with StopSignals(self._on_signal, remap_term=self.settings.worker_remap_sigterm == "SIGQUIT"):
            self._banner()
            self.start()
            self._wanted.wait()
            try:
                self.stop()
            except LifecycleError as exc:
                log.error("the worker did not stop cleanly", extra={"error": str(exc)})
                self._exit_code = self._exit_code or ExitCode.FAILURE
        self.app.close()
        if self.error is not None:
            log.error("the worker could not go on", extra={"error": str(self.error)})
        leave(self._exit_code)
        return self._exit_code

    def start(self) -> None:
        """Start everything; consuming begins in the background (``ready``). Raises: StartError."""
        worker_init.send(sender=self)
        self._graph.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop: warm for at most ``timeout_s`` seconds (the setting's, else no limit), then cold.

        Raises: StopTimeout, LifecycleError after everything was asked to stop.
        """
        self._wanted.set()
        limit_s = self.settings.worker_shutdown_timeout if timeout_s is None else timeout_s
        self.plan.shutdown_within(FOREVER_S if limit_s is None else limit_s)
        try:
            self._graph.stop((FOREVER_S if limit_s is None else limit_s) + WINDING_DOWN_S)
        finally:
            worker_shutdown.send(sender=self)

    def resize(self, slots: int) -> None:
        """Have this many slots, and hold as many deliveries as suits them. Thread: any."""
        pool, owner = self.plan.pool, self.plan.owner
        if pool is None or not pool.capabilities.resize:
            raise UsageError(f"the {self.plan.pool_class.name} pool cannot be resized")
        if slots > pool.slots:
            pool.grow(slots - pool.slots)
        elif slots < pool.slots:
            pool.shrink(pool.slots - slots)
        if owner is not None and owner.consumer is not None:
            owner.consumer.set_prefetch(self.plan.prefetch(pool.slots))

    def ask_to_stop(self, code: int = ExitCode.OK, cold: bool = False) -> None:
        """Make ``run`` return; a cold stop does not wait for what runs. Thread: any."""
        if code and not self._exit_code:
            self._exit_code = code
        if cold:
            self.plan.hurry.set()
        self._wanted.set()

    def _on_signal(self, name: str, cold: bool, code: int) -> None:
        log.warning("stopping", extra={"signal": name, "how": "cold" if cold else "warm"})
        self.ask_to_stop(code, cold)

    def _on_ready(self) -> None:
        first = not self.ready.is_set()
        self.ready.set()
        log.info("ready", extra={"worker": self.hostname, "queues": [queue.name for queue in self.plan.queues]})
        if self.plan.probe is not None:
            self.plan.probe("ready", "", None)
        if first:
            worker_ready.send(sender=self)

    def _on_fatal(self, exc: BaseException) -> None:
        self.error = exc
        self.ask_to_stop(exc.exit_code if isinstance(exc, OpsqError) else ExitCode.FAILURE)

    def _all_policies(self) -> list[Policy]:
        names = self.app.tasks.regular()
        return [policy for name in names if (policy := self.policies(name)) is not None]

    def _broker_is_memory(self) -> bool:
        url = self.settings.resolved_broker_url("read")
        return str(url if isinstance(url, str) else next(iter(url), "")).startswith("memory")

    def _set_up_logs(self) -> None:
        if setup_logging.receivers:
            setup_logging.send(sender=None, loglevel=self.settings.log_level, logfile=None, format=None, colorize=None)
            return
        logs.setup(logs.config_from(self.settings, worker=self.hostname))

    def _banner(self) -> None:
        plan = self.plan
        log.info(
            "starting",
            extra={
                "pool": plan.pool_class.name,
                "slots": plan.slots,
                "broker": self.settings.masked().get("broker_url") or "sqlite",
                "tasks": len(self.app.tasks.regular()),
            },
        )
        if promises := self.promises():
            log.info("promises of the tasks:\n%s", promises)


def node_name(pattern: str) -> str:
    """Fill in a node name: ``%h`` host, ``%n`` its first part, ``%d`` its domain."""
    host = socket.gethostname()
    first, _, domain = host.partition(".")
    if "@" not in pattern:
        pattern = f"{pattern}@%h"
    return pattern.replace("%h", host).replace("%n", first).replace("%d", domain).replace("%%", "%")
