"""What one scrape reads, and the ways in which a series is read from it.

Labels are bounded by ``metrics_names``; what is unknown is absent, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from opsq.events.bounds import Buckets
from opsq.events.cells import Held
from opsq.events.records import Counters, DepthSample, Freshness, QueueItem, Strip, WorkerItem
from opsq.events.rollup import COUNTS, SEGMENTS, Slice, Sums
from opsq.events.tally import Tally
from opsq.events.views import ErrorGroup
from opsq.web.metrics_names import OTHER, Kept
from opsq.web.metrics_text import Kind, Labels, Samples

T = TypeVar("T")
Together = Callable[[Iterable[float]], float]
Read = Callable[["Scrape"], Samples]
#: Histograms by label value, one for each of SEGMENTS.
ByLabel = Mapping[str, tuple[Buckets | None, ...]]

#: Labels whose names are bounded, each on its own.
BOUNDED: Final = ("type", "queue", "worker", "kind", "anomaly", "fault", "entry", "group")


@dataclass(frozen=True, slots=True)
class Reading:
    """All that one scrape reads, of one moment.

    whole: sums over all time; types, queue_sums, worker_sums: the same by name. scaling: the latest decision of each
    group, by the field names of the event ``worker-autoscale``.
    """

    now: float
    version: str
    counters: Counters
    strip: Strip
    freshness: Freshness
    workers: tuple[WorkerItem, ...]
    queues: tuple[QueueItem, ...]
    whole: Slice
    types: Mapping[str, Sums]
    queue_sums: Mapping[str, Sums]
    worker_sums: Mapping[str, Sums]
    tally: Tally
    prefetched: Mapping[Held, int]
    errors: tuple[ErrorGroup, ...] = ()
    error_groups: int = 0
    quarantine: DepthSample | None = None
    scaling: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Scrape:
    """A reading with its labels settled. kept: by label. by_type, by_queue: latencies by label value."""

    read: Reading
    kept: Mapping[str, Kept]
    by_type: ByLabel = field(default_factory=dict)
    by_queue: ByLabel = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """One family: its name, what it tells, its labels, and how it is read. unit: seconds, bytes or ratio, if any."""

    name: str
    kind: Kind
    help: str
    labels: Labels
    read: Read
    unit: str = ""


def one(read: Callable[[Reading], float | None]) -> Read:
    """Read a single number; none when it is not known."""

    def samples(scrape: Scrape) -> Samples:
        value = read(scrape.read)
        return [] if value is None else [((), value)]

    return samples


def named(label: str, read: Callable[[Reading], Iterable[tuple[str, float | None]]], together: Together = sum) -> Read:
    """Read numbers by name. together: what those that share a label value make: their sum, or the greatest."""

    def samples(scrape: Scrape) -> Samples:
        kept, groups = scrape.kept[label], dict[str, list[float]]()
        for name, value in read(scrape.read):
            if value is not None:
                groups.setdefault(kept(name), []).append(value)
        return [((name,), together(values)) for name, values in groups.items()]

    return samples


def worker(read: Callable[[WorkerItem], float | None], together: Together = sum) -> Read:
    """Read a number of each worker."""
    return named("worker", lambda reading: ((each.name, read(each)) for each in reading.workers), together)


def queue(read: Callable[[QueueItem], float | None], together: Together = sum) -> Read:
    """Read a number of each queue."""
    return named("queue", lambda reading: ((each.name, read(each)) for each in reading.queues), together)


def plain(read: Callable[[Reading], Mapping[str, float]]) -> Read:
    """Read numbers by a name that needs no bound, such as a state."""
    return lambda scrape: [((name,), value) for name, value in read(scrape.read).items()]


def counts(label: str, sums: Callable[[Reading], Mapping[str, Sums]], outcomes: Mapping[str, int]) -> Read:
    """Read how attempts ended. outcomes: what the second label says, and its place among the counts."""

    def samples(scrape: Scrape) -> Samples:
        kept, found = scrape.kept[label], dict[Labels, float]()
        for name, data in sums(scrape.read).items():
            shown = kept(name)
            for outcome, place in outcomes.items():
                # At 0 too: the first failure of all would be no increase otherwise.
                found[shown, outcome] = found.get((shown, outcome), 0) + max(0, data.counts[place])
        return list(found.items())

    return samples


def count(label: str, sums: Callable[[Reading], Mapping[str, Sums]], what: str) -> Read:
    """Read one of the counts by name. what: of ``rollup.COUNTS``."""
    place = COUNTS.index(what)
    return named(label, lambda reading: ((name, max(0, data.counts[place])) for name, data in sums(reading).items()))


def latency(rows: Callable[[Scrape], ByLabel], segment: str) -> Read:
    """Read the histograms of one segment."""
    place = SEGMENTS.index(segment)
    return lambda scrape: [
        ((label,), found) for label, by_segment in rows(scrape).items() if (found := by_segment[place]) is not None
    ]


def ranked(reading: Reading) -> Mapping[str, list[str]]:
    """List the names of each bounded label, the most used first."""
    return {
        "type": _most(reading.types, lambda data: sum(data.counts)),
        "queue": _most(
            {each.name: 0 for each in reading.queues}
            | {name: sum(data.counts) for name, data in reading.queue_sums.items()},
            float,
        ),
        "worker": _most({each.name: each for each in reading.workers}, lambda each: each.processed or each.succeeded),
        "kind": _most(reading.counters.events, float),
        "anomaly": _most(reading.counters.anomalies, float),
        "fault": _most({group.fault: group for group in reading.errors}, lambda group: group.failed + group.retried),
        "entry": _most(reading.tally.ticks.entries.copy(), lambda entry: entry.sent),
        "group": [str(each.get("group", OTHER)) for each in reading.scaling],
    }


def _most(found: Mapping[str, T], use: Callable[[T], float]) -> list[str]:
    return sorted(found, key=lambda name: (-use(found[name]), name))
