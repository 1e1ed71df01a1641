"""The ledger of a run and what must be true of it.

Lines: ``S id pid t`` a run began, ``D id pid t`` it ended (written by the tasks); ``C id`` the
publish was confirmed, ``F name t0 t1`` a fault was there from t0 to t1 (written by the test).
Times in epoch seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the system."""

    name: str
    began: float
    ended: float


@dataclass(slots=True)
class Ledger:
    """What happened, in the order of the lines."""

    confirmed: set[str] = field(default_factory=set)
    starts: list[tuple[str, int, float]] = field(default_factory=list)
    ends: list[tuple[str, int, float]] = field(default_factory=list)
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
            match line.split():
                case ["C", id]:
                    ledger.confirmed.add(id)
                case ["S", id, pid, at]:
                    ledger.starts.append((id, int(pid), float(at)))
                case ["D", id, pid, at]:
                    ledger.ends.append((id, int(pid), float(at)))
                case ["F", name, began, ended]:
                    ledger.faults.append(Fault(name, float(began), float(ended)))
                case _:
                    ledger.malformed.append(line)
        return ledger

    @property
    def done(self) -> set[str]:
        """Ids that ended at least once."""
        return {id for id, _, _ in self.ends}

    def times_started(self) -> Counter[str]:
        """How often each id began."""
        return Counter(id for id, _, _ in self.starts)

    def unended(self) -> set[tuple[str, int]]:
        """Runs, as (id, pid), that began and did not end."""
        ended = Counter((id, pid) for id, pid, _ in self.ends)
        begun = Counter((id, pid) for id, pid, _ in self.starts)
        return {run for run, count in begun.items() if count > ended[run]}

    def violations(self, lease_s: float = 0.0) -> list[str]:
        """What breaks the promise "at least once", in words; an empty list is what is wanted.

        lease_s: how long after a fault a delivery of before it may still come again.
        """
        found = [f"malformed line {line!r}" for line in self.malformed]
        found += [f"lost: {id} was confirmed and never ended" for id in sorted(self.confirmed - self.done)]
        started = self.times_started()
        found += [f"foreign: {id} ran and was never published" for id in sorted(started.keys() - self.confirmed)]
        ended = {(id, pid) for id, pid, _ in self.ends}
        for id, pid, at in self.starts:
            if (id, pid) not in ended and not any(fault.ended >= at for fault in self.faults):
                found.append(f"vanished: {id} began in {pid} at {at} and no fault explains that it did not end")
        found += self._unexplained_repeats(started, lease_s)
        return found

    def _unexplained_repeats(self, started: Counter[str], lease_s: float) -> list[str]:
        found = []
        previous: dict[str, float] = {}
        for id, _, at in sorted(self.starts, key=lambda start: start[2]):
            before = previous.get(id)
            if before is not None and not any(f.ended >= before and f.began <= at for f in self.faults):
                found.append(f"doubled: {id} ran at {before} and at {at} with no fault in between")
            previous[id] = at
        most = 1 + len(self.faults)
        found += [f"repeated: {id} began {n} times with {most - 1} faults" for id, n in started.items() if n > most]
        return found
