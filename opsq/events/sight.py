"""What the monitor knows, for those who attach to the fleet and ask it questions. Thread: any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opsq.events.cluster import Cluster
from opsq.events.store import Store
from opsq.events.stream import Stream
from opsq.events.workers import OFFLINE, WorkerRecord, liveness
from opsq.wire import states
from opsq.wire.event import Event

_NOT_STARTED = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})


class FleetSight:
    """Reads stream, cluster and store."""

    def __init__(self, stream: Stream, cluster: Cluster, store: Store) -> None:
        self._stream = stream
        self._cluster = cluster
        self._store = store

    def connection(self) -> int | None:
        """A number that changes with every new connection to the broker; ``None`` without one."""
        status = self._stream.status()
        return status.reconnects if status.connected else None

    def workers(self) -> Sequence[WorkerRecord]:
        """The workers."""
        return self._cluster.workers.copy()

    def kinds(self) -> Mapping[str, int]:
        """How many events of each kind have come, ever."""
        return self._cluster.ledger.kinds.copy()

    def lacks(self, event: Event) -> bool:
        """Whether nothing as late as this event is known of its task. Raises StoreUnavailable."""
        row = self._store.task(event.uuid) if event.uuid else None
        if row is None:
            return True
        if event.kind == "task-started":
            return row.state in _NOT_STARTED
        return row.state == states.PENDING

    def hears_commands(self, node: str, now: float) -> bool:
        """Whether a node is a worker that is there."""
        record = self._cluster.workers.records.get(node)
        return record is not None and liveness(record, now) != OFFLINE
