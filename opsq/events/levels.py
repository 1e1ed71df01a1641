"""What is so at a moment, in all: how many tasks run, how many wait, how many slots there are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from opsq.events.cells import Placed
from opsq.events.records import DepthSample
from opsq.events.workers import LATE, ONLINE, Workers, liveness
from opsq.wire import states

#: A depth older than this says nothing about now.
DEPTH_FRESH_S: Final = 30.0


def fresh_depths(depths: Mapping[str, DepthSample], now: float) -> list[DepthSample]:
    """The latest depth of each queue, as far as it still says something about now."""
    return [sample for sample in depths.values() if sample.at > now - DEPTH_FRESH_S]


def waiting(samples: Iterable[DepthSample]) -> int | None:
    """Messages that wait in all sampled queues, ``None`` when none was sampled."""
    counts = [sample.ready for sample in samples]
    return sum(counts) if counts else None


def running(by_worker: Mapping[Placed, int], workers: Workers, now: float) -> int:
    """Tasks that run: started and not ended, on workers that live. A dead worker's last tasks do not run."""
    alive = (record.name for record in workers.copy() if liveness(record, now) in (ONLINE, LATE))
    return sum(by_worker.get((name, states.STARTED), 0) for name in alive)


def slots(workers: Workers, now: float) -> int | None:
    """Slots of the workers that live, ``None`` when one of them does not tell."""
    told = [record.said.get("slots") for record in workers.copy() if liveness(record, now) in (ONLINE, LATE)]
    known = [count for count in told if isinstance(count, int)]
    return sum(known) if told and len(known) == len(told) else None
