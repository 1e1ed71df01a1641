"""What a reader of the monitor gets: frozen records, one per thing a page shows.

Every figure that may be unknown is ``None`` when it is, and never 0: a blank is honest, a zero is a claim.
Times ending in ``_at`` are epoch seconds, those ending in ``_s`` are durations in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class DepthSample(Struct, frozen=True):
    """How much waits in one queue, as the broker said at ``at``.

    ready: messages nobody has taken. unacked: taken and not settled. oldest_age_s: age of the oldest waiting.
    """

    name: str
    ready: int
    at: float
    unacked: int | None = None
    oldest_age_s: float | None = None
    consumers: int | None = None


class Segments(Struct, frozen=True):
    """Where the time of one try went, in seconds; ``None`` when an end of the segment is unknown.

    broker: published to delivered. prefetch: delivered (or due, for an ETA) to slot taken. start: slot taken to
    running. run: running to finished. settle: finished to acknowledged. total: published to the last known end.
    """

    broker: float | None = None
    prefetch: float | None = None
    start: float | None = None
    run: float | None = None
    settle: float | None = None
    total: float | None = None


class Try(Struct, frozen=True, kw_only=True):
    """One attempt of a task, as far as events told."""

    number: int
    state: str
    worker: str | None = None
    published_at: float | None = None
    delivered_at: float | None = None
    slot_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    acked_at: float | None = None
    segments: Segments = Segments()
    runtime_s: float | None = None
    result: str | None = None
    exception: str | None = None
    traceback: str | None = None
    fingerprint: str | None = None
    cpu_s: float | None = None
    rss_bytes: int | None = None
    child_pid: int | None = None
    pool: str | None = None
    eta: str | None = None
    details: Mapping[str, Any] = {}


class TaskItem(Struct, frozen=True, kw_only=True):
    """One row of the task list. ``key`` orders rows, newest greatest; ``at`` is when the monitor places the task."""

    key: int
    id: str
    state: str
    type: str | None = None
    queue: str | None = None
    worker: str | None = None
    args: str | None = None
    kwargs: str | None = None
    result: str | None = None
    exception: str | None = None
    retries: int = 0
    tries: int = 0
    eta: str | None = None
    published_at: float | None = None
    received_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    segments: Segments = Segments()
    runtime_s: float | None = None
    parent_id: str | None = None
    root_id: str | None = None
    anomalies: tuple[str, ...] = ()

    @property
    def at(self) -> float:
        """Epoch seconds that place the task in the list."""
        return key_time(self.key)


class TaskDetail(Struct, frozen=True, kw_only=True):
    """Everything that is known of one task. children: newest 100 tasks it called. published_by: node name.

    payload: ``{"args": […], "kwargs": {…}}`` as JSON text, secrets taken out. complete: it is the whole of them,
    unchanged, so that the call can be made again.
    """

    item: TaskItem
    tries: tuple[Try, ...]
    traceback: str | None = None
    expires: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    published_by: str | None = None
    parent: TaskItem | None = None
    children: tuple[TaskItem, ...] = ()
    others: tuple[Mapping[str, Any], ...] = ()
    payload: str | None = None
    complete: bool | None = None


class TaskPage(Struct, frozen=True, kw_only=True):
    """A page of tasks, newest first.

    older: cursor of the next page, ``None`` at the end. total: how many match; with at_least that many or more.
    scanned: rows that were looked at for the page, and complete is false when looking stopped early.
    """

    items: tuple[TaskItem, ...]
    older: int | None
    total: int | None
    scanned: int = 0
    complete: bool = True
    at_least: bool = False


class FacetValue(Struct, frozen=True):
    """One value of a facet and how many tasks in history have it; value ``None`` stands for unknown."""

    value: str | None
    count: int


class Facets(Struct, frozen=True):
    """Counts by state, type, queue and worker under a filter; each facet ignores its own part of the filter.

    exact: false when text or id filters could not be counted.
    """

    state: tuple[FacetValue, ...]
    type: tuple[FacetValue, ...]
    queue: tuple[FacetValue, ...]
    worker: tuple[FacetValue, ...]
    exact: bool = True


class WorkerItem(Struct, frozen=True, kw_only=True):
    """One worker. status: ``online``, ``late``, ``lost`` or ``offline``, judged by the monitor's own clock.

    incarnation: which start of the process this is (emitter id or ``pid@time``). slots, busy, prefetch (messages
    taken ahead at most), cpu_percent (of one core) and the like are ``None`` where the worker does not tell.
    gaps: events lost from it, ``None`` when it does not number them. dropped: events it could not buffer.
    skew_s: its clock minus ours, an upper bound from the fastest recent event.
    """

    name: str
    status: str
    last_seen_at: float
    first_seen_at: float
    incarnation: str | None = None
    pid: int | None = None
    freq_s: float | None = None
    active: int | None = None
    processed: int | None = None
    slots: int | None = None
    busy: int | None = None
    prefetch: int | None = None
    loadavg: tuple[float, ...] = ()
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    pool: str | None = None
    queues: tuple[str, ...] = ()
    software: str | None = None
    skew_s: float | None = None
    dropped: int | None = None
    gaps: int | None = None
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    details: Mapping[str, Any] = {}


class QueueItem(Struct, frozen=True, kw_only=True):
    """One queue: what the broker says waits, and what events say moves through it (per second, last minute)."""

    name: str
    ready: int | None = None
    unacked: int | None = None
    oldest_age_s: float | None = None
    consumers: int | None = None
    sampled_at: float | None = None
    arrived_per_s: float = 0.0
    done_per_s: float = 0.0
    drain_s: float | None = None
    workers: tuple[str, ...] = ()


class Percentiles(Struct, frozen=True):
    """p50, p95 and p99 in seconds with the number of samples; relative error at most 2 %."""

    p50: float
    p95: float
    p99: float
    count: int


class TaskTypeItem(Struct, frozen=True, kw_only=True):
    """One task type over a window: how often it ran, how it ended, how long it took."""

    name: str
    runs: int
    succeeded: int
    failed: int
    retried: int
    total_s: float
    run: Percentiles | None = None
    broker: Percentiles | None = None
    prefetch: Percentiles | None = None
    total: Percentiles | None = None


class Point(Struct, frozen=True, kw_only=True):
    """One bucket of a chart, ``width_s`` long. Counts are of that bucket, not per second.

    latency: percentiles by segment name. open: the bucket is not over yet. cpu_max (cores), rss_max (bytes): of one
    worker, as it said itself.
    """

    at: float
    width_s: float
    arrived: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    revoked: int = 0
    run_s: float = 0.0
    ready_max: int | None = None
    oldest_max_s: float | None = None
    running_max: int | None = None
    cpu_max: float | None = None
    rss_max: int | None = None
    latency: Mapping[str, Percentiles] = {}
    open: bool = False

    @property
    def done(self) -> int:
        """Runs that ended for good, well or badly."""
        return self.succeeded + self.failed


class Strip(Struct, frozen=True, kw_only=True):
    """The seven figures of the status strip, each with a five-minute spark of 30 values where there is one."""

    running: int
    slots: int | None
    waiting: int | None
    waiting_most_in: str | None
    oldest_wait_s: float | None
    oldest_in: str | None
    done_per_s: float
    arrived_per_s: float
    failed_share: float | None
    failed: int
    finished: int
    event_lag_s: float | None
    lost_events: int | None
    lost_unknown_emitters: int
    running_spark: tuple[float, ...] = ()
    waiting_spark: tuple[float, ...] = ()
    oldest_spark: tuple[float, ...] = ()
    done_spark: tuple[float, ...] = ()
    arrived_spark: tuple[float, ...] = ()
    failed_spark: tuple[float, ...] = ()
    lag_spark: tuple[float, ...] = ()


class Freshness(Struct, frozen=True, kw_only=True):
    """Can the page be believed?

    stale_since_at: no events are received since then. store_failing_since_at: nothing is kept since then.
    index_lag_s: for so long there have been tasks that searches have to look at one by one.
    """

    as_of: float
    connected: bool
    stale_since_at: float | None = None
    stale_reason: str = ""
    store_failing_since_at: float | None = None
    store_error: str = ""
    index_lag_s: float = 0.0
    version: int = 0


class Overview(Struct, frozen=True, kw_only=True):
    """What the overview page opens with."""

    strip: Strip
    freshness: Freshness
    states: Mapping[str, int]
    workers_online: int
    workers_late: int
    workers_lost: int
    tasks_kept: int


class Counters(Struct, frozen=True, kw_only=True):
    """Totals of this monitor. ended: attempts by how they ended, since history began, corrected when evidence changes.

    rows: tasks in history now, by state. unwritten: rows that wait in memory for a store that fails; given_up: rows
    lost to that. index_behind: rows no search index knows yet. waiting: events received and not folded.
    """

    events: Mapping[str, int]
    malformed: int
    duplicates: int
    dropped: int
    lost: int | None
    lost_unknown_emitters: int
    anomalies: Mapping[str, int]
    rows: Mapping[str, int]
    ended: Mapping[str, int]
    live_tasks: int
    live_bytes: int
    history_bytes: int
    index_behind: int
    unwritten: int
    given_up: int
    waiting: int
    stream_reconnects: int
    feed_overflows: int
    open_pages: int
    samples: tuple[str, ...] = ()


KEY_SHIFT = 22


def time_key(at: float) -> int:
    """The smallest row key of a task placed at ``at`` (epoch seconds); keys order by time."""
    return max(0, int(at * 1000.0)) << KEY_SHIFT


def key_time(key: int) -> float:
    """Epoch seconds of a row key, to the millisecond."""
    return (key >> KEY_SHIFT) / 1000.0
