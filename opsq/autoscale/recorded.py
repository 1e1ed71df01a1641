"""Loads from records: a file of arrivals, or what the monitor's history counted.

History keeps counts per bucket and sketches of run times, not single tasks: arrivals are spread over their bucket by
dice with a fixed seed, and each takes a run time drawn from the sketch of its hour.
"""

from __future__ import annotations

import csv
import math
import random
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from opsq.autoscale.traces import Lane, Trace
from opsq.errors import UsageError
from opsq.events import sketch
from opsq.events.rollup import ARRIVED, SEGMENTS, TIERS, decode_slice

#: A day of this many tasks is replayed in a second or two; of more, every n-th bucket's share is too much to wait for.
MOST_TASKS = 5_000_000
FINE_WIDTH_S, COARSE_WIDTH_S = 10, 60
RUN = SEGMENTS.index("run")
QUEUE = "q:"


class Reader(Protocol):
    """The part of a history's reader that is needed here."""

    def slices(
        self, width_s: int, since: int, until: int, *, series: str | None = None, prefix: str = ""
    ) -> list[tuple[int, str, bytes]]:
        """(start, series, slice) of a time range, oldest first."""
        ...


def from_file(path: Path) -> Trace:
    """Read a CSV file of ``seconds,service_seconds`` rows, with or without a heading, in any order.

    Raises: UsageError naming the line that is not two numbers, or saying that nothing is there.
    """
    tasks: list[tuple[float, float]] = []
    with path.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv.reader(lines), 1):
            if not row:
                continue
            try:
                at, need = float(row[0]), float(row[1])
            except (ValueError, IndexError):
                if number == 1:
                    continue  # a heading
                raise UsageError(
                    f"{path}, line {number}: expected `arrival_s,service_s`, got {','.join(row)!r}"
                ) from None
            if not (0 <= need < math.inf and math.isfinite(at)):
                raise UsageError(f"{path}, line {number}: a task cannot arrive at {at} and take {need} seconds")
            tasks.append((at, need))
    if not tasks:
        raise UsageError(f"{path} holds no task; write one `arrival_s,service_s` row for each")
    tasks.sort()
    first = tasks[0][0]
    lane = Lane(arrivals=[at - first for at, _ in tasks], service=[need for _, need in tasks])
    return Trace(name=path.stem, seconds=math.floor(lane.arrivals[-1]) + 60.0, lanes=(lane,))


def from_history(
    reader: Reader, now: float, window_s: float, *, queue: str | None = None, most_tasks: int = MOST_TASKS
) -> Trace:
    """Rebuild the load of the last ``window_s``, of all queues or of one.

    Raises: UsageError when nothing arrived then, or more than can be replayed.
    """
    fine = next(tier for tier in TIERS if tier.width_s == FINE_WIDTH_S)
    width_s = FINE_WIDTH_S if window_s <= fine.keep_s else COARSE_WIDTH_S
    since = int(now - window_s) // width_s * width_s
    buckets: dict[str, list[tuple[int, int, sketch.Sketch]]] = {}
    rows = reader.slices(width_s, since, int(now), prefix=QUEUE if queue is None else QUEUE + queue)
    for start, series, data in rows:
        if queue is not None and series != QUEUE + queue:
            continue
        held = decode_slice(data)
        buckets.setdefault(series.removeprefix(QUEUE), []).append(
            (start, held.counts[ARRIVED], held.sketches.get(RUN, {}))
        )
    tasks = sum(max(0, count) for held in buckets.values() for _, count, _ in held)
    if not tasks:
        where = f"queue {queue!r}" if queue else "any queue"
        raise UsageError(f"no task of {where} arrived in the last {window_s / 3600:g} hours of this history")
    if tasks > most_tasks:
        raise UsageError(f"{tasks:,} tasks arrived; at most {most_tasks:,} are replayed here: ask for a shorter time")
    lanes = tuple(_lane(name, held, since, width_s) for name, held in sorted(buckets.items()))
    # The last bucket may not be over; its tasks are spread over all of it.
    return Trace(name="history", seconds=float(-((since - int(now)) // width_s) * width_s), lanes=lanes)


def _lane(name: str, buckets: Iterable[tuple[int, int, sketch.Sketch]], since: int, width_s: int) -> Lane:
    dice = random.Random(f"history:{name}")
    arrivals: list[float] = []
    service: list[float] = []
    buckets = list(buckets)
    everything = sketch.merged(held for _, _, held in buckets)
    hours: dict[int, sketch.Sketch] = {}
    for start, _, held in buckets:
        sketch.merge(hours.setdefault(start // 3600, {}), held)
    for start, count, _ in buckets:
        arrivals += sorted(start - since + width_s * dice.random() for _ in range(max(0, count)))
        service += _drawn(dice, hours[start // 3600] or everything, max(0, count))
    return Lane(name=name, arrivals=arrivals, service=service)


def _drawn(dice: random.Random, held: sketch.Sketch, count: int) -> list[float]:
    """``count`` run times with the distribution of a sketch; a second each where nothing is known."""
    places = sorted(place for place, number in held.items() if number > 0)
    if not places:
        return [1.0] * count
    sums = list(accumulate(held[place] for place in places))
    values = [sketch.value(place) for place in places]
    return [values[bisect_left(sums, sums[-1] * dice.random())] for _ in range(count)]
