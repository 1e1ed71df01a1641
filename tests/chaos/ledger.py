"""The ledger of a run and what must be true of it.

One append-only file, one ``write`` per line. Written by the tasks themselves, so the truth does not
depend on the code under test: ``S id pid t`` a run began, ``D id pid t`` it ended, ``B chord t`` a
chord's body ran. Written by the test: ``Q id`` before a publish, ``C id`` after it returned, ``E id t``
not to begin before t, ``L id seconds`` its hard time limit, ``H chord id`` a member of a chord's header,
``R id state`` the stored result, ``M id state`` what the monitor says, ``F name t0 t1`` a fault was
there from t0 to t1. Times in epoch seconds. Chains of ids and states are free of blanks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Run = tuple[str, int, float]
LATE_S = 1.0
"""A task over its time limit is ended this much later at most."""
EARLY_S = 0.001


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the system."""

    name: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Promise:
    """What is to be checked beside what always holds.

    late: at least once; otherwise at most once. lease_s: how long after a fault a delivery of before it
    may still come again. longest_s: the longest run, so that a run without an end is explained only by a
    fault this soon after its beginning. ordered: runs begin in the order of publishing. per_s: rate limit.
    results, monitor: every run has an ``R`` line, an ``M`` line.
    """

    late: bool = True
    lease_s: float = 0.0
    longest_s: float = float("inf")
    ordered: bool = False
    per_s: float | None = None
    results: bool = False
    monitor: bool = False


@dataclass(slots=True)
class Ledger:
    """What happened, in the order of the lines."""

    asked: list[str] = field(default_factory=list)
    confirmed: set[str] = field(default_factory=set)
    starts: list[Run] = field(default_factory=list)
    ends: list[Run] = field(default_factory=list)
    not_before: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    members: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    bodies: list[tuple[str, float]] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    monitored: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read every line of ``path``."""
        return cls.of(path.read_text().splitlines() if path.exists() else ())

    @classmethod
    def of(cls, lines: Iterable[str]) -> Ledger:
        """Parse ``lines``; one that is none of ours is kept as malformed."""
        ledger = cls()
        for line in lines:
            try:
                known = ledger._take(line.split())
            except ValueError:
                known = False
            if not known:
                ledger.malformed.append(line)
        return ledger

    def _take(self, words: list[str]) -> bool:
        match words:
            case ["Q", id]:
                self.asked.append(id)
            case ["C", id]:
                self.confirmed.add(id)
            case ["S", id, pid, at]:
                self.starts.append((id, int(pid), float(at)))
            case ["D", id, pid, at]:
                self.ends.append((id, int(pid), float(at)))
            case ["F", name, began, ended]:
                self.faults.append(Fault(name, float(began), float(ended)))
            case _:
                return self._take_rarer(words)
        return True

    def _take_rarer(self, words: list[str]) -> bool:
        match words:
            case ["E", id, at]:
                self.not_before[id] = float(at)
            case ["L", id, seconds]:
                self.limits[id] = float(seconds)
            case ["H", chord, id]:
                self.members[chord].add(id)
            case ["B", chord, at]:
                self.bodies.append((chord, float(at)))
            case ["R", id, state]:
                self.results[id] = state
            case ["M", id, state]:
                self.monitored[id] = state
            case _:
                return False
        return True

    @property
    def done(self) -> set[str]:
        """Ids that ended at least once."""
        return {id for id, _, _ in self.ends}

    def lost(self) -> set[str]:
        """Ids whose publishing was confirmed and that never ended."""
        return self.confirmed - self.done

    def times_started(self) -> Counter[str]:
        """How often each id began."""
        return Counter(id for id, _, _ in self.starts)

    def unended(self) -> set[tuple[str, int]]:
        """Runs, as (id, pid), that began and did not end."""
        ended = Counter((id, pid) for id, pid, _ in self.ends)
        begun = Counter((id, pid) for id, pid, _ in self.starts)
        return {run for run, count in begun.items() if count > ended[run]}

    def violations(self, promise: Promise | None = None) -> list[str]:
        """What breaks the promise, in words; an empty list is what is wanted."""
        promise = promise or Promise()
        return [
            *(f"malformed line {line!r}" for line in self.malformed),
            *self._never_ended(promise),
            *self._vanished(promise),
            *(self._repeats(promise) if promise.late else self._doubles()),
            *self._too_soon_or_long(),
            *(self._disorder() if promise.ordered else ()),
            *(self._too_fast(promise.per_s) if promise.per_s is not None else ()),
            *(self._states("result", self.results) if promise.results else ()),
            *(self._states("monitor", self.monitored) if promise.monitor else ()),
            *self._chords(),
        ]

    def report(self, promise: Promise | None = None, **more: Any) -> dict[str, Any]:
        """The run in figures, for a JSON line. more: its seed, its times."""
        started = self.times_started()
        found = self.violations(promise)
        return {
            "published": len(self.confirmed),
            "raised": len(set(self.asked) - self.confirmed),
            "executed": len(self.done & self.confirmed),
            "lost": len(self.lost()),
            "started_twice": sum(count > 1 for count in started.values()),
            "most_starts_of_one": max(started.values(), default=0),
            "faults": len(self.faults),
            "violations": found[:20],
            "verdict": "broken" if found else "kept",
            **more,
        }

    # ---- the rules

    def _never_ended(self, promise: Promise) -> Iterator[str]:
        explained = not promise.late and bool(self.faults)  # at most once: a crash may lose it
        if not explained:
            for id in sorted(self.lost()):
                yield f"lost: {id} was confirmed and never ended"
        for id in sorted(self.times_started().keys() - self.confirmed - set(self.asked)):
            yield f"foreign: {id} ran and was never published"

    def _vanished(self, promise: Promise) -> Iterator[str]:
        ended = {(id, pid) for id, pid, _ in self.ends}
        for id, pid, at in self.starts:
            explained = any(f.ended >= at and f.began <= at + promise.longest_s for f in self.faults)
            if (id, pid) not in ended and not explained:
                yield f"vanished: {id} began in {pid} at {at} and no fault explains that it did not end"

    def _repeats(self, promise: Promise) -> Iterator[str]:
        previous: dict[str, float] = {}
        for id, _, at in sorted(self.starts, key=lambda start: start[2]):
            before = previous.get(id)
            explained = before is None or any(
                f.ended + promise.lease_s >= before and f.began <= at for f in self.faults
            )
            if not explained:
                yield f"doubled: {id} ran at {before} and at {at} with no fault in between"
            previous[id] = at
        most = 1 + len(self.faults)
        for id, count in self.times_started().items():
            if count > most:
                yield f"repeated: {id} began {count} times with {most - 1} faults"

    def _doubles(self) -> Iterator[str]:
        for id, count in self.times_started().items():
            if count > 1:
                yield f"doubled: {id} was to run at most once and began {count} times"

    def _too_soon_or_long(self) -> Iterator[str]:
        for id, _, at in self.starts:
            if at < self.not_before.get(id, 0.0) - EARLY_S:
                yield f"early: {id} began at {at}, {self.not_before[id] - at:.3f} s before its time"
        begun = {(id, pid): at for id, pid, at in self.starts}
        for id, pid, at in self.ends:
            took = at - begun.get((id, pid), at)
            if took > self.limits.get(id, took) + LATE_S:
                yield f"overlong: {id} ran for {took:.3f} s with a limit of {self.limits[id]:g} s"

    def _disorder(self) -> Iterator[str]:
        places = {id: place for place, id in enumerate(self.asked)}
        last = -1
        for id, _, _ in sorted(self.starts, key=lambda start: start[2]):
            place = places.get(id, last)
            if place < last:
                yield f"disorder: {id} began after one that was published later"
            last = max(last, place)

    def _too_fast(self, per_s: float) -> Iterator[str]:
        times = sorted(at for _, _, at in self.starts)
        for first, later in zip(times, times[2:], strict=False):  # two in a row may meet: one late, one in time
            if later - first < 1.0 / per_s - EARLY_S:
                yield f"too fast: 3 runs within {later - first:.3f} s with a limit of {per_s:g} a second"

    def _states(self, whose: str, states: dict[str, str]) -> Iterator[str]:
        for id in sorted(self.done):
            state = states.get(id, "nothing")
            if state != "SUCCESS":
                yield f"{whose}: {id} ended and the {whose} says {state}"
        for id, state in sorted(states.items()):
            if state == "SUCCESS" and id not in self.done:
                yield f"{whose}: {id} never ended and the {whose} says {state}"

    def _chords(self) -> Iterator[str]:
        ran = Counter(chord for chord, _ in self.bodies)
        last_end: dict[str, float] = {}
        for id, _, at in self.ends:
            last_end.setdefault(id, at)
        for chord, members in self.members.items():
            if members <= self.done and not ran[chord]:
                yield f"chord: the body of {chord} never ran"
            if ran[chord] > 1:
                yield f"chord: the body of {chord} ran {ran[chord]} times"
        for chord, at in self.bodies:
            open_members = [id for id in self.members[chord] if last_end.get(id, float("inf")) > at]
            if open_members:
                yield f"chord: the body of {chord} ran before {sorted(open_members)[0]} had ended"
