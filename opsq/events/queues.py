"""How much waits in each queue, asked of the broker, and what follows: how fast it drains and when it is empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opsq.broker.depth_watch import DepthWatch
from opsq.broker.source import QueueDepth
from opsq.clock import Clock, SystemClock
from opsq.events.cluster import Cluster
from opsq.events.life import OUTCOMES
from opsq.events.records import DepthSample
from opsq.events.rollup import ARRIVED, Slice
from opsq.settings import Settings

_SUCCEEDED, _FAILED = OUTCOMES.index("succeeded"), OUTCOMES.index("failed")


def rates(recent: dict[int, Slice], now: float, window_s: int) -> tuple[float, float]:
    """(arrivals, tasks ended for good) a second over the last whole ``window_s`` seconds."""
    last = [data.counts for second, data in recent.items() if int(now) - window_s <= second < int(now)]
    arrived = sum(counts[ARRIVED] for counts in last)
    done = sum(counts[_SUCCEEDED] + counts[_FAILED] for counts in last)
    return max(0, arrived) / window_s, max(0, done) / window_s


def drain_s(ready: int | None, arrived_per_s: float, done_per_s: float) -> float | None:
    """When a queue is empty at these rates, in seconds; ``None`` when it grows, stands or is not known."""
    if ready is None:
        return None
    if ready == 0:
        return 0.0
    return ready / (done_per_s - arrived_per_s) if done_per_s > arrived_per_s else None


class DepthSampler:
    """Asks the broker for queue depths once a second. Thread: its own; ``start`` and ``stop`` from any.

    observe: takes each sample; called in this thread.
    """

    def __init__(
        self, settings: Settings, cluster: Cluster, observe: Callable[[DepthSample], None], clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._observe = observe
        self._clock = clock or SystemClock()
        self._watch = DepthWatch(settings, self._names, self._take)

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        self._watch.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop the thread; false when it still runs after ``timeout_s``."""
        return self._watch.stop(timeout_s)

    def _take(self, found: Mapping[str, QueueDepth]) -> None:
        at = self._clock.now()
        for name, one in found.items():
            sample = DepthSample(name, one.ready, at, one.unacked, one.oldest_age_s, one.consumers)
            if name == self._settings.quarantine_queue:
                self._cluster.tally.quarantine = sample
            else:
                self._observe(sample)

    def _names(self) -> set[str]:
        told = (record.said.get("queues") for record in self._cluster.workers.copy())
        names = {str(name) for queues in told if isinstance(queues, list) for name in queues}
        names |= {self._settings.task_default_queue, self._settings.quarantine_queue}
        return names | self._cluster.names.queues.copy()
