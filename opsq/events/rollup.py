"""Counts and latency sketches by time: buckets in tiers of 1 s, 10 s, 1 min, 1 h and 1 d.

A **slice** is one series in one bucket of one tier. Series: ``""`` everything, ``t:`` a task type, ``q:`` a queue,
``w:`` a worker, ``e:`` an error group. Everything in a slice is a sum, so slices merge, and a change of evidence is a
difference that is added. The one-second tier has no latency sketches and is not stored.

Thread: the writer's, except ``recent``, which any thread may call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final, NamedTuple, TypeVar

import msgspec

from opsq.events import sketch
from opsq.events.life import OUTCOMES, Run, Summary
from opsq.events.sketch import Sketch

SECOND: Final = 1
T = TypeVar("T")


class Tier(NamedTuple):
    """width_s of a bucket and how long its buckets are kept, in seconds."""

    width_s: int
    keep_s: int


TIERS: Final = (
    Tier(SECOND, 600),
    Tier(10, 6 * 3600),
    Tier(60, 7 * 86400),
    Tier(3600, 90 * 86400),
    Tier(86400, 2 * 366 * 86400),
)
STORED_TIERS: Final = TIERS[1:]
#: The width of the one bucket that holds all time.
ALL_TIME: Final = 0
SEGMENTS: Final = ("broker", "prefetch", "start", "run", "settle", "total")
LAG: Final = len(SEGMENTS)  # the sketch of event lag, in the series of everything
COUNTS: Final = (*OUTCOMES, "arrived", "started")
ARRIVED, STARTED = COUNTS.index("arrived"), COUNTS.index("started")
_RUN: Final = SEGMENTS.index("run")
#: Events up to this far in the future are a clock that is a little ahead; later ones are counted and left out.
FUTURE_S: Final = 60.0

#: (tier width in seconds, bucket start in epoch seconds, series)
SliceKey = tuple[int, int, str]


class Slice(msgspec.Struct, array_like=True):
    """One series in one bucket. counts by ``COUNTS``; run_s: seconds of slots used; sketches by segment index.

    ready_max and oldest_max_s: the most that waited, of queues that were sampled; running_max: the most that ran.
    cpu_max (cores) and rss_max (bytes): the most that a worker said it used.
    """

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * len(COUNTS))
    run_s: float = 0.0
    sketches: dict[int, Sketch] = {}
    ready_max: int | None = None
    oldest_max_s: float | None = None
    running_max: int | None = None
    cpu_max: float | None = None
    rss_max: int | None = None

    def add(self, other: Slice, *, sketches: bool = True) -> None:
        """Add the sums of another slice."""
        counts = self.counts
        for position, amount in enumerate(other.counts):
            if amount:
                counts[position] += amount
        self.run_s += other.run_s
        if sketches:
            for segment, held in other.sketches.items():
                sketch.merge(self.sketches.setdefault(segment, {}), held)
        if other.ready_max is not None:
            self.ready_max = max(other.ready_max, self.ready_max or 0)
        if other.oldest_max_s is not None:
            self.oldest_max_s = max(other.oldest_max_s, self.oldest_max_s or 0.0)
        if other.running_max is not None:
            self.running_max = max(other.running_max, self.running_max or 0)
        if other.cpu_max is not None:
            self.cpu_max = max(other.cpu_max, self.cpu_max or 0.0)
        if other.rss_max is not None:
            self.rss_max = max(other.rss_max, self.rss_max or 0)


class Sums(msgspec.Struct, array_like=True, frozen=True):
    """The sums of a stored slice. Its sketches, which take ten times as long to read, are read when asked for."""

    counts: list[int]
    run_s: float
    sketches_data: msgspec.Raw

    @property
    def sketches(self) -> dict[int, Sketch]:
        """By segment index, read anew each time."""
        return _SKETCHES.decode(self.sketches_data)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Slice)
_SUMS = msgspec.msgpack.Decoder(Sums)
_SKETCHES = msgspec.msgpack.Decoder(dict[int, Sketch])


def encode_slice(data: Slice) -> bytes:
    """A slice as stored."""
    return _ENCODER.encode(data)


def decode_slice(data: bytes) -> Slice:
    """Read what ``encode_slice`` wrote."""
    return _DECODER.decode(data)


def decode_sums(data: bytes) -> Sums:
    """Read the sums of what ``encode_slice`` wrote."""
    return _SUMS.decode(data)


_NOTHING: Final = Summary("", None, None, None, None, 0.0, (), (), ())
_BETWEEN: Final = "\x1f"
FAULT: Final = "e:"
#: Of the parts of an error group only all time is kept.
_FAULT_PART: Final = "x:"


def fault_part(fault: str, type: str | None, version: str | None, worker: str) -> str:
    """The series of an error group within a task type, version and worker together."""
    return f"{_FAULT_PART}{fault}{_BETWEEN}{type or ''}{_BETWEEN}{version or ''}{_BETWEEN}{worker}"


def fault_prefix(fault: str) -> str:
    """What the series of all parts of an error group begin with."""
    return f"{_FAULT_PART}{fault}{_BETWEEN}"


def fault_parts(series: str) -> tuple[str | None, str | None, str | None]:
    """The task type, version and worker of a part of an error group."""
    type, version, worker = [*series.split(_BETWEEN)[1:], "", "", ""][:3]
    return type or None, version or None, worker or None


def _series(type: str | None, queue: str | None) -> list[str]:
    names = [""]
    if type is not None:
        names.append("t:" + type)
    if queue is not None:
        names.append("q:" + queue)
    return names


#: Per second and (type, queue): [arrived, started].
_Flow = defaultdict[tuple[int, str | None, str | None], list[int]]
#: Per second and (type, queue, worker).
_Runs = defaultdict[tuple[int, str | None, str | None, str], list[Run]]


class _Columns(NamedTuple):
    """Some runs, field by field: counting a whole column is one call and counting its values is one each.

    run_s: seconds of slots. buckets: of sketches, by segment; without those of runs that have no such segment.
    """

    outcomes: list[int]
    run_s: list[float]
    buckets: list[list[int]]


def _columns(runs: list[Run]) -> _Columns:
    segments = [run.segments for run in runs]
    bucket = sketch.index
    return _Columns(
        [run.outcome for run in runs],
        [each[_RUN] or 0.0 for each in segments],
        [[bucket(value_s) for value_s in column if value_s is not None] for column in zip(*segments, strict=True)],
    )


class Delta:
    """What a batch changes: runs and arrivals are noted as they come and summed up once, by ``slices``."""

    def __init__(self) -> None:
        self._slices: dict[tuple[int, str], Slice] = {}
        self._flow: _Flow = defaultdict(lambda: [0, 0])
        self._more: _Runs = defaultdict(list)
        self._less: _Runs = defaultdict(list)

    def change(self, before: Summary | None, after: Summary) -> None:
        """Count a task as it is now, taking back what it counted before."""
        if before is None:
            self._arrived(after, 1)
            for at in after.started_at:
                self._started(after, at, 1)
            for run in after.runs:
                self._run(self._more, after, run)
        elif (before.type, before.queue) != (after.type, after.queue):
            self._differ(before, _NOTHING)
            self._differ(_NOTHING, after)
        else:
            self._differ(before, after)

    def _differ(self, before: Summary, after: Summary) -> None:
        if before.arrived_at != after.arrived_at:
            self._arrived(before, -1)
            self._arrived(after, 1)
        for mine, others, sign, runs in ((before, after, -1, self._less), (after, before, 1, self._more)):
            if mine.started_at != others.started_at:
                for at in _without(mine.started_at, others.started_at):
                    self._started(mine, at, sign)
            if mine.runs != others.runs:
                for run in _without(mine.runs, others.runs):
                    self._run(runs, mine, run)

    def _arrived(self, summary: Summary, sign: int) -> None:
        if summary.arrived_at:
            self._flow[int(summary.arrived_at), summary.type, summary.queue][0] += sign

    def _started(self, summary: Summary, at: float, sign: int) -> None:
        self._flow[int(at), summary.type, summary.queue][1] += sign

    def _run(self, runs: _Runs, summary: Summary, run: Run) -> None:
        runs[int(run.at), summary.type, summary.queue, run.worker].append(run)
        if run.fault is not None:
            sign = 1 if runs is self._more else -1
            for name in (FAULT + run.fault, fault_part(run.fault, summary.type, run.version, run.worker)):
                self._slice(run.at, name).counts[run.outcome] += sign

    def lag(self, at: float, lag_s: float) -> None:
        """Note how late events were when they were counted."""
        held = self._slice(at, "").sketches.setdefault(LAG, {})
        bucket = sketch.index(lag_s)
        held[bucket] = held.get(bucket, 0) + 1

    def depth(self, at: float, queue: str, ready: int, oldest_age_s: float | None) -> None:
        """Note how much waited in a queue."""
        for name in ("", "q:" + queue):
            data = self._slice(at, name)
            if name:
                data.ready_max = max(ready, data.ready_max or 0)
            if oldest_age_s is not None:
                data.oldest_max_s = max(oldest_age_s, data.oldest_max_s or 0.0)

    def level(self, at: float, running: int, waiting: int | None) -> None:
        """Note how many tasks run and wait in all."""
        data = self._slice(at, "")
        data.running_max = running
        data.ready_max = waiting

    def load(self, at: float, worker: str, cpu: float | None, rss_bytes: int | None) -> None:
        """Note what a worker said it uses: cores and bytes."""
        self._slice(at, "w:" + worker).add(Slice(cpu_max=cpu, rss_max=rss_bytes))

    def _slice(self, at: float, series: str) -> Slice:
        key = (int(at), series)
        data = self._slices.get(key)
        if data is None:
            data = self._slices[key] = Slice()
        return data

    def slices(self) -> dict[tuple[int, str], Slice]:
        """The sums by (second, series)."""
        for (second, type, queue), (arrived, started) in self._flow.items():
            for name in _series(type, queue):
                counts = self._slice(second, name).counts
                counts[ARRIVED] += arrived
                counts[STARTED] += started
        self._flow.clear()
        for runs, sign in ((self._more, 1), (self._less, -1)):
            self._sum(runs, sign)
            runs.clear()
        return self._slices

    def _sum(self, runs: _Runs, sign: int) -> None:
        by_series: dict[tuple[int, str], list[_Columns]] = {}
        for (second, type, queue, worker), held in runs.items():
            columns = _columns(held)
            for name in (*_series(type, queue), "w:" + worker):
                by_series.setdefault((second, name), []).append(columns)
        for (second, name), parts in by_series.items():
            data = self._slice(second, name)
            for outcome, amount in Counter(chain.from_iterable([part.outcomes for part in parts])).items():
                data.counts[outcome] += sign * amount
            data.run_s += sign * sum(chain.from_iterable([part.run_s for part in parts]))
            for segment in range(len(SEGMENTS)):
                counted = Counter(chain.from_iterable([part.buckets[segment] for part in parts]))
                if counted:
                    sketch.merge(data.sketches.setdefault(segment, {}), counted, sign)


def _without(mine: tuple[T, ...], others: tuple[T, ...]) -> list[T]:
    """What is here and not there; two equal ones are two."""
    rest = list(others)
    left = []
    for one in mine:
        if one in rest:
            rest.remove(one)
        else:
            left.append(one)
    return left


class Rollup:
    """The open slices of every tier, over a store that keeps the rest.

    fetch: reads stored slices by key; a slice that is not in memory is read before it is changed, so a late event
    adds to what was kept. max_slices bounds what stays in memory (the store keeps everything).
    """

    def __init__(
        self, fetch: Callable[[Iterable[SliceKey]], Mapping[SliceKey, bytes]], *, max_slices: int = 20_000
    ) -> None:
        self._fetch = fetch
        self._max_slices = max_slices
        self._open: dict[SliceKey, Slice] = {}
        self._touched: set[SliceKey] = set()
        self._seconds: dict[int, dict[str, Slice]] = {}
        self.out_of_range = 0

    def apply(self, delta: Delta, now: float) -> None:
        """Spread a batch's sums over the tiers."""
        wanted: list[tuple[SliceKey, Slice]] = []
        for (at, series), data in delta.slices().items():
            if at > now + FUTURE_S or at < now - TIERS[-1].keep_s:
                self.out_of_range += 1
                continue
            wanted.append(((ALL_TIME, 0, series), data))
            if series.startswith(_FAULT_PART):
                continue
            if at >= now - TIERS[0].keep_s:
                self._seconds.setdefault(at, {}).setdefault(series, Slice()).add(data, sketches=False)
                if LAG in data.sketches:
                    recent = self._seconds[at][series].sketches.setdefault(LAG, {})
                    sketch.merge(recent, data.sketches[LAG])
            for tier in STORED_TIERS:
                if at >= now - tier.keep_s:
                    wanted.append(((tier.width_s, at - at % tier.width_s, series), data))
        self._load(key for key, _ in wanted)
        for key, data in wanted:
            self._open[key].add(data)
            self._touched.add(key)
        self._forget_seconds(now)

    def _load(self, keys: Iterable[SliceKey]) -> None:
        missing = {key for key in keys if key not in self._open}
        if missing:
            stored = self._fetch(missing)
            for key in missing:
                self._open[key] = decode_slice(stored[key]) if key in stored else Slice()

    def _forget_seconds(self, now: float) -> None:
        oldest = int(now) - TIERS[0].keep_s
        for second in [second for second in self._seconds if second < oldest]:
            del self._seconds[second]

    def take(self) -> dict[SliceKey, bytes]:
        """The slices changed since the last call, whole, as they are to be stored."""
        taken = {key: encode_slice(self._open[key]) for key in self._touched}
        self._touched.clear()
        return taken

    def shrink(self) -> None:
        """Forget slices beyond the bound, oldest start first. Only after what ``take`` gave has been stored."""
        surplus = len(self._open) - self._max_slices
        if surplus > 0:
            # A quarter at once: sorting for every single slice would cost more than reading one back.
            surplus += self._max_slices // 4
            for key in sorted(self._open, key=lambda key: key[1])[:surplus]:
                if key not in self._touched:
                    del self._open[key]

    def recent(self, series: str) -> dict[int, Slice]:
        """The last ten minutes of a series by second, for the strip. Thread: any; slices may still be changing."""
        return {second: found for second, by_series in self._seconds.copy().items() if (found := by_series.get(series))}

    def __len__(self) -> int:
        return len(self._open)
