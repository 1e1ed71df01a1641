"""Slots that are child processes.

    worker process                                fork server          children
    ┌───────────────────────────────┐  control   ┌───────────┐  fork  ┌───────┐
    │ owner thread ── submit ──┐    │◄──────────►│ app, once │───────►│ child │──┐
    │                        Floor  │            └───────────┘        └───────┘  │
    │ loop thread ── listens ──┘    │◄────────── down: one packet a job ─────────┤
    └───────────────────────────────┘◄────────── up: frames ─────────────────────┘

Who may do what, and what would go wrong otherwise:

* Only the fork server forks, because it alone has one thread (``prefork_server``).
* A job is sent to an idle child, from the thread that submits it: no hop, no wake-up. Tasks known
  to take less than a millisecond are sent several at a time (``prefork_pace``). What a child has not
  begun can be taken back whatever it does (``prefork_slot``), so a long job never holds others up.
* A child writes each outcome before it takes the next job, so a dead child leaves one job behind at
  most, and the death is blamed on that one.
* Signals go through a pidfd: they cannot hit a stranger with a recycled number.
* Nothing outlives the worker (``prefork_orphan``).
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

from opsq.core.pools.base import Job, PoolCapabilities, PoolConfig, Runner, RunningJob
from opsq.core.pools.prefork_early import fork_early
from opsq.core.pools.prefork_ears import Ears
from opsq.core.pools.prefork_floor import Floor, Turn
from opsq.core.pools.prefork_loop import Loop
from opsq.core.pools.prefork_main import pack_setup, refuse_inside_fork_server
from opsq.core.pools.prefork_records import ChildOptions
from opsq.core.pools.prefork_slot import Slot
from opsq.core.pools.prefork_spawn import ForkServerLink, start_afresh
from opsq.core.pools.prefork_staff import Staff
from opsq.core.pools.verdicts import cancelled_before_start
from opsq.errors import ConfigError, Fault

_START_TIMEOUT_S: Final = 60.0
_TERM_GRACE_S: Final = 0.1
"""A child that was sent a signal of the caller's choice is killed when it lives on for so long."""

_LAST_WAIT_S: Final = 0.5
AHEAD: Final = "fork_server"
"""Key in ``PoolConfig.extra``: the fork server that was forked before the worker's first thread, or None."""
DETACHED: Final = "detached"
"""Key in ``PoolConfig.extra``: whether the worker lets go of its terminal."""


class PreforkPool:
    """Runs jobs in ``slots`` child processes. Thread: any."""

    name: ClassVar[str] = "prefork"
    capabilities: ClassVar[PoolCapabilities] = PoolCapabilities(
        hard_limit=True,
        soft_limit=True,
        terminate=True,
        resize=True,
        isolates_crash=True,
        native_async=False,
        recycles=True,
    )

    def __init__(self, config: PoolConfig) -> None:
        if config.child_setup is None:
            raise ConfigError("the prefork pool needs child_setup: how a child process builds its runner")
        self._config = config
        self._options = _child_options(config.settings, bool(config.extra.get(DETACHED)))
        self._floor = Floor(config.clock)
        spec, pickled, main = pack_setup(config.child_setup)
        connect = functools.partial(start_afresh, spec, pickled, main, self._options)
        self._ears = Ears()
        ahead = config.extra.get(AHEAD)
        self._staff = Staff(config.slots, self._floor, self._ears, config.clock, _Connect(connect, ahead))
        self._loop = Loop(config, self._floor, self._ears, self._staff)
        self._thread: threading.Thread | None = None
        self.slots = config.slots

    @classmethod
    def ahead(cls, setup: Callable[[], Runner], settings: Any, detached: bool = False) -> Mapping[str, object]:
        """Do what can only be done before the worker's first thread, for ``PoolConfig.extra``: fork the fork server.

        detached: the worker is about to let go of its terminal; so must its children.
        Thread: main, which has to live as long as the process. Raises: what loading the app raises.
        """
        options = _child_options(settings, detached)
        return {AHEAD: fork_early(setup, options), DETACHED: detached}

    def start(self) -> None:
        """Start the fork server and the children; returns when the first of them takes jobs.

        Raises ConfigError with the child's own traceback when the app cannot be loaded there.
        """
        refuse_inside_fork_server()
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._loop.run, name="opsq-prefork", daemon=True)
        self._thread.start()
        timeout_s = float(self._config.extra.get("start_timeout_s", _START_TIMEOUT_S))
        in_time = self._staff.up.wait(timeout_s)
        if in_time and not self._floor.failure:
            return
        why = self._floor.failure or f"no child process was ready within {timeout_s:g} s"
        self.stop(self._config.clock.monotonic() + 1.0)
        raise ConfigError([Fault(f"the prefork pool could not start its child processes: {why}")])

    def submit(self, job: Job) -> None:
        """Send ``job`` to an idle child, or let it wait for one; after ``drain`` it waits for nobody."""
        turn = Turn()
        with self._floor.lock:
            self._floor.place(job, turn)
        if turn.filled:
            self._loop.deliver(turn)

    def cancel(self, key: int, reason: str = "terminated", signal: int | None = None) -> bool:
        """Take a waiting job back, or kill the child that runs it.

        signal: sent first when given; the child is killed when that does not end it.
        """
        turn = Turn()
        with self._floor.lock:
            done = self._cancel_waiting(key, turn) or self._cancel_given(key, turn, reason, signal)
            self._floor.dispatch(turn)
            self._ears.wake()
        self._loop.deliver(turn)
        return done

    def replace(self, jobs: Sequence[Job]) -> None:
        """Run these in place of the jobs of the same keys that have not begun."""
        turn = Turn()
        with self._floor.lock:
            self._floor.replace({job.key: job for job in jobs}, turn)
            self._ears.wake()
        self._loop.deliver(turn)

    def grow(self, n: int = 1) -> None:
        """Add ``n`` children."""
        with self._floor.lock:
            self.slots = self._staff.target = self.slots + max(0, n)
            self._ears.wake()

    def shrink(self, n: int = 1) -> None:
        """Let ``n`` children end, idle ones first, after the job they run; one always stays."""
        with self._floor.lock:
            self.slots = self._staff.target = max(1, self.slots - max(0, n))
            self._ears.wake()

    def running(self) -> list[RunningJob]:
        """What is in a slot right now."""
        with self._floor.lock:
            slots = [slot for slot in self._floor.slots.values() if slot.jobs]
            return [RunningJob(slot.jobs[0].key, slot.pid, slot.head_since) for slot in slots]

    def recall(self) -> list[int]:
        """Take no new job, and give up at once what has not begun; its keys."""
        floor = self._floor
        with floor.lock:
            floor.closed = True
            floor.idle.clear()
            for slot in list(floor.slots.values()):
                floor.take_back(slot)
            keys = [job.key for job in floor.pending]
            floor.pending.clear()
        return keys

    def drain(self, deadline: float) -> list[int]:
        """Take no new job, give up what has not begun, wait for the rest until ``deadline``.

        Children that still run then are killed before their keys are returned: a job that is given
        back to the broker must not run on beside its redelivery.
        """
        floor = self._floor
        with floor.lock:
            floor.closed = True
            floor.idle.clear()
            for slot in list(floor.slots.values()):
                floor.take_back(slot)
            self._wait_until_quiet(deadline)
            for slot in self._busy():
                slot.condemn("given_up")
            self._wait_until_quiet(deadline + _LAST_WAIT_S)
            keys = [job.key for job in floor.pending]
            keys += [job.key for slot in floor.slots.values() for job in slot.jobs]
            floor.pending.clear()
        return keys

    def stop(self, deadline: float) -> None:
        """End the children, by force shortly before ``deadline``, and the fork server."""
        with self._floor.lock:
            self._floor.closed = True
            self._floor.pending.clear()
            self._staff.stop_at = min(self._staff.stop_at, deadline)
            if self._thread is None:
                self._ears.close()
                return
            self._ears.wake()
        if self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - self._config.clock.monotonic()) + _LAST_WAIT_S)

    def stats(self) -> dict[str, object]:
        """Facts for ``inspect stats``, with Celery's keys for this kind of pool."""
        with self._floor.lock:
            slots = list(self._floor.slots.values())
            return {
                "implementation": f"{type(self).__module__}:{type(self).__qualname__}",
                "max-concurrency": self.slots,
                "processes": [slot.pid for slot in slots if slot.pid],
                "max-tasks-per-child": self._options.max_tasks or "N/A",
                "max-memory-per-child": self._options.max_memory_kib or "N/A",
                "queued": len(self._floor.pending),
                "running": len(self._busy()),
                "starting": sum(1 for slot in slots if not (slot.ready or slot.leaving)),
                "start-seconds": list(self._floor.starts),
                "app-load-seconds": self._staff.load_seconds,
                "counts": dict(self._floor.counts),
                "writes": {str(slot.pid): slot.done for slot in slots},
            }

    def _busy(self) -> list[Slot]:
        return [slot for slot in self._floor.slots.values() if slot.jobs]

    def _wait_until_quiet(self, deadline: float) -> None:
        while self._busy() and self._thread is not None and self._thread.is_alive():
            left_s = deadline - self._config.clock.monotonic()
            if left_s <= 0 or not self._floor.quiet.wait(left_s):
                return

    def _cancel_waiting(self, key: int, turn: Turn) -> bool:
        for job in self._floor.pending:
            if job.key == key:
                self._floor.pending.remove(job)
                turn.outcomes.append(cancelled_before_start(job, self._config.clock.now()))
                return True
        return False

    def _cancel_given(self, key: int, turn: Turn, reason: str, signum: int | None) -> bool:
        """Stop a job that was sent to a child; nothing may lie behind it when the child is killed."""
        for slot in self._busy():
            if all(job.key != key for job in slot.jobs):
                continue
            self._floor.take_back(slot)
            self._floor.read(slot, turn)
            if self._cancel_waiting(key, turn):
                self._floor.rest(slot, turn)
                return True
            if not slot.jobs or slot.jobs[0].key != key or reason == "revoked":
                self._floor.rest(slot, turn)
                return False  # it has just ended, or has begun and may go on
            if signum is None or signum == signal.SIGKILL:
                slot.condemn("terminated", signal.SIGTERM if signum is None else signum)
            else:
                slot.verdict, slot.verdict_signum = "terminated", signum
                slot.kill_at = self._config.clock.monotonic() + _TERM_GRACE_S
                slot.signal(signum)
            return True
        return False


class _Connect:
    """Hands out the fork server that was made ahead, if any, and a fresh one each time after that."""

    def __init__(self, afresh: Callable[[], ForkServerLink], ahead: ForkServerLink | None) -> None:
        self._afresh = afresh
        self._ahead = ahead

    def __call__(self) -> ForkServerLink:
        """Return a fork server. Raises: OSError."""
        ahead, self._ahead = self._ahead, None
        return self._afresh() if ahead is None else ahead


def _child_options(settings: Any, detached: bool) -> ChildOptions:
    """Read how children are made and when they recycle themselves, from a settings record or a mapping."""

    def option(name: str) -> Any:
        return settings.get(name) if isinstance(settings, Mapping) else getattr(settings, name, None)

    return ChildOptions(
        max_tasks=int(option("worker_max_tasks_per_child") or 0),
        max_memory_kib=int(option("worker_max_memory_per_child") or 0),
        fresh=option("worker_pool_start_method") == "spawn",
        detached=detached,
    )
