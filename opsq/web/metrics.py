"""The table of opsq's own metrics: documentation, dashboards, alert rules and ``/metrics`` are made from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from opsq.events.bounds import LATENCY_S, summed
from opsq.events.life import OUTCOMES
from opsq.events.records import WorkerItem
from opsq.events.rollup import SEGMENTS
from opsq.web.metrics_names import OTHER
from opsq.web.metrics_scrape import Reading, Scrape, Series, count, counts, latency, named, one, plain, queue, worker
from opsq.web.metrics_text import Samples
from opsq.web.view_workers import busy_slots

_STATUSES: Final = ("online", "late", "lost", "offline")
_HEARD: Final = ("online", "late")
_ENDS: Final = {name: place for place, name in enumerate(OUTCOMES)}
#: What the segments of a latency are, in the words of the pages.
SEGMENT_HELP: Final = {
    "broker": ("queue_wait", "Time in the broker, from publishing to delivery"),
    "prefetch": ("prefetch_wait", "Time held by a worker, from delivery (or being due) to a slot"),
    "start": ("start", "Time from a slot to the first line of the task"),
    "run": ("run", "Run time of an attempt"),
    "settle": ("settle", "Time from the end of the run to the acknowledgement"),
    "total": ("total", "Time from publishing to the last known end"),
}


def _statuses(reading: Reading) -> dict[str, float]:
    return {status: sum(each.status == status for each in reading.workers) for status in _STATUSES}


def _pool(value: Any) -> Any:
    """Read a number of each pool, over the workers that are heard."""

    def read(reading: Reading) -> dict[str, float]:
        found: dict[str, float] = {}
        for each in reading.workers:
            if each.status in _HEARD and each.pool is not None and (amount := value(each)) is not None:
                found[each.pool] = found.get(each.pool, 0) + amount
        return found

    return plain(read)


def _up(each: WorkerItem) -> float | None:
    return None if each.status == "offline" else float(each.status in _HEARD)


def _prefetched(reading: Reading) -> Iterator[tuple[str, float]]:
    known = {each.name: 0 for each in reading.workers}
    for (name, _), amount in reading.prefetched.items():
        if name in known:
            known[name] += amount
    yield from known.items()


def _errors(scrape: Scrape) -> Samples:
    kept = scrape.kept["fault"]
    found: dict[tuple[str, ...], float] = {}
    for group in scrape.read.errors:
        fault = kept(group.fault)
        labels = fault, OTHER if fault == OTHER else group.type
        found[labels] = found.get(labels, 0) + group.failed + group.retried
    return list(found.items())


def _late(scrape: Scrape) -> Samples:
    entries = scrape.read.tally.ticks.entries.copy().values()
    return [((), summed((entry.late.buckets() for entry in entries), LATENCY_S))] if entries else []


def _entries(name: str) -> Any:
    return named(
        "entry",
        lambda reading: ((key, getattr(entry, name)) for key, entry in reading.tally.ticks.entries.copy().items()),
        max,
    )


def _scaling(name: str) -> Any:
    """Read a number of the latest decision of each group."""

    def read(reading: Reading) -> Iterator[tuple[str, float | None]]:
        for decision in reading.scaling:
            value = decision.get(name)
            yield str(decision.get("group", OTHER)), value if isinstance(value, (int, float)) else None

    return named("group", read, max)


def _hidden(scrape: Scrape) -> Samples:
    return [((label,), kept.hidden) for label, kept in scrape.kept.items()]


_OWN: Final = (
    Series("opsq_build_info", "gauge", "1, with the monitor's version.", ("version",),
           lambda scrape: [((scrape.read.version,), 1)]),
    # -- tasks --
    Series("opsq_tasks_total", "counter", "Attempts that ended, by task type and outcome, since history began.",
           ("type", "state"), counts("type", lambda reading: reading.types, _ENDS)),
    Series("opsq_tasks_arrived_total", "counter", "Tasks that were published.", ("type",),
           count("type", lambda reading: reading.types, "arrived")),
    Series("opsq_tasks_started_total", "counter", "Attempts that were started.", ("type",),
           count("type", lambda reading: reading.types, "started")),
    Series("opsq_task_slot_seconds_total", "counter", "Seconds that attempts held a slot.", ("type",),
           named("type", lambda reading: ((name, max(0.0, data.run_s)) for name, data in reading.types.items())),
           "seconds"),
    Series("opsq_tasks_kept", "gauge", "Tasks in the history now, by state.", ("state",),
           plain(lambda reading: reading.counters.rows)),
    Series("opsq_tasks_running", "gauge", "Tasks that run now.", (), one(lambda reading: reading.strip.running)),
    Series("opsq_tasks_waiting", "gauge", "Messages that wait in all sampled queues.", (),
           one(lambda reading: reading.strip.waiting)),
    Series("opsq_task_anomalies", "gauge", "Tasks whose history contradicts itself, by kind.", ("anomaly",),
           named("anomaly", lambda reading: reading.counters.anomalies.items())),
    # -- queues --
    Series("opsq_queue_length", "gauge", "Messages waiting in a queue.", ("queue",), queue(lambda each: each.ready)),
    Series("opsq_queue_unacked", "gauge", "Messages taken from a queue and not settled.", ("queue",),
           queue(lambda each: each.unacked)),
    Series("opsq_queue_oldest_age_seconds", "gauge", "How long the oldest message of a queue has waited.", ("queue",),
           queue(lambda each: each.oldest_age_s, max), "seconds"),
    Series("opsq_queue_consumers", "gauge", "Consumers of a queue, as the broker counts them.", ("queue",),
           queue(lambda each: each.consumers)),
    Series("opsq_queue_workers", "gauge", "Workers that are heard and consume a queue.", ("queue",),
           queue(lambda each: len(each.workers))),
    Series("opsq_queue_arrival_rate", "gauge", "Tasks that come to a queue, a second, over the last minute.",
           ("queue",), queue(lambda each: each.arrived_per_s)),
    Series("opsq_queue_drain_rate", "gauge", "Tasks of a queue that end for good, a second, over the last minute.",
           ("queue",), queue(lambda each: each.done_per_s)),
    Series("opsq_queue_drain_seconds", "gauge", "When a queue is empty at these rates; absent while it grows.",
           ("queue",), queue(lambda each: each.drain_s, max), "seconds"),
    Series("opsq_queue_arrived_total", "counter", "Tasks that were published to a queue.", ("queue",),
           count("queue", lambda reading: reading.queue_sums, "arrived")),
    Series("opsq_queue_tasks_total", "counter", "Attempts that ended, by queue and outcome.", ("queue", "state"),
           counts("queue", lambda reading: reading.queue_sums, _ENDS)),
    # -- workers --
    Series("opsq_workers", "gauge", "Workers by status.", ("status",), plain(_statuses)),
    Series("opsq_worker_up", "gauge", "1 while a worker is heard, 0 while it is lost; absent once it stopped cleanly.",
           ("worker",), worker(_up)),
    Series("opsq_slots", "gauge", "Slots a worker has.", ("worker",), worker(lambda each: each.slots)),
    Series("opsq_slots_busy", "gauge", "Slots a worker has in use.", ("worker",), worker(busy_slots)),
    Series("opsq_worker_prefetched", "gauge", "Tasks a worker holds and has not started.", ("worker",),
           named("worker", _prefetched)),
    Series("opsq_worker_prefetch_limit", "gauge", "Messages a worker takes ahead at most.", ("worker",),
           worker(lambda each: each.prefetch)),
    Series("opsq_worker_tasks_total", "counter", "Attempts that ended, by worker and outcome.", ("worker", "state"),
           counts("worker", lambda reading: {each.name: data for each in reading.workers
                                             if (data := reading.worker_sums.get(each.name)) is not None}, _ENDS)),
    Series("opsq_worker_last_seen_timestamp_seconds", "gauge", "When a worker was last heard, epoch seconds.",
           ("worker",), worker(lambda each: each.last_seen_at, max), "seconds"),
    Series("opsq_worker_silent_seconds", "gauge", "How long ago a worker was last heard.", ("worker",),
           named("worker", lambda reading: ((each.name, max(0.0, reading.now - each.last_seen_at))
                                            for each in reading.workers), max), "seconds"),
    Series("opsq_worker_cpu_cores", "gauge", "Processor time a worker uses, children included.", ("worker",),
           worker(lambda each: None if each.cpu_percent is None else each.cpu_percent / 100)),
    Series("opsq_worker_resident_memory_bytes", "gauge", "Resident memory of a worker, children included.",
           ("worker",), worker(lambda each: each.rss_bytes), "bytes"),
    Series("opsq_worker_clock_skew_seconds", "gauge", "A worker's clock minus the monitor's, an upper bound.",
           ("worker",), worker(lambda each: each.skew_s, max), "seconds"),
    Series("opsq_worker_events_missing", "gauge", "Numbered events of a worker that have not arrived.", ("worker",),
           worker(lambda each: each.gaps)),
    Series("opsq_worker_events_dropped", "gauge", "Events a worker could not buffer, since it started.",
           ("worker",), worker(lambda each: each.dropped)),
    # -- pools --
    Series("opsq_pool_workers", "gauge", "Workers that are heard, by pool.", ("pool",), _pool(lambda each: 1)),
    Series("opsq_pool_slots", "gauge", "Slots of these, by pool.", ("pool",), _pool(lambda each: each.slots)),
    Series("opsq_pool_slots_busy", "gauge", "Slots in use, by pool.", ("pool",), _pool(busy_slots)),
    # -- errors, quarantine --
    Series("opsq_error_groups", "gauge", "Causes of failure that are told apart.", (),
           one(lambda reading: reading.error_groups)),
    Series("opsq_errors_total", "counter", "Failures and retries by cause, of the causes heard of last.",
           ("fault", "exception"), _errors),
    Series("opsq_quarantine_messages", "gauge", "Messages that were set aside.", (),
           one(lambda reading: reading.quarantine.ready if reading.quarantine else None)),
    # -- schedules --
    Series("opsq_beat_ticks_total", "counter", "Calls that a schedule sent when they were due, since the monitor "
           "started.", ("entry",), _entries("sent")),
    Series("opsq_beat_asked_total", "counter", "Calls of an entry that somebody asked for out of turn.", ("entry",),
           _entries("asked")),
    Series("opsq_beat_missed_total", "counter", "Ticks that an entry's catch-up rule left out.", ("entry",),
           _entries("missed")),
    Series("opsq_beat_last_tick_timestamp_seconds", "gauge", "When an entry was last sent, epoch seconds.",
           ("entry",), _entries("sent_at"), "seconds"),
    Series("opsq_beat_late_seconds", "histogram", "Time from a tick to the broker having its call.", (), _late,
           "seconds"),
    # -- autoscale: what HPA and KEDA read --
    Series("opsq_autoscale_desired_slots", "gauge", "Slots that the autoscaler decided on.", ("group",),
           _scaling("target")),
    Series("opsq_autoscale_wanted_slots", "gauge", "Slots that the load asks for, before anything holds them back.",
           ("group",), _scaling("want")),
    Series("opsq_autoscale_slots", "gauge", "Slots there are.", ("group",), _scaling("applied")),
    Series("opsq_autoscale_min_slots", "gauge", "Fewest slots allowed.", ("group",), _scaling("min")),
    Series("opsq_autoscale_max_slots", "gauge", "Most slots allowed.", ("group",), _scaling("max")),
    # -- events --
    Series("opsq_events_received_total", "counter", "Events received, by kind.", ("kind",),
           named("kind", lambda reading: reading.counters.events.items())),
    Series("opsq_events_lost_total", "counter", "Numbered events that did not arrive when they were due.", (),
           one(lambda reading: reading.counters.lost)),
    Series("opsq_events_missing", "gauge", "Numbered events that have not arrived, those made up for left out.", (),
           one(lambda reading: reading.counters.lost)),
    Series("opsq_events_unnumbered_senders", "gauge", "Senders whose losses cannot be known.", (),
           one(lambda reading: reading.counters.lost_unknown_emitters)),
    Series("opsq_events_malformed_total", "counter", "Events that could not be read.", (),
           one(lambda reading: reading.counters.malformed)),
    Series("opsq_events_duplicate_total", "counter", "Events that told nothing new.", (),
           one(lambda reading: reading.counters.duplicates)),
    Series("opsq_events_dropped_total", "counter", "Events dropped here because the monitor was too slow.", (),
           one(lambda reading: reading.counters.dropped)),
    Series("opsq_events_queued", "gauge", "Events received and not yet counted.", (),
           one(lambda reading: reading.counters.waiting)),
    Series("opsq_ingest_lag_seconds", "gauge", "How far events run behind, 95th percentile of five minutes.", (),
           one(lambda reading: reading.strip.event_lag_s), "seconds"),
    Series("opsq_stream_connected", "gauge", "1 while the monitor hears the broker.", (),
           one(lambda reading: float(reading.freshness.connected))),
    Series("opsq_stream_reconnects_total", "counter", "Times the event stream was connected anew.", (),
           one(lambda reading: reading.counters.stream_reconnects)),
    # -- history --
    Series("opsq_live_tasks", "gauge", "Tasks held in memory.", (), one(lambda reading: reading.counters.live_tasks)),
    Series("opsq_live_bytes", "gauge", "Memory they take.", (), one(lambda reading: reading.counters.live_bytes),
           "bytes"),
    Series("opsq_history_tasks", "gauge", "Tasks in the history.", (),
           one(lambda reading: sum(reading.counters.rows.values()))),
    Series("opsq_history_bytes", "gauge", "Size of the history on disk.", (),
           one(lambda reading: reading.counters.history_bytes), "bytes"),
    Series("opsq_history_index_behind", "gauge", "Tasks that the search index does not know yet.", (),
           one(lambda reading: reading.counters.index_behind)),
    Series("opsq_history_index_lag_seconds", "gauge", "For how long the search index has been behind.", (),
           one(lambda reading: reading.freshness.index_lag_s), "seconds"),
    Series("opsq_history_writable", "gauge", "1 while history is kept; 0 while it waits in memory: a full disk.", (),
           one(lambda reading: float(reading.freshness.store_failing_since_at is None))),
    Series("opsq_history_unwritten", "gauge", "Tasks that wait in memory until history can be written.", (),
           one(lambda reading: reading.counters.unwritten)),
    Series("opsq_history_given_up_total", "counter", "Tasks lost because memory could not hold them any longer.", (),
           one(lambda reading: reading.counters.given_up)),
    # -- pages --
    Series("opsq_open_pages", "gauge", "Pages and programs that are kept current.", (),
           one(lambda reading: reading.counters.open_pages)),
    Series("opsq_feed_overflows_total", "counter", "Times a slow reader of the live pages was given a snapshot.", (),
           one(lambda reading: reading.counters.feed_overflows)),
    Series("opsq_metrics_hidden_names", "gauge", "Names of a label that are counted under `other`.", ("label",),
           _hidden),
    Series("opsq_metrics_hidden_total", "counter", "Events that Flower's and celery-exporter's series count under "
           "`other`.", (), one(lambda reading: reading.tally.merged)),
)  # fmt: skip


def _latencies() -> Iterator[Series]:
    """List the histograms of each segment, by task type and by queue."""
    for segment in SEGMENTS:
        name, text = SEGMENT_HELP[segment]
        yield Series(f"opsq_task_{name}_seconds", "histogram", f"{text}, by task type.", ("type",),
                     latency(lambda scrape: scrape.by_type, segment), "seconds")  # fmt: skip
        yield Series(f"opsq_queue_task_{name}_seconds", "histogram", f"{text}, by queue.", ("queue",),
                     latency(lambda scrape: scrape.by_queue, segment), "seconds")  # fmt: skip


SERIES: Final = (*_OWN, *_latencies())
