"""What a pool is: a fixed number of slots that run jobs and hand back outcomes.

The worker decides what runs and settles what ran; a pool only gives it a place to run. The
records here cross a thread or a socket, so they hold plain values. Pools never import the
worker: what to do with a job (the ``Runner``) is handed to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import msgspec

from opsq.clock import Clock, SystemClock


class Job(msgspec.Struct, frozen=True, gc=False):
    """Everything a slot needs to run one accepted delivery.

    key: unique within this worker, never reused. headers: the raw wire headers. delivery_info:
    ``exchange, routing_key, priority, redelivered``. Limits in seconds, None for none;
    received_at in epoch seconds.
    """

    key: int
    id: str
    task: str
    headers: dict[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    properties: dict[str, Any]
    delivery_info: dict[str, Any]
    soft_limit_s: float | None = None
    hard_limit_s: float | None = None
    received_at: float = 0.0


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How one attempt ended; everything the parent needs to settle and to announce it.

    state: SUCCESS, FAILURE, RETRY, IGNORED, REJECTED, REVOKED, MALFORMED, UNVERIFIED or UNKNOWN.
    settle: what to tell the broker, ``ack``, ``requeue`` or ``reject``. Times in epoch seconds,
    runtime_s and cpu_s in seconds. requeue: what a REJECTED task asked for. expired: why REVOKED.
    cause: empty when the runner made this record, then the result is stored and the next messages
    are published. Otherwise the pool made it, and the worker must do both: ``lost`` (the slot's
    process died), ``hard_limit``, ``terminated`` (stopped by ``cancel`` while running),
    ``cancelled`` (taken back by ``cancel`` before it ran), ``internal`` (the runner raised: a bug).
    ``soft_limit`` (it passed outside of the task's own code).
    See ``verdicts.py``. signum: the signal or exit code. exit_code: set when the process exited by itself.
    """

    key: int
    id: str
    state: str
    settle: str
    started_at: float
    finished_at: float
    runtime_s: float
    cpu_s: float | None = None
    rss_bytes: int | None = None
    pid: int = 0
    result_repr: str | None = None
    exception_repr: str | None = None
    traceback: str | None = None
    retries: int = 0
    fingerprint: str | None = None
    expired: bool = False
    requeue: bool = False
    cause: str = ""
    signum: int | None = None
    exit_code: int | None = None


class RunningJob(msgspec.Struct, frozen=True):
    """A job in a slot right now; started_at in epoch seconds."""

    key: int
    pid: int
    started_at: float


@dataclass(frozen=True, slots=True)
class PoolCapabilities:
    """What a kind of pool can do; the worker refuses at boot what its pool cannot.

    max_slots: None for no bound of its own. coroutines: whether an ``async def`` task runs here at all.
    shares_thread: several jobs run on one thread in turns, so that its processor time belongs to none of them.
    """

    hard_limit: bool
    soft_limit: bool
    terminate: bool
    resize: bool
    isolates_crash: bool
    native_async: bool
    recycles: bool
    max_slots: int | None = None
    coroutines: bool = True
    shares_thread: bool = False


class Stopped(BaseException):
    """Raised by a pool inside a task's own code to end the run; the pool writes the outcome then."""


Call = Callable[[Callable[..., Any], Any, Mapping[str, Any]], Any]


class Runner(Protocol):
    """What happens to a job in a slot; built by the worker, opaque to the pool."""

    def run(self, job: Job, call: Call | None = None) -> Outcome:
        """Run ``job`` to its end and say how it ended. Never raises for a task's own failure.

        call(function, args, kwargs): calls the task's own code, and nothing else, in our place, for
        pools that reach into a run. Raises: Stopped when ``call`` did, with nothing recorded.
        """
        ...

    async def arun(self, job: Job) -> Outcome:
        """The same on an event loop; cancelling the awaiting asyncio task stops the job."""
        ...


OnStarted = Callable[[int, int, float], None]
OnOutcomes = Callable[[list[Outcome]], None]
OnSoftLimit = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """What every pool is built from.

    slots: how many jobs run at once. run: what to do with a job. on_started(key, pid, at): called
    from any thread when a slot takes a job. on_outcomes: called from any thread, batched.
    on_soft_limit(key, after_s): called from any thread when the pool tells a job that its soft limit has
    passed, once, so many seconds after it began; only by pools whose task may not hear of it at once.
    settings: option values by name (recycling, memory limits). child_setup: how a child process
    builds its own runner, an importable ``module:callable`` or a callable that survives a fork.
    """

    slots: int
    run: Runner
    on_started: OnStarted
    on_outcomes: OnOutcomes
    on_soft_limit: OnSoftLimit | None = None
    settings: Any = None
    child_setup: str | Callable[[], Runner] | None = None
    clock: Clock = field(default_factory=SystemClock)
    extra: Mapping[str, Any] = field(default_factory=dict)


class Pool(Protocol):
    """A place to run jobs. Thread: every method from any thread unless it says otherwise."""

    name: ClassVar[str]
    capabilities: ClassVar[PoolCapabilities]
    slots: int

    def start(self) -> None:
        """Make the slots."""
        ...

    def submit(self, job: Job) -> None:
        """Run ``job`` as soon as a slot is free. Never blocks."""
        ...

    def cancel(self, key: int, reason: str = "terminated", signal: int | None = None) -> bool:
        """Stop a queued or running job; true when something was done. Its outcome still comes.

        With the reason ``revoked`` only a job that has not begun is stopped.
        """
        ...

    def replace(self, jobs: Sequence[Job]) -> None:
        """Run these in place of the jobs of the same keys, those that have not begun: their limits have changed."""
        ...

    def grow(self, n: int = 1) -> None:
        """Add ``n`` slots."""
        ...

    def shrink(self, n: int = 1) -> None:
        """Take ``n`` slots away as they become free; at least one remains."""
        ...

    def running(self) -> list[RunningJob]:
        """What is in a slot right now."""
        ...

    def recall(self) -> list[int]:
        """Take no new job from now on, and give up at once what has not begun; its keys."""
        ...

    def drain(self, deadline: float) -> list[int]:
        """Recall, then wait for the running jobs until ``deadline`` (monotonic seconds).

        Returns the keys that have no outcome and will have none: those recalled, and those that did
        not finish in time. A pool that can stop a running job has stopped it by then, for a job that
        goes back to the broker must not run on beside its redelivery.
        """
        ...

    def stop(self, deadline: float) -> None:
        """End every slot by ``deadline`` (monotonic seconds). Harmless twice or half-started."""
        ...

    def stats(self) -> dict[str, object]:
        """Facts for ``inspect stats``."""
        ...
