"""Everything the worker itself knows about its load, as one observation for the policy.

Each number says how old it is: what the broker told by the time of the answer, everything else is of this moment.
When the broker is silent, what the worker holds is still known (``Observation.local``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from opsq.autoscale.observation import Due, Gauge, Observation, QueueView
from opsq.broker.source import QueueDepth
from opsq.core.pools.base import Pool
from opsq.core.worker.ledger import Entry, Ledger
from opsq.core.worker.scaler_machine import MachineWatch
from opsq.core.worker.scaler_watch import Place, Watch
from opsq.core.worker.scaler_windows import LONG_S, Arrivals, RunTimes, Window
from opsq.wire.schedule_hint import ScheduleHint, upcoming

#: Over so many seconds the last tasks tell whether most fail, and how much gets done.
ENDED_S: Final = 60
DONE_S: Final = 10
#: So many runs tell the CPU share of their type.
TELLING: Final = 10
_HOUR_S: Final = 3600.0


class Depths(msgspec.Struct, frozen=True):
    """What the broker said of the queues at ``at`` (monotonic seconds)."""

    at: float
    queues: Mapping[str, QueueDepth]


class Sight:
    """Observes one worker. Thread: the scaler's; ``told`` may be set from any.

    waiting: the keys that wait here for their time or their rate, and so need no slot. gauge: the user's own measure.
    floor: fewest slots at an epoch second. hints: what beats said of ticks to come.
    """

    def __init__(
        self,
        ledger: Ledger,
        pool: Pool,
        watch: Watch,
        machine: MachineWatch,
        waiting: Callable[[], Mapping[int, float | None]],
        now: float,
        gauge: Callable[[], Gauge | None] = lambda: None,
    ) -> None:
        self.told: Depths | None = None
        self.floor: Callable[[float], int] = lambda at: 0
        self.hints: Callable[[], Iterable[ScheduleHint]] = tuple
        self._ledger, self._pool, self._watch, self._machine = ledger, pool, watch, machine
        self._waiting, self._gauge, self._began, self._at = waiting, gauge, now, now
        self._arrivals: dict[str, Arrivals] = {}
        self._mix: dict[Place, Window] = {}
        self._times: dict[str, RunTimes] = {}
        self._ended, self._done = Window(ENDED_S, 2), Window(DONE_S, 1)
        self._before: dict[str, float] = {}
        self._owed: dict[str, float] = {}
        self._spent_h, self._day = 0.0, -1
        self._clock_at = 0.0

    def look(self, now: float, at: float, names: list[str], have: int) -> Observation:
        """The observation of ``now`` (monotonic) and ``at`` (epoch seconds). names: queues that are consumed."""
        passed_s, self._at, self._clock_at = now - self._at, now, at
        entries = [entry for entry in tuple(self._ledger.entries.values()) if not (entry.finished or entry.ended)]
        here = self._held_here(entries)
        told = self.told
        ended_s = self._count(now, told)
        stats = self._pool.stats()
        running, starting = len(self._pool.running()), _number(stats.get("starting"))
        views = tuple(self._view(name, entries, here.get(name, 0), told, now) for name in names)
        local = tuple(self._view(name, entries, here.get(name, 0), None, now) for name in names)
        found = stats.get("processes")
        children = [pid for pid in found if isinstance(pid, int)] if isinstance(found, list) else []
        ran_s = sum(min(passed_s, at - entry.started_at) for entry in entries if entry.started_at is not None)
        self._machine.watch_children(now, children, min(ended_s + max(0.0, ran_s), self._pool.slots * passed_s))
        finished, failed = self._ended.sums(now)
        self._spend(have, passed_s, at)
        gauge = self._gauge()
        # Where the user's own measure asks for slots, they need not be for tasks that burn a core.
        machine = self._machine.read(now, children, self._cpu_share(now), assume=gauge is None)
        return Observation(
            at=now, have=have, starting=starting, running=running, queues=views,
            age_s=math.inf if told is None else max(0.0, now - told.at), local=local,
            machine=machine, gauge=gauge, finished=int(finished), failed=int(failed),
            throughput=self._done.sums(now)[0] / min(DONE_S, max(1.0, now - self._began)), spent=self._spent_h,
            scheduled_min=self.floor(at), due=self._due(names, told, at),
        )  # fmt: skip

    def waits_here(self) -> int:
        """How many tasks were taken and wait for nothing but a slot. Thread: any."""
        entries = tuple(self._ledger.entries.values())
        return max(0, sum(1 for entry in entries if entry.started_at is None) - len(self._waiting()))

    def _held_here(self, entries: list[Entry]) -> dict[str, int]:
        waiting, here = self._waiting(), dict[str, int]()
        for entry in entries:
            if entry.started_at is None and entry.key not in waiting:
                here[entry.queue or ""] = here.get(entry.queue or "", 0) + 1
        return here

    def _count(self, now: float, told: Depths | None) -> float:
        """Sort what passed through since the last look into windows; the seconds in slots of what ended."""
        arrived: dict[str, list[float]] = {}
        ended_s = 0.0
        for place, tally in self._watch.take().items():
            queue, name = place
            held = arrived.setdefault(queue, [0.0, 0.0])
            held[0] += tally.arrived
            held[1] += tally.again
            if tally.arrived:
                self._mix.setdefault(place, Window(LONG_S, 1)).add(now, tally.arrived)
            if tally.runs:
                self._times.setdefault(name, RunTimes()).add(now, tuple(tally.sums))
                ended_s += tally.sums[1]
            self._ended.add(now, tally.runs + tally.bad, tally.bad)
            self._done.add(now, tally.runs + tally.bad)
        for queue, seen in (told.queues if told is not None else {}).items():
            ready = _share(seen) * seen.ready
            grown = ready - self._before.get(queue, ready)
            self._before[queue] = ready
            arrived.setdefault(queue, [0.0, 0.0])[0] += grown
        for queue, (count, again) in arrived.items():
            # The two are not of the same instant: what seems to have come twice, or not yet, is set off.
            count += self._owed.pop(queue, 0.0)
            if count < 0:
                self._owed[queue] = count
            self._arrivals.setdefault(queue, Arrivals(self._began)).add(now, max(0.0, count), again)
        self._forget(now)
        return ended_s

    def _forget(self, now: float) -> None:
        """Drop the types of which nothing is left in any window."""
        for place in [place for place, window in self._mix.items() if not window.sums(now)[0]]:
            del self._mix[place]
        for name in [name for name, times in self._times.items() if not times.sums(now)[0]]:
            del self._times[name]

    def _due(self, names: list[str], told: Depths | None, at: float) -> tuple[Due, ...]:
        """What schedules will publish to the queues, as far as it is this worker's to do."""
        seen = {} if told is None else told.queues
        parts = {name: _share(seen[name]) if name in seen else 1.0 for name in names}
        return tuple(Due(name=one.name, in_s=one.in_s, tasks=one.tasks) for one in upcoming(self.hints(), parts, at))

    def _view(self, name: str, entries: list[Entry], here: int, told: Depths | None, now: float) -> QueueView:
        seen = told.queues.get(name) if told is not None else None
        ready = _share(seen) * seen.ready if seen is not None else 0.0
        arrivals = self._arrivals.get(name) or Arrivals(self._began)
        rate, rate_now, again = arrivals.rates(now)
        depth = ready + here
        service_s, spread, recent_s, recently = self._service(name, now)
        return QueueView(
            name=name, depth=depth,
            ages=arrivals.ages(now, depth, seen.oldest_age_s if seen is not None else None),
            rate=rate, rate_now=rate_now, retry_rate=again, dispersion=arrivals.dispersion(now),
            service_s=service_s, service_cv2=spread, service_now_s=recent_s, service_now_count=recently,
            occupied=float(self._occupied(name, entries)),
        )  # fmt: skip

    def _occupied(self, name: str, entries: list[Entry]) -> int:
        """Slots that run tasks for longer than the patience."""
        long_ago = self._clock_at - self._watch.patience_s
        return sum(
            1
            for entry in entries
            if entry.started_at is not None and (entry.queue or "") == name and entry.started_at < long_ago
        )

    def _service(self, queue: str, now: float) -> tuple[float | None, float, float | None, int]:
        """(mean, squared variation, mean of late, runs of late) over the mix of types that came in the last minute."""
        count = total = squares = late = lately = 0.0
        for place, window in self._mix.items():
            times = self._times.get(place[1]) if place[0] == queue else None
            if times is None:
                continue
            weight, sums = window.sums(now)[0], times.sums(now)
            if sums[0]:
                count += weight
                total += weight * sums[1] / sums[0]
                squares += weight * sums[2] / sums[0]
            recent = times.recent(now)
            lately, late = lately + recent[0], late + recent[1]
        if not count:
            return None, 1.0, None, 0
        mean = total / count
        spread = max(0.0, squares / count - mean * mean) / (mean * mean) if mean > 0 else 1.0
        return mean, spread, late / lately if lately else None, int(lately)

    def _cpu_share(self, now: float) -> float | None:
        """CPU seconds per second of the mix of types that came; None when some of them have not told."""
        cpu = ran = 0.0
        for place, window in self._mix.items():
            times = self._times.get(place[1])
            sums = times.sums(now) if times is not None else ()
            if not sums or sums[4] < TELLING:
                return None
            weight = window.sums(now)[0] / sums[4]
            cpu += weight * sums[3]
            # Time that a task stood ready without a core is the machine's, not its own.
            ran += weight * max(sums[3], sums[5] - self._machine.delay * sums[3])
        return min(1.0, cpu / ran) if ran > 0 else None

    def _spend(self, have: int, passed_s: float, at: float) -> None:
        day = int(at // (24 * _HOUR_S))
        if day != self._day:
            self._spent_h, self._day = 0.0, day
        self._spent_h += have * max(0.0, passed_s) / _HOUR_S


def _share(seen: QueueDepth) -> float:
    """The part of what waits that is this worker's to do: as much as every other consumer's, where they are known."""
    return 1.0 / max(1, seen.consumers or 1)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
