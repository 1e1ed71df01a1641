"""``/metrics``: reads the monitor once and writes every family, in the format the scraper asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from opsq.events.bounds import Buckets, Exemplar
from opsq.web.metrics import SERIES
from opsq.web.metrics_foreign import FOREIGN
from opsq.web.metrics_latency import Latencies
from opsq.web.metrics_names import Kept
from opsq.web.metrics_scrape import BOUNDED, Reading, Scrape, Series, ranked
from opsq.web.metrics_text import Labels, Samples, Value, family

OPENMETRICS: Final = "application/openmetrics-text"


class MetricsPage:
    """Answers scrapes. foreign: whose names are told beside our own. Thread: any; scrapes wait for each other."""

    def __init__(self, read: Callable[[], Reading], foreign: tuple[str, ...] = ("flower", "celery")) -> None:
        self._read = read
        self._foreign = tuple(series for name in foreign for series in FOREIGN[name])
        self._lock = threading.Lock()
        self._kept = {label: Kept() for label in BOUNDED}
        self._by_type, self._by_queue = Latencies(), Latencies()
        self._before: dict[tuple[str, Labels], Value] = {}
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)

    def answer(self, accept: str) -> tuple[bytes, str]:
        """Give the body and its content type. accept: the scraper's header. Raises StoreUnavailable."""
        encode, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith(OPENMETRICS)
        with self._lock:
            text = "".join(self._lines(openmetrics))
        process = encode(self._process) if openmetrics else generate_latest(self._process)
        return text.encode("utf-8", "replace") + process, content_type

    def _lines(self, openmetrics: bool) -> Iterator[str]:
        scrape = self._scrape(openmetrics)
        told: dict[tuple[str, Labels], Value] = {}
        for series in SERIES:
            samples = series.read(scrape)
            if series.kind in ("counter", "histogram"):
                samples = self._grown(series, samples, told)
            yield from _family(series, samples, openmetrics)
        self._before = told
        # Counted as they come, these never fall.
        for series in self._foreign:
            yield from _family(series, series.read(scrape), openmetrics)

    def _grown(self, series: Series, samples: Samples, told: dict[tuple[str, Labels], Value]) -> Samples:
        """Let no count fall: evidence corrects itself by ones, and Prometheus would read that as a restart."""
        for labels, value in samples:
            key = series.name, labels
            before = self._before.get(key)
            if before is None:
                now = value
            elif isinstance(value, Buckets):
                now = value.at_least(before if isinstance(before, Buckets) else None)
            else:
                now = max(value, before) if not isinstance(before, Buckets) else value
            told[key] = now
            yield labels, now

    def _scrape(self, openmetrics: bool) -> Scrape:
        read = self._read()
        for label, names in ranked(read).items():
            self._kept[label].settle(names)
        types, queues = self._kept["type"], self._kept["queue"]
        examples: dict[tuple[str, int], dict[int, Exemplar]] = {}
        for (type, segment, place), example in read.tally.exemplars.copy().items() if openmetrics else ():
            examples.setdefault((types(type), segment), {})[place] = example
        by_type = self._by_type.rows(read.types, read.whole, types, examples)
        return Scrape(read, self._kept, by_type, self._by_queue.rows(read.queue_sums, read.whole, queues))


def _family(series: Series, samples: Samples, openmetrics: bool) -> Iterator[str]:
    return family(
        series.name, series.kind, series.help, series.labels, samples, unit=series.unit, openmetrics=openmetrics
    )
