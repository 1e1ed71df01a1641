"""How much waits in each queue, asked of the broker, and what follows: how fast it drains and when it is empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from opsq.broker.connection import BrokerConnection, open_connection
from opsq.broker.depth import QueueDepth, depth
from opsq.clock import Clock, SystemClock
from opsq.events.chore import Chore
from opsq.events.cluster import Cluster
from opsq.events.life import OUTCOMES
from opsq.events.records import DepthSample
from opsq.events.rollup import ARRIVED, Slice
from opsq.settings import Settings

DEPTH_EVERY_S: Final = 1.0
DEPTH_RETRY_S: Final = 5.0
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
        self._chore = Chore(
            "opsq-depth",
            self._watch,
            every_s=DEPTH_RETRY_S,
            failing="queue depths are unknown until the broker answers",
        )

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        self._chore.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop the thread; false when it still runs after ``timeout_s``."""
        return self._chore.stop(timeout_s)

    def _watch(self) -> None:
        connection = open_connection(self._settings, purpose="read")
        try:
            connection.connect()
            while not self._chore.stopping:
                self._sample(connection)
                self._chore.pause(DEPTH_EVERY_S)
        finally:
            connection.close()

    def _sample(self, connection: BrokerConnection) -> None:
        aside = self._settings.quarantine_queue
        found = depth(connection, sorted(self._names() | {aside}))
        at = self._clock.now()
        # A queue that nobody made yet holds nothing.
        self._cluster.tally.quarantine = DepthSample(aside, found.pop(aside, QueueDepth(0)).ready, at)
        for name, one in found.items():
            self._observe(DepthSample(name, one.ready, at, one.unacked, one.oldest_age_s, one.consumers))

    def _names(self) -> set[str]:
        told = (record.said.get("queues") for record in self._cluster.workers.copy())
        names = {str(name) for queues in told if isinstance(queues, list) for name in queues}
        return names | self._cluster.names.queues.copy() | {self._settings.task_default_queue}
