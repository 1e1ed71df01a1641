"""Slots that are greenlets of one operating-system thread: what the gevent and the eventlet pool share.

In a patched process every thread of opsq (owner, emitter, clerk) is a greenlet as well, and all of
them take turns whenever one waits for a socket, a lock or a sleep. So nothing here needs a lock, and
what does not give way holds up everybody, acknowledgements and lease renewal included: a task that
computes for long belongs on another pool. SQLite calls are of that kind too; each takes well below
a millisecond, so the embedded broker and store work, at the price of that moment for all slots.

A running job is stopped by throwing into its greenlet, from the hub and only while the task's own
code runs: a result that is half stored, or a publisher's connection in the middle of a frame, would
harm other jobs. Soft limits, hard limits and ``cancel`` all go that way, as ``gevent.Timeout`` and
``eventlet.Timeout`` do, and all of them wait for the task to give way.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any, ClassVar, Protocol

from opsq.core.pools.base import Job, Outcome, PoolCapabilities, PoolConfig, RunningJob, Stopped
from opsq.core.pools.verdicts import cancelled_before_start, hard_limit_passed, runner_broke, terminated
from opsq.errors import ConfigError, Fault, SoftTimeLimitExceeded

log = logging.getLogger(__name__)

INSIST_S = 1.0
"""A task that swallows its end is told again after this many seconds."""
GRACE_S = 1.0
"""How long slots that were told to end may take to do so."""


class Hub(Protocol):
    """What a pool needs of a greenlet library. Thread: the one patched thread."""

    library: str

    def spawn(self, work: Callable[[], None]) -> Any:
        """Start ``work`` in a new greenlet, soon; return the greenlet."""
        ...

    def later(self, seconds: float, work: Callable[[], object]) -> Callable[[], None]:
        """Call ``work`` on the hub itself after ``seconds``; return what calls that off."""
        ...


def patched_by() -> str | None:
    """The library that has patched this process's standard library, or None."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("socket"):
        return "gevent"
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("socket"):
        return "eventlet"
    return None


class GreenPool:
    """Runs each job in a greenlet of its own, at most ``slots`` at a time. Thread: the patched one."""

    name: ClassVar[str]
    capabilities: ClassVar[PoolCapabilities] = PoolCapabilities(
        hard_limit=True,
        soft_limit=True,
        terminate=True,
        resize=True,
        isolates_crash=False,
        native_async=False,
        recycles=False,
        coroutines=False,
        shares_thread=True,
    )

    def __init__(self, config: PoolConfig, hub: Hub) -> None:
        self.slots = config.slots
        self._config = config
        self._hub = hub
        self._inbox: deque[Job] = deque()
        self._queued: dict[int, Job] = {}
        self._busy: dict[int, _Slot] = {}
        self._idle = threading.Event()
        self._draining = False

    def start(self) -> None:
        """Check that the process is patched. Raises: ConfigError when it is not."""
        library = self._hub.library
        if patched_by() != library:
            raise ConfigError([_not_patched(library)])
        log.info("%s has patched the standard library: sockets, locks, threads and sleeps give way", library)

    def submit(self, job: Job) -> None:
        """Run ``job`` as soon as a slot is free."""
        self._queued[job.key] = job
        self._inbox.append(job)
        self._pump()

    def cancel(self, key: int, reason: str = "terminated", signal: int | None = None) -> bool:
        """Take a queued job back, or stop a running one the next time it gives way."""
        job = self._queued.pop(key, None)
        if job is not None:
            outcome = cancelled_before_start(job, self._config.clock.now())
            # Not from here: whoever cancels does not expect the outcome before the answer.
            self._hub.later(0.0, partial(self._hub.spawn, partial(self._config.on_outcomes, [outcome])))
            return True
        slot = self._busy.get(key)
        return slot is not None and reason != "revoked" and slot.stop("terminated", signal)

    def replace(self, jobs: Sequence[Job]) -> None:
        """Run these in place of the queued ones of the same keys."""
        for job in jobs:
            if job.key in self._queued:
                self._queued[job.key] = job

    def grow(self, n: int = 1) -> None:
        """Add ``n`` slots."""
        self.slots += n
        self._pump()

    def shrink(self, n: int = 1) -> None:
        """Take ``n`` slots away as they become free; one always stays."""
        self.slots = max(1, self.slots - n)

    def running(self) -> list[RunningJob]:
        """What is in a slot right now."""
        return [RunningJob(key, os.getpid(), slot.at) for key, slot in list(self._busy.items())]

    def frames_of(self, key: int) -> list[FrameType]:
        """Where the greenlet of a running job is, outermost first; none when it does not run. Thread: any."""
        slot, frames = self._busy.get(key), list[FrameType]()
        at = getattr(slot.greenlet, "gr_frame", None) if slot is not None else None
        while at is not None:
            frames.append(at)
            at = at.f_back
        return frames[::-1]

    def recall(self) -> list[int]:
        """Take no new job, give up what is queued; its keys."""
        self._draining = True
        keys = list(self._queued)
        self._queued.clear()
        self._inbox.clear()
        return keys

    def drain(self, deadline: float) -> list[int]:
        """Give up what is queued, wait for what runs until ``deadline``, then stop it."""
        given_up = self.recall()
        self._wait_until_idle(deadline)
        return given_up + self._end_all(time.monotonic() + GRACE_S)

    def stop(self, deadline: float) -> None:
        """Stop what runs; a slot that does not give way by ``deadline`` is left behind."""
        self.recall()
        self._end_all(deadline)
        stuck = [slot.job.id for slot in self._busy.values()]
        if stuck:
            log.warning("slots still busy at the deadline are left behind", extra={"tasks": stuck})

    def stats(self) -> dict[str, object]:
        """Facts for ``inspect stats``, with Celery's keys for this kind of pool."""
        return {
            "implementation": f"{type(self).__module__}:{type(self).__qualname__}",
            "max-concurrency": self.slots,
            "queued": len(self._queued),
            "running": len(self._busy),
            "running-threads": len(self._busy),
        }

    def _pump(self) -> None:
        inbox, busy = self._inbox, self._busy
        while inbox and len(busy) < self.slots and not self._draining:
            job = self._queued.pop(inbox.popleft().key, None)
            if job is None:
                continue
            slot = busy[job.key] = _Slot(job, self._hub, self._config.clock.now())
            slot.greenlet = self._hub.spawn(partial(self._occupy, slot))

    def _occupy(self, slot: _Slot) -> None:
        """Run one job to its end. Greenlet: the slot's own."""
        job, config = slot.job, self._config
        slot.at = config.clock.now()
        outcome: Outcome | None
        if slot.verdict:
            outcome = self._stopped(slot)
        else:
            config.on_started(job.key, os.getpid(), slot.at)
            try:
                outcome = config.run.run(job, slot.call)
            except Stopped:
                outcome = self._stopped(slot)
            except BaseException as exc:  # boundary: a broken runner must not cost a slot
                log.exception("the runner raised", extra={"task_id": job.id, "task": job.task})
                outcome = runner_broke(job, slot.at, config.clock.now(), exc)
        if outcome is not None and not slot.given_up:
            slot.reported = True
            config.on_outcomes([outcome])
        del self._busy[job.key]
        self._pump()
        if not self._busy:
            self._idle.set()

    def _stopped(self, slot: _Slot) -> Outcome | None:
        now, pid = self._config.clock.now(), os.getpid()
        if slot.verdict == "hard_limit":
            return hard_limit_passed(slot.job, slot.at, now, pid)
        if slot.verdict == "terminated":
            return terminated(slot.job, slot.at, now, pid, slot.signum)
        return None

    def _wait_until_idle(self, deadline: float) -> None:
        while self._busy:
            self._idle.clear()
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._idle.wait(left_s):
                return

    def _end_all(self, deadline: float) -> list[int]:
        """Stop what runs; the keys that have no outcome and will have none."""
        left = list(self._busy.values())
        for slot in left:
            slot.stop("given_up")
        self._wait_until_idle(deadline)
        for slot in left:
            slot.given_up = True
        return [slot.job.key for slot in left if not slot.reported]


class _Slot:
    """One job in its greenlet.

    verdict: why it is stopped, empty while it is not: ``hard_limit``, ``terminated``, ``given_up``.
    given_up: its outcome does not count any more.
    """

    __slots__ = ("_hub", "_inside", "_over", "at", "given_up", "greenlet", "job", "reported", "signum", "verdict")

    def __init__(self, job: Job, hub: Hub, at: float) -> None:
        self.job = job
        self.at = at
        self.greenlet: Any = None
        self.verdict = ""
        self.signum: int | None = None
        self.reported = False
        self.given_up = False
        self._hub = hub
        self._inside = False
        self._over = False

    def stop(self, verdict: str, signum: int | None = None) -> bool:
        """Have the task's own code end; false when it has ended already. Thread: any greenlet."""
        if self._over:
            return False
        if not self.verdict:
            self.verdict, self.signum = verdict, signum
            if self._inside:
                self._hub.later(0.0, self._insist)
        return True

    def call(self, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Call the task's own code under its limits. Greenlet: the slot's own.

        Raises: Stopped when it was stopped, whatever it made of that.
        """
        self._unless_stopped()
        timers = self._timers()
        self._inside = True
        try:
            value = function(*args, **kwargs)
        except BaseException as exc:
            if self.verdict and not isinstance(exc, Stopped):
                raise Stopped from exc
            raise
        finally:
            self._inside, self._over = False, True
            for call_off in timers:
                call_off()
        self._unless_stopped()
        return value

    def _unless_stopped(self) -> None:
        if self.verdict:
            raise Stopped

    def _timers(self) -> list[Callable[[], None]]:
        timers, job = [], self.job
        if job.soft_limit_s is not None:
            timers.append(self._hub.later(job.soft_limit_s, partial(self._throw, SoftTimeLimitExceeded)))
        if job.hard_limit_s is not None:
            timers.append(self._hub.later(job.hard_limit_s, partial(self.stop, "hard_limit")))
        return timers

    def _insist(self) -> None:
        """Throw, and throw again for as long as the task's own code goes on. Greenlet: the hub."""
        if self._inside:
            self._hub.later(INSIST_S, self._insist)
            self._throw(Stopped)

    def _throw(self, error: type[BaseException]) -> None:
        """Raise ``error`` where the task's own code waits. Greenlet: the hub."""
        if self._inside:
            self.greenlet.throw(error(self.job.soft_limit_s) if error is SoftTimeLimitExceeded else error())


def _not_patched(library: str) -> Fault:
    return Fault(
        f"the {library} pool needs the standard library patched by {library} before anything else is imported",
        "worker_pool",
        f"start the worker with opsq worker -P {library}, or patch in the first line of your own program",
    )
