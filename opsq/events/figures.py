"""What metrics read beside ``query.py``: sums over all time by name, and what is counted for metrics alone.

Thread: any.
"""

from __future__ import annotations

from collections.abc import Mapping

from opsq.events.cells import Held
from opsq.events.cluster import Cluster
from opsq.events.records import DepthSample
from opsq.events.rollup import ALL_TIME, Slice, Sums, decode_slice, decode_sums
from opsq.events.store import Store
from opsq.events.tally import Tally


class Figures:
    """Reads one cluster and its store. What did not change since the last look is not decoded again."""

    def __init__(self, store: Store, cluster: Cluster) -> None:
        self._store = store
        self._cluster = cluster
        self._known: dict[str, dict[str, tuple[bytes, Sums]]] = {}

    def by(self, prefix: str) -> Mapping[str, Sums]:
        """Sums by name. prefix: ``"t:"`` of task types, ``"q:"`` of queues, ``"w:"`` of workers.

        They are the same object as long as they are unchanged. Raises StoreUnavailable.
        """
        known = self._known.get(prefix, {})
        found: dict[str, tuple[bytes, Sums]] = {}
        for _, series, data in self._store.slices(ALL_TIME, 0, 1, prefix=prefix):
            before = known.get(series)
            found[series] = before if before is not None and before[0] == data else (data, decode_sums(data))
        self._known[prefix] = found
        return {series.removeprefix(prefix): held for series, (_, held) in found.items()}

    def everything(self) -> Slice:
        """Sums of everything. Raises StoreUnavailable."""
        found = self._store.slices(ALL_TIME, 0, 1, series="")
        return decode_slice(found[0][2]) if found else Slice()

    def tally(self) -> Tally:
        """What is counted for metrics alone; its parts may still change."""
        return self._cluster.tally

    def prefetched(self) -> Mapping[Held, int]:
        """Tasks that a worker took and did not start, by (worker, type)."""
        return self._cluster.cells.prefetched.copy()

    def error_groups(self) -> int:
        """How many causes of failure are known."""
        return len(self._cluster.errors)

    def quarantine(self) -> DepthSample | None:
        """How many messages were set aside, as the broker said last."""
        return self._cluster.tally.quarantine
