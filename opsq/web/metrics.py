"""``/metrics``: one table of series, read from the monitor at each scrape.

Labels are bounded: a name beyond the budget is counted under ``other``, so that a program that makes up task
names cannot fill somebody's Prometheus. What is unknown is absent, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from opsq.events.records import Counters, Freshness, Percentiles, QueueItem, Strip, TaskTypeItem, WorkerItem
from opsq.web.view_workers import busy_slots

LABEL_BUDGET: Final = 200
OTHER: Final = "other"
UNKNOWN: Final = "unknown"

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """All that one scrape reads, of one moment."""

    counters: Counters
    strip: Strip
    freshness: Freshness
    workers: tuple[WorkerItem, ...]
    queues: tuple[QueueItem, ...]
    types: tuple[TaskTypeItem, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its name and unit, what it tells, its labels, and how it is read."""

    name: str
    kind: str
    help: str
    labels: Labels
    read: Callable[[Scrape], Samples]


class Budget:
    """Lets the first names through and gives every later one the same name. One per label and scrape."""

    def __init__(self, names: Iterable[str], limit: int = LABEL_BUDGET) -> None:
        self._kept = frozenset(sorted(set(names))[:limit])

    def __call__(self, name: str | None) -> str:
        """Give the label value of a name; a missing one is ``unknown``."""
        return UNKNOWN if name is None else name if name in self._kept else OTHER


def _added(pairs: Iterable[tuple[Labels, float]]) -> dict[Labels, float]:
    """Add up what falls on the same labels."""
    sums: dict[Labels, float] = {}
    for labels, value in pairs:
        sums[labels] = sums.get(labels, 0.0) + value
    return sums


def _outcomes(scrape: Scrape) -> Samples:
    kept = Budget(name for _, name, _, _ in scrape.counters.outcomes if name)
    found = scrape.counters.outcomes.items()
    return _added(((kept(name), outcome), count) for (outcome, name, _, _), count in found).items()


def _states(scrape: Scrape) -> Samples:
    return _added(((state,), count) for (state, _, _, _), count in scrape.counters.tasks.items()).items()


def _slot_seconds(scrape: Scrape) -> Samples:
    kept = Budget(name for name, _, _ in scrape.counters.run_s if name)
    return _added(((kept(name),), seconds) for (name, _, _), seconds in scrape.counters.run_s.items()).items()


def _workers(scrape: Scrape) -> Samples:
    statuses = ("online", "late", "lost", "offline")
    return [((status,), sum(worker.status == status for worker in scrape.workers)) for status in statuses]


def _per_worker(read: Callable[[WorkerItem], float | None]) -> Callable[[Scrape], Samples]:
    def samples(scrape: Scrape) -> Samples:
        kept = Budget(worker.name for worker in scrape.workers)
        known = [(worker.name, value) for worker in scrape.workers if (value := read(worker)) is not None]
        return _added(((kept(name),), value) for name, value in known).items()

    return samples


def _per_queue(read: Callable[[QueueItem], float | None]) -> Callable[[Scrape], Samples]:
    def samples(scrape: Scrape) -> Samples:
        kept = Budget(queue.name for queue in scrape.queues)
        known = [(queue.name, value) for queue in scrape.queues if (value := read(queue)) is not None]
        return [((kept(name),), value) for name, value in known if kept(name) != OTHER]

    return samples


def _one(read: Callable[[Scrape], float | None]) -> Callable[[Scrape], Samples]:
    def samples(scrape: Scrape) -> Samples:
        value = read(scrape)
        return [] if value is None else [((), value)]

    return samples


def _by_name(read: Callable[[Scrape], Mapping[str, int]]) -> Callable[[Scrape], Samples]:
    def samples(scrape: Scrape) -> Samples:
        found = read(scrape)
        kept = Budget(found)
        return _added(((kept(name),), value) for name, value in found.items()).items()

    return samples


SERIES: Final = (
    Series("opsq_tasks_total", "counter", "Attempts that ended, by type and outcome.", ("type", "state"), _outcomes),
    Series("opsq_tasks_kept", "gauge", "Tasks in this monitor's history, by state.", ("state",), _states),
    Series("opsq_task_slot_seconds_total", "counter", "Seconds that attempts held a slot.", ("type",), _slot_seconds),
    Series("opsq_workers", "gauge", "Workers by status.", ("status",), _workers),
    Series("opsq_slots", "gauge", "Slots a worker has.", ("worker",), _per_worker(lambda worker: worker.slots)),
    Series(
        "opsq_slots_busy", "gauge", "Slots a worker has in use.", ("worker",),
        _per_worker(busy_slots),
    ),
    Series(
        "opsq_worker_prefetch_limit", "gauge", "Messages a worker takes ahead at most.", ("worker",),
        _per_worker(lambda worker: worker.prefetch),
    ),
    Series(
        "opsq_worker_last_seen_timestamp_seconds", "gauge", "When a worker was last heard, epoch seconds.", ("worker",),
        _per_worker(lambda worker: worker.last_seen_at),
    ),
    Series("opsq_queue_length", "gauge", "Messages waiting in a queue.", ("queue",), _per_queue(lambda q: q.ready)),
    Series(
        "opsq_queue_unacked", "gauge", "Messages taken from a queue and not settled.", ("queue",),
        _per_queue(lambda queue: queue.unacked),
    ),
    Series(
        "opsq_queue_oldest_age_seconds", "gauge", "How long the oldest message of a queue has waited.", ("queue",),
        _per_queue(lambda queue: queue.oldest_age_s),
    ),
    Series(
        "opsq_events_received_total", "counter", "Events received, by kind.", ("kind",),
        _by_name(lambda scrape: scrape.counters.events),
    ),
    Series(
        "opsq_events_lost_total", "counter", "Numbered events that never arrived.", (),
        _one(lambda scrape: scrape.counters.lost),
    ),
    Series(
        "opsq_events_unnumbered_senders", "gauge", "Senders whose losses cannot be known.", (),
        _one(lambda scrape: scrape.counters.lost_unknown_emitters),
    ),
    Series(
        "opsq_events_malformed_total", "counter", "Events that could not be read.", (),
        _one(lambda scrape: scrape.counters.malformed),
    ),
    Series(
        "opsq_events_duplicate_total", "counter", "Events that told nothing new.", (),
        _one(lambda scrape: scrape.counters.duplicates),
    ),
    Series(
        "opsq_events_dropped_total", "counter", "Events dropped here because the monitor was too slow.", (),
        _one(lambda scrape: scrape.counters.dropped),
    ),
    Series(
        "opsq_task_anomalies_total", "counter", "Histories that contradict themselves, by kind.", ("kind",),
        _by_name(lambda scrape: scrape.counters.anomalies),
    ),
    Series(
        "opsq_ingest_lag_seconds", "gauge", "How far events run behind, 95th percentile of five minutes.", (),
        _one(lambda scrape: scrape.strip.event_lag_s),
    ),
    Series(
        "opsq_stream_connected", "gauge", "1 while the monitor hears the broker.", (),
        _one(lambda scrape: float(scrape.freshness.connected)),
    ),
    Series(
        "opsq_stream_reconnects_total", "counter", "Times the event stream was connected anew.", (),
        _one(lambda scrape: scrape.counters.stream_reconnects),
    ),
    Series("opsq_live_tasks", "gauge", "Tasks held in memory.", (), _one(lambda scrape: scrape.counters.live_tasks)),
    Series("opsq_live_bytes", "gauge", "Memory they take.", (), _one(lambda scrape: scrape.counters.live_bytes)),
    Series(
        "opsq_history_bytes", "gauge", "Size of the history on disk.", (),
        _one(lambda scrape: scrape.counters.history_bytes),
    ),
    Series(
        "opsq_history_writable", "gauge", "1 while history is kept; 0 while it waits in memory: a full disk.", (),
        _one(lambda scrape: float(scrape.freshness.store_failing_since_at is None)),
    ),
    Series(
        "opsq_feed_overflows_total", "counter", "Times a slow reader of the live pages was given a snapshot.", (),
        _one(lambda scrape: scrape.counters.feed_overflows),
    ),
)  # fmt: skip

SUMMARIES: Final = (
    ("opsq_task_run_seconds", "Run time of an attempt, last five minutes.", lambda item: item.run),
    ("opsq_task_queue_wait_seconds", "Time in the broker, last five minutes.", lambda item: item.broker),
    ("opsq_task_prefetch_wait_seconds", "Time held by a worker before a slot, last five minutes.",
     lambda item: item.prefetch),
)  # fmt: skip


class MonitorCollector(Collector):
    """Turns what the monitor knows into metric families. Thread: any."""

    def __init__(self, scrape: Callable[[], Scrape]) -> None:
        self._scrape = scrape

    def collect(self) -> Iterator[Family]:
        """Read the monitor once and yield every family of the table."""
        scrape = self._scrape()
        for series in SERIES:
            yield _family(series, scrape)
        for name, text, pick in SUMMARIES:
            yield _summary(name, text, scrape.types, pick)

    def describe(self) -> Iterator[Family]:
        """Yield nothing: registering must not read the monitor."""
        return iter(())


def _family(series: Series, scrape: Scrape) -> Family:
    make = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    family = make(series.name, series.help, labels=series.labels)
    for labels, value in series.read(scrape):
        family.add_metric(labels, value)
    return family


def _summary(
    name: str, text: str, types: Iterable[TaskTypeItem], pick: Callable[[TaskTypeItem], Percentiles | None]
) -> Family:
    family = SummaryMetricFamily(name, text, labels=("type",))
    kept = Budget(item.name for item in types)
    for item in types:
        found = pick(item)
        if found is None or kept(item.name) == OTHER:
            continue
        for quantile, value in (("0.5", found.p50), ("0.95", found.p95), ("0.99", found.p99)):
            family.add_sample(name, {"type": item.name, "quantile": quantile}, value)
    return family
