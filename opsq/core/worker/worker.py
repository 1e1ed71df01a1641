"""A worker: takes tasks from queues and runs them, until it is told to stop.

``run`` is the whole life of a worker process. ``start`` and ``stop`` are its two halves, for a worker
inside another program or a test.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

from opsq import __version__
from opsq.bootsteps import Graph
from opsq.broker.topology import QueueSpec, worker_queue
from opsq.clock import Clock, SystemClock
from opsq.core.pools.registry import load_pool
from opsq.core.registry import PROCESS
from opsq.core.worker.assemble import connection_steps, given, process_steps
from opsq.core.worker.boot import banner, promises, refuse_root_with_pickle
from opsq.core.worker.ledger import Ledger, RevokedIds
from opsq.core.worker.log_setup import set_up_logs
from opsq.core.worker.naming import node_name
from opsq.core.worker.pidfile import NodeName, PidFile
from opsq.core.worker.plan import WorkerPlan, cpus
from opsq.core.worker.policy import Policies, Policy, check_pool
from opsq.core.worker.posix import StopSignals, end_within, leave, need_not_end, vanish
from opsq.core.worker.probes import Probe
from opsq.core.worker.revocations import RevokedStamps
from opsq.core.worker.shutdown import Haste
from opsq.core.worker.stopping import Phase, answer
from opsq.errors import ExitCode, LifecycleError, OpsqError, UsageError
from opsq.garbage import look_rarely
from opsq.log_output import redirect_output
from opsq.signals import celeryd_after_setup, celeryd_init, worker_init, worker_ready, worker_shutdown

log = logging.getLogger(__name__)

FOREVER_S = 10.0**9
"""A warm shutdown without a limit; a second signal still ends it."""
WINDING_DOWN_S = 10.0
"""What giving back and the steps after the pool may take: events, results, connections."""
LAST_PART = 0.25
"""How much of a limited shutdown is kept for that: what runs is given back before the deadline, not at it."""
LAST_PART_MAX_S = 2.0
HEARS_WITHIN_S = 0.1
"""The longest a signal waits for its answer, whichever thread it came to."""
GARBAGE_AFTER = 20_000
"""Objects between two looks for reference cycles: see ``garbage.py``."""
COLD_WITHIN_S = 10.0
"""A cold shutdown that takes longer is ended by force."""


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
            queues=self._queues(queues or settings.worker_queues, exclude_queues or settings.worker_exclude_queues),
            pool_class=pool_class,
            slots=min(wanted, pool_class.capabilities.max_slots or wanted),
            ledger=self.ledger,
            policies=self.policies,
            on_ready=self._on_ready,
            on_fatal=self._on_fatal,
            request_stop=self.ask_to_stop,
            resize=self.resize,
            stamps=RevokedStamps(settings.worker_revokes_max, settings.worker_revoke_expires),
            probe=probe,
            haste=Haste(settings.worker_soft_shutdown_timeout, settings.worker_enable_soft_shutdown_on_idle),
        )
        shared = {task.name for task in PROCESS.shared() if task.name}
        check_pool(pool_class.name, pool_class.capabilities, self._all_policies(), self._broker_is_memory(), shared)
        self.ready = threading.Event()
        self.phase = Phase.RUNNING
        self.restart_wanted = False
        self._wanted = threading.Event()
        self._last_signal_at = 0.0
        self._end_at = FOREVER_S
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
        """What this worker promises for which tasks, one line per promise."""
        return promises(self._all_policies())

    def purge(self) -> int:
        """Delete every waiting message of its queues; how many."""
        return sum(self.app.purge_queue(queue.name) for queue in self.plan.queues)

    def run(self, on_started: Callable[[], None] | None = None) -> int:
        """Work until a signal says stop; returns the exit code. What signals do: ``stopping.py``.

        on_started: called once everything has started; who passes it lets go of the terminal then.
        ``restart_wanted`` says afterwards whether the caller is to start the same program again. Thread: main.
        """
        refuse_root_with_pickle(self.settings)
        before = threading.enumerate()
        self._prepare_pool(detached=on_started is not None)
        remap_term = self.settings.worker_remap_sigterm == "SIGQUIT"
        with self._logging(), StopSignals(self._on_signal, remap_term, self._children):
            for line in banner(self.plan, self._all_policies()):
                log.info(line)
            with self._alone():
                self.start()
                look_rarely(GARBAGE_AFTER)
                if on_started is not None:
                    on_started()
                # Only this thread runs signal handlers, and one that the kernel gave to another does not wake it.
                while not self._wanted.wait(HEARS_WITHIN_S):
                    pass
                self._stop_in_time()
            self.app.close()
            if self.error is not None:
                log.error("the worker could not go on", extra={"error": str(self.error)})
            if not self.restart_wanted:
                leave(self._exit_code, before)
            need_not_end()
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
        self.phase = max(self.phase, Phase.WARM)
        limit_s = self.settings.worker_shutdown_timeout if timeout_s is None else timeout_s
        last_s = WINDING_DOWN_S if limit_s is None else min(LAST_PART_MAX_S, LAST_PART * limit_s)
        self.plan.shutdown_within(FOREVER_S if limit_s is None else limit_s - last_s)
        try:
            if self.plan.shutdown is not None:
                # Before the user's own steps, which the graph stops first and which may take their time.
                self.plan.shutdown.begin(self.plan.running_may_last_until(self.plan.clock.monotonic() + FOREVER_S))
            self._graph.stop(FOREVER_S + last_s if limit_s is None else limit_s)
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
        self._go_to(Phase.COLD if cold else Phase.WARM, code)

    def _go_to(self, phase: Phase, code: int) -> None:
        if code and not self._exit_code:
            self._exit_code = code
        self.phase = max(self.phase, phase)
        if phase >= Phase.SOFT:
            self.plan.haste.hurry.set()
        if phase >= Phase.COLD:
            self.plan.haste.at_once.set()
        self._wanted.set()

    def _on_signal(self, name: str) -> None:
        now, haste = time.monotonic(), self.plan.haste
        if haste.at_once.is_set():
            self.phase = max(self.phase, Phase.COLD)  # the soft wait may have ended by itself
        following, code = answer(name, self.phase, now - self._last_signal_at, haste.soft_s > 0)
        self._last_signal_at = now
        if following == Phase.GONE:
            vanish(self._exit_code or code)
        if name == "SIGHUP" and self.phase == Phase.RUNNING:
            self.restart_wanted = not os.isatty(1)  # sys.stdout may be the log
        elif following > self.phase:
            self.restart_wanted = False
        log.warning("stopping" if following > self.phase else "still stopping", extra=_told(name, following))
        if following >= Phase.SOFT:
            self._end_within(haste.soft_s + COLD_WITHIN_S)
        self._go_to(following, code)

    def _stop_in_time(self) -> None:
        limit_s = self.settings.worker_shutdown_timeout
        if limit_s is not None:
            self._end_within(limit_s)
        try:
            self.stop()
        except LifecycleError as exc:
            log.error("the worker did not stop cleanly", extra={"error": str(exc)})
            self._exit_code = self._exit_code or ExitCode.FAILURE

    def _children(self) -> list[int]:
        pool = self.plan.pool
        found = pool.stats().get("processes", ()) if pool is not None else ()
        return [pid for pid in found if isinstance(pid, int)] if isinstance(found, list) else []

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

    def _queues(self, names: Sequence[str], exclude: Sequence[str]) -> tuple[QueueSpec, ...]:
        """What to consume: the queues that were asked for, and with ``worker_direct`` one for this worker alone."""
        chosen: tuple[QueueSpec, ...] = self.app.queues.select(names, exclude)
        return (*chosen, self.app.queues.add(worker_queue(self.hostname))) if self.settings.worker_direct else chosen

    def _all_policies(self) -> list[Policy]:
        names = self.app.tasks.regular()
        return [policy for name in names if (policy := self.policies(name)) is not None]

    def _broker_is_memory(self) -> bool:
        url = self.settings.resolved_broker_url("read")
        return str(url if isinstance(url, str) else next(iter(url), "")).startswith("memory")

    def _prepare_pool(self, detached: bool) -> None:
        """Let the pool do what it can only do in a process with one thread."""
        ahead = getattr(self.plan.pool_class, "ahead", None)
        if ahead is not None:
            self.plan.ahead = ahead(self.plan.child_setup(), self.settings, detached)

    def _logging(self) -> AbstractContextManager[None]:
        """Set up the log; for the length of the block, what is printed goes there too."""
        settings = self.settings
        printed = set_up_logs(settings, self.hostname)
        return redirect_output(settings.worker_redirect_stdouts_level) if printed else nullcontext()

    def _alone(self) -> AbstractContextManager[object]:
        """Hold what only one process may have: the pid file, and the node's name."""
        held, settings = ExitStack(), self.settings
        # Two generations share them for a moment; their keeper holds them.
        if not settings.worker_autoreload:
            held.enter_context(PidFile(settings.worker_pidfile, self.hostname))
            held.enter_context(NodeName(self.hostname, settings.resolved_broker_url("read")))
        return held

    def _end_within(self, seconds: float) -> None:
        """End by force after ``seconds``, or sooner when that was said before."""
        self._end_at = min(self._end_at, time.monotonic() + seconds)
        end_within(self._end_at - time.monotonic())


def _told(signal: str, phase: Phase) -> dict[str, str]:
    told = {"signal": signal, "how": phase.name.lower()}
    if phase <= Phase.SOFT:
        told["again"] = "gives back to the broker what runs"
    return told
