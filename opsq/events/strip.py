"""The status strip: seven figures of now, from what the writer holds in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from opsq.events import sketch
from opsq.events.cluster import Cluster
from opsq.events.levels import fresh_depths, running, slots, waiting
from opsq.events.life import OUTCOMES
from opsq.events.records import DepthSample, Strip
from opsq.events.rollup import ARRIVED, LAG, Slice

WINDOW_S: Final = 300
SPARK_POINTS: Final = 30
#: Rates are taken over this long, ending with the last whole second.
RATE_S: Final = 10
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
    depths = fresh_depths(cluster.depths.copy(), now)
    fullest = max(depths, key=lambda sample: sample.ready, default=None)
    aged = [sample for sample in depths if sample.oldest_age_s is not None]
    oldest = max(aged, key=lambda sample: sample.oldest_age_s or 0.0, default=None)
    lag = sketch.quantiles(sketch.merged([data.sketches.get(LAG, {}).copy() for data in window]), (0.95,))
    numbering = bool(cluster.sequences.emitters)
    unnumbered = sum(at > now - UNNUMBERED_FRESH_S for at in cluster.sequences.unnumbered.copy().values())
    return Strip(
        running=running(cluster.cells.by_worker, cluster.workers, now),
        slots=slots(cluster.workers, now),
        waiting=waiting(depths),
        waiting_most_in=fullest.name if fullest and fullest.ready else None,
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
        running_spark=_most(recent, end, lambda data: data.running_max),
        waiting_spark=_most(recent, end, lambda data: data.ready_max),
        oldest_spark=_most(recent, end, lambda data: data.oldest_max_s),
        done_spark=_spark(recent, end, lambda data: float(max(0, _done(data)))),
        arrived_spark=_spark(recent, end, lambda data: float(max(0, data.counts[ARRIVED]))),
        failed_spark=_spark(recent, end, lambda data: float(max(0, data.counts[_FAILED]))),
        lag_spark=_lag_spark(recent, end),
    )


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


def _most(recent: Mapping[int, Slice], end: int, read: Callable[[Slice], float | None]) -> tuple[float, ...]:
    """The greatest of each ten seconds; empty when nothing was noted, for a spark of zeros would be a claim."""
    width = WINDOW_S // SPARK_POINTS
    begin = end - WINDOW_S
    most = [0.0] * SPARK_POINTS
    noted = False
    for second, data in recent.items():
        position, value = (second - begin) // width, read(data)
        if value is not None and 0 <= position < SPARK_POINTS:
            most[position] = max(most[position], float(value))
            noted = True
    return tuple(most) if noted else ()


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
