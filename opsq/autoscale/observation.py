"""What a policy looks at: one scaling group at one moment, as frozen records.

Durations are seconds, loads are slots, and ``None`` means *not known*. Whoever builds an observation
says how old it is; a policy never guesses what is missing beyond what ``policy.py`` states.
"""

from __future__ import annotations

import msgspec


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One queue of the group.

    depth: messages that wait and are in no slot, all priorities, prefetched ones included.
    ages: how long messages have waited, read at evenly spaced places of the queue, oldest first; one
    value is the oldest only, none is unknown. rate, rate_now: arrivals a second over the long and the
    short window, retries included. retry_rate: those of them that are retries. dispersion: variance over
    mean of the arrivals per second. service_s: mean time in a slot of tasks that did not fail, each counted
    up to its queue's patience (0.8 of the target); service_cv2: its squared variation. service_now_s: the same mean
    over the short window, of service_now_count tasks. occupied: slots held by tasks that run longer than that.
    """

    name: str = "celery"
    depth: float | None = 0.0
    ages: tuple[float, ...] = ()
    rate: float | None = 0.0
    rate_now: float | None = None
    retry_rate: float = 0.0
    dispersion: float = 1.0
    service_s: float | None = None
    service_cv2: float = 1.0
    service_now_s: float | None = None
    service_now_count: int = 0
    occupied: float = 0.0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the slots of one pool run; None switches the guard that needs it off.

    cpu_share: CPU seconds per second that a task runs. cores: CPUs this pool may use. cpu_busy: share of
    them in use. memory_limit, memory_used, parent_bytes, child_bytes: of the control group, the worker's main
    process, and the 95th percentile of its children. oom_kills: since the start. io_pressure: share of time.
    """

    cpu_share: float | None = None
    cores: float | None = None
    cpu_busy: float | None = None
    memory_limit: float | None = None
    memory_used: float | None = None
    parent_bytes: float = 0.0
    child_bytes: float | None = None
    oom_kills: int = 0
    io_pressure: float | None = None


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule entry: when it fires next, how many tasks it brought last time (None: not known yet)."""

    name: str
    in_s: float
    tasks: float | None = None


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """The user's own measure: its value, what one slot is good for, and how old the reading is."""

    value: float | None
    per_slot: float
    age_s: float = 0.0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one group at ``at`` (monotonic seconds).

    have: slots asked for, starting ones included. starting: of them. running: slots with a task.
    age_s: how old the queue signals are. local: what the worker itself holds, for when they are too old.
    finished, failed: of the tasks that ended last, at least twenty if there were so many. throughput: finished
    a second over the last ten seconds. spent: slot-hours used today. scheduled_min: fewest slots that a time window
    asks for now.
    """

    at: float
    have: int
    starting: int = 0
    running: int = 0
    queues: tuple[QueueView, ...] = ()
    age_s: float = 0.0
    local: tuple[QueueView, ...] | None = None
    machine: Machine | None = None
    gauge: Gauge | None = None
    due: tuple[Due, ...] = ()
    finished: int = 0
    failed: int = 0
    throughput: float | None = None
    spent: float = 0.0
    scheduled_min: int = 0
