"""The names that Flower's and celery-exporter's dashboards and alert rules ask for, read from what we count.

Counts begin when the monitor starts, as theirs do. Worker, task type and queue together are told apart up to a bound
(``events/tally.py``). Deliberately otherwise than there: prefetched tasks are never negative, priorities of a queue
are summed, and the queue is known of every event, not of ``task-sent`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from opsq.events.bounds import Buckets, Histogram, summed
from opsq.events.records import WorkerItem
from opsq.events.tally import OTHER, Place, PlaceKey
from opsq.web.metrics_scrape import Read, Scrape, Series, queue
from opsq.web.metrics_text import Labels, Samples

_HEARD: Final = ("online", "late")
#: Silent workers leave after so long, as celery-exporter's do.
PURGE_S: Final = 600.0
_NO_NAME: Final = "None"
_DEFAULT_QUEUE: Final = "celery"
#: What celery-exporter calls the events it counts, in its order; the first comes from clients.
_EXPORTED: Final = ("sent", "received", "started", "succeeded", "rejected", "revoked", "retried")
_BY_WORKERS: Final = ("task-received", "task-started", "task-succeeded", "task-failed", "task-retried",
                      "task-revoked", "task-rejected")  # fmt: skip

Label = Callable[[PlaceKey], Labels]


def _flower_label(key: PlaceKey) -> Labels:
    return key[0], key[1] or _NO_NAME


def _exporter_label(key: PlaceKey) -> Labels:
    worker, type, queue_name = key
    return type or _NO_NAME, _host(worker), queue_name or _DEFAULT_QUEUE


def _host(worker: str) -> str:
    return worker.rpartition("@")[2]


def _places(scrape: Scrape) -> Iterable[tuple[PlaceKey, Place]]:
    return scrape.read.tally.places.copy().items()


def _added(pairs: Iterable[tuple[Labels, float]]) -> Samples:
    """Add up what falls on the same labels: two workers of one host, or a type in two queues."""
    sums: dict[Labels, float] = {}
    for labels, value in pairs:
        sums[labels] = sums.get(labels, 0) + value
    return list(sums.items())


def _histograms(label: Label, pick: Callable[[Place], Histogram]) -> Read:
    def samples(scrape: Scrape) -> Samples:
        groups: dict[Labels, list[Buckets]] = {}
        for key, place in _places(scrape):
            found = pick(place).buckets()
            if found.count:
                groups.setdefault(label(key), []).append(found)
        return [
            (labels, parts[0] if len(parts) == 1 else summed(parts, parts[0].bounds))
            for labels, parts in groups.items()
        ]

    return samples


# -- Flower ----------------------------------------------------------------------------------------------------------


def _flower_events(scrape: Scrape) -> Samples:
    return _added(
        ((key[0], kind, key[1] or _NO_NAME), amount)
        for key, place in _places(scrape)
        for kind, amount in place.kinds.copy().items()
    )


def _flower_prefetch(scrape: Scrape) -> Samples:
    found: dict[Labels, float] = {}
    for key, place in _places(scrape):
        if place.prefetch_s is not None:
            found[_flower_label(key)] = max(place.prefetch_s, found.get(_flower_label(key), 0.0))
    return list(found.items())


def _flower_prefetched(scrape: Scrape) -> Samples:
    heard = {each.name for each in scrape.read.workers if each.status in _HEARD}
    told = {(key[0], key[1]) for key, _ in _places(scrape) if key[0] in heard}
    held = scrape.read.prefetched
    pairs = (((worker, type or _NO_NAME), held.get((worker, type), 0)) for worker, type in told)
    return _added(pairs)


def _known(scrape: Scrape) -> Iterator[WorkerItem]:
    """Workers that are heard or were of late: a pod that was replaced must not alert for ever."""
    return (each for each in scrape.read.workers if scrape.read.now - each.last_seen_at <= PURGE_S)


def _up(each: WorkerItem) -> float:
    return float(each.status in _HEARD)


def _online(scrape: Scrape) -> Samples:
    return [((each.name,), _up(each)) for each in _known(scrape)]


def _executing(scrape: Scrape) -> Samples:
    return [((each.name,), each.active) for each in _known(scrape) if each.active is not None]


_W, _T = ("worker",), ("worker", "task")
FLOWER: Final = (
    Series("flower_events_total", "counter", "Number of events.", ("worker", "type", "task"), _flower_events),
    Series("flower_task_runtime_seconds", "histogram", "Run time of tasks that succeeded.", _T,
           _histograms(_flower_label, lambda place: place.run), "seconds"),
    Series("flower_task_prefetch_time_seconds", "gauge", "How long the task that ended last was held by its worker.",
           _T, _flower_prefetch, "seconds"),
    Series("flower_worker_prefetched_tasks", "gauge", "Tasks of a type that a worker holds and has not started.", _T,
           _flower_prefetched),
    Series("flower_worker_online", "gauge", "1 while the worker is heard.", _W, _online),
    Series("flower_worker_number_of_currently_executing_tasks", "gauge", "Tasks that the worker executes.", _W,
           _executing),
)  # fmt: skip


# -- celery-exporter -------------------------------------------------------------------------------------------------


def _exported(name: str) -> Read:
    kind = f"task-{name}"

    def samples(scrape: Scrape) -> Samples:
        return _added(
            (_exporter_label(key), place.kinds.get(kind, 0))
            for key, place in _places(scrape)
            # As there: whoever was heard of one event of a worker has all its counters, the others at 0.
            if (kind in place.kinds if name == "sent" else not place.kinds.keys().isdisjoint(_BY_WORKERS))
        )

    return samples


def _failed(scrape: Scrape) -> Samples:
    return _added(_failures(scrape))


def _failures(scrape: Scrape) -> Iterator[tuple[Labels, float]]:
    for key, place in _places(scrape):
        if not place.kinds.keys().isdisjoint(_BY_WORKERS):
            labels = _exporter_label(key)
            # Without a series at 0 the first failure of all would be no increase.
            yield (*labels, ""), 0
            for exception, amount in place.failures.copy().items():
                yield (*labels, exception), amount


def _by_host(read: Callable[[Scrape], Mapping[str, float]], together: Callable[[float, float], float]) -> Read:
    def samples(scrape: Scrape) -> Samples:
        found: dict[Labels, float] = {}
        for worker, value in read(scrape).items():
            labels = (_host(worker),)
            found[labels] = together(found[labels], value) if labels in found else value
        return list(found.items())

    return samples


def _processes(scrape: Scrape) -> Samples:
    slots = {each.name: each.slots or 0 for each in scrape.read.workers if each.status in _HEARD}
    return [((each.name,), sum(slots.get(name, 0) for name in each.workers)) for each in scrape.read.queues]


def _all_queues(read: Read) -> Read:
    """Leave out what the bound on queues puts together: these dashboards count queues by their names."""
    return lambda scrape: [sample for sample in read(scrape) if sample[0] != (OTHER,)]


_C = ("name", "hostname", "queue_name")
_Q = ("queue_name",)
EXPORTER: Final = (
    *(Series(f"celery_task_{name}_total", "counter", f"Events of the kind task-{name}.", _C, _exported(name))
      for name in _EXPORTED),
    Series("celery_task_failed_total", "counter", "Failures by class of the exception.", (*_C, "exception"), _failed),
    Series("celery_worker_up", "gauge", "1 while a worker of the host is heard.", ("hostname",),
           _by_host(lambda scrape: {each.name: _up(each) for each in _known(scrape)}, max)),
    Series("celery_worker_tasks_active", "gauge", "Tasks that the workers of a host execute.", ("hostname",),
           _by_host(lambda scrape: {each.name: each.active or 0 for each in _known(scrape)},
                    lambda one, other: one + other)),
    Series("celery_task_runtime", "histogram", "Run time of tasks that succeeded, in seconds.", _C,
           _histograms(_exporter_label, lambda place: place.run)),
    Series("celery_task_queue_wait_time", "histogram", "Time from publishing (or being due) to a slot, in seconds.",
           _C, _histograms(_exporter_label, lambda place: place.wait)),
    Series("celery_queue_length", "gauge", "Messages waiting in a queue, of all priorities.", _Q,
           _all_queues(queue(lambda each: each.ready))),
    # Untyped: linters keep the ending _count for histograms.
    Series("celery_active_consumer_count", "untyped", "Consumers of a queue, where the broker counts them.", _Q,
           _all_queues(queue(lambda each: each.consumers))),
    Series("celery_active_worker_count", "untyped", "Workers that consume a queue.", _Q,
           _all_queues(queue(lambda each: len(each.workers)))),
    Series("celery_active_process_count", "untyped", "Slots of the workers that consume a queue.", _Q, _processes),
)  # fmt: skip

#: By the words of the setting ``web_metrics_names``.
FOREIGN: Final[Mapping[str, tuple[Series, ...]]] = {"flower": FLOWER, "celery": EXPORTER}
