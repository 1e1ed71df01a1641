"""The status strip: seven figures of now, from what the writer holds in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from opsq.events import sketch
from opsq.events.cluster import Cluster
from opsq.events.life import OUTCOMES
from opsq.events.records import DepthSample, Strip
from opsq.events.rollup import ARRIVED, LAG, STARTED, Slice
from opsq.events.workers import LATE, ONLINE, liveness
from opsq.wire import states

WINDOW_S: Final = 300
SPARK_POINTS: Final = 30
#: Rates are taken over this long, ending with the last whole second.
RATE_S: Final = 10
#: A depth older than this says nothing about now.
DEPTH_FRESH_S: Final = 30.0
#: Hosts that sent unnumbered events this recently make the count of lost events uncertain.
UNNUMBERED_FRESH_S: Final = 86400.0
_FINISHED: Final = len(OUTCOMES)
_FAILED: Final = OUTCOMES.index("failed")
_SUCCEEDED: Final = OUTCOMES.index("succeeded")


def strip(cluster: Cluster, now: float) -> Strip:
    """The strip of this moment. Thread: any."""
    recent = cluster.rollup.recent("")
    end = int(now)
    last = [recent[second] for second in range(end - RATE_S, end) if second in recent]
    window = [recent[second] for second in range(end - WINDOW_S, end + 1) if second in recent]
    failed = sum(max(0, data.counts[_FAILED]) for data in window)
    finished = failed + sum(max(0, data.counts[_SUCCEEDED]) for data in window)
    depths = fresh_depths(cluster, now)
    waiting = max(depths, key=lambda sample: sample.ready, default=None)
    aged = [sample for sample in depths if sample.oldest_age_s is not None]
    oldest = max(aged, key=lambda sample: sample.oldest_age_s or 0.0, default=None)
    lag = sketch.quantiles(sketch.merged([data.sketches.get(LAG, {}).copy() for data in window]), (0.95,))
    numbering = bool(cluster.sequences.emitters)
    unnumbered = sum(at > now - UNNUMBERED_FRESH_S for at in cluster.sequences.unnumbered.copy().values())
    return Strip(
        running=running(cluster, now),
        slots=slots(cluster, now),
        waiting=sum(sample.ready for sample in depths) if depths else None,
        waiting_most_in=waiting.name if waiting and waiting.ready else None,
        oldest_wait_s=_oldest(depths, oldest),
        oldest_in=oldest.name if oldest and oldest.oldest_age_s else None,
        done_per_s=sum(max(0, _done(data)) for data in last) / RATE_S,
        arrived_per_s=sum(max(0, data.counts[ARRIVED]) for data in last) / RATE_S,
        failed_share=failed / finished if finished else None,
        failed=failed,
        finished=finished,
        event_lag_s=lag[0] if lag else None,
        lost_events=cluster.sequences.lost + cluster.ledger.dropped if numbering or not unnumbered else None,
        lost_unknown_emitters=unnumbered,
        running_spark=_spark(recent, end, lambda data: float(max(0, data.counts[STARTED]))),
        done_spark=_spark(recent, end, lambda data: float(max(0, _done(data)))),
        arrived_spark=_spark(recent, end, lambda data: float(max(0, data.counts[ARRIVED]))),
        failed_spark=_spark(recent, end, lambda data: float(max(0, data.counts[_FAILED]))),
        lag_spark=_lag_spark(recent, end),
    )


def fresh_depths(cluster: Cluster, now: float) -> list[DepthSample]:
    """The latest depth of each queue, as far as it still says something about now."""
    return [sample for sample in cluster.depths.copy().values() if sample.at > now - DEPTH_FRESH_S]


def running(cluster: Cluster, now: float) -> int:
    """Tasks that run: started and not ended, on workers that live. A dead worker's last tasks do not run."""
    alive = {record.name for record in cluster.workers.copy() if liveness(record, now) in (ONLINE, LATE)}
    return sum(
        count
        for (state, _, _, worker), count in cluster.cells.copy().items()
        if state == states.STARTED and worker in alive
    )


def slots(cluster: Cluster, now: float) -> int | None:
    """Slots of the workers that live, ``None`` when one of them does not tell."""
    told = [record.said.get("slots") for record in cluster.workers.copy() if liveness(record, now) in (ONLINE, LATE)]
    known = [count for count in told if isinstance(count, int)]
    return sum(known) if told and len(known) == len(told) else None


def _oldest(depths: list[DepthSample], oldest: DepthSample | None) -> float | None:
    if oldest is not None:
        return oldest.oldest_age_s
    return 0.0 if depths and not any(sample.ready for sample in depths) else None


def _done(data: Slice) -> int:
    return data.counts[_SUCCEEDED] + data.counts[_FAILED]


def _spark(recent: Mapping[int, Slice], end: int, read: Callable[[Slice], float]) -> tuple[float, ...]:
    width = WINDOW_S // SPARK_POINTS
    begin = end - WINDOW_S
    sums = [0.0] * SPARK_POINTS
    for second, data in recent.items():
        position = (second - begin) // width
        if 0 <= position < SPARK_POINTS:
            sums[position] += read(data)
    return tuple(total / width for total in sums)


def _lag_spark(recent: Mapping[int, Slice], end: int) -> tuple[float, ...]:
    width = WINDOW_S // SPARK_POINTS
    begin = end - WINDOW_S
    held: list[list[dict[int, int]]] = [[] for _ in range(SPARK_POINTS)]
    for second, data in recent.items():
        position = (second - begin) // width
        if 0 <= position < SPARK_POINTS and LAG in data.sketches:
            held[position].append(data.sketches[LAG].copy())
    values = [sketch.quantiles(sketch.merged(sketches), (0.95,)) for sketches in held]
    return tuple(found[0] if found else 0.0 for found in values)
