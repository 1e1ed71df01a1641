"""The machine below the slots: cores, CPU time, memory and the pressure on them. Linux tells most; elsewhere guards
without figures are off.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import psutil

from opsq.autoscale.observation import Machine
from opsq.core.pools.prefork_oom import OomWatch
from opsq.core.worker.plan import cpus
from opsq.core.worker.scaler_windows import LONG_S, Window

MEMORY_EVERY_S: Final = 5.0
#: Weighing a child costs about a millisecond; of more children, so many are weighed.
MOST_WEIGHED: Final = 32
#: Time in slots over which the CPU share of what runs can be told.
TOLD_AFTER_S: Final = 0.5
FULL: Final = 0.9
NOTHING: Final = (0.0, 0.0)
_CGROUP: Final = Path("/sys/fs/cgroup")
_NS: Final = 1e9


class MachineWatch:
    """Measures this process, its children and what they share. Thread: one, the scaler's.

    limit_bytes: instead of the control group's memory limit. isolated: slots are processes, each able to use a core.
    """

    def __init__(self, limit_bytes: int | None, *, isolated: bool) -> None:
        self._process = psutil.Process()
        self._group = OomWatch()
        self._limit_bytes = limit_bytes or self._group.limit_bytes()
        self._isolated = isolated
        self.cores = _cores() if isolated else None
        self._weighed_at = -math.inf
        self._child_bytes: float | None = None
        self._parent_bytes = 0.0
        self._used_bytes: float | None = None
        # (CPU seconds, seconds runnable without a core) of each child at the last look.
        self._times: dict[int, tuple[float, float]] | None = None
        self._lately = Window(LONG_S, 2)
        self._slot_s = self._cpu_s = self._waited_s = self._share = 0.0
        self.delay = 0.0
        psutil.cpu_percent(None)

    def watch_children(self, now: float, children: Sequence[int], slot_s: float) -> None:
        """Read the children's own counters. slot_s: seconds that tasks spent in slots since the last look.

        Also notes ``delay``: seconds that a child was ready to run and had no core, per CPU second. Without that a full
        machine would make tasks look as if they waited for something else, and every growth would allow the next.
        """
        times = {pid: found for pid in children if (found := _times(pid)) is not None}
        # A child that is new has all it used since the last look; those of the first look have a life before it.
        before = times if self._times is None else self._times
        cpu_s = sum(ran - before.get(pid, NOTHING)[0] for pid, (ran, _) in times.items())
        waited_s = sum(waited - before.get(pid, NOTHING)[1] for pid, (_, waited) in times.items())
        self._times = times
        # What was measured fades, so that it is that of the last seconds.
        self._slot_s = self._slot_s / 2 + slot_s
        self._cpu_s = self._cpu_s / 2 + cpu_s
        self._waited_s = self._waited_s / 2 + waited_s
        self._lately.add(now, waited_s, cpu_s)
        waited_s, cpu_s = self._lately.sums(now)
        self.delay = waited_s / cpu_s if cpu_s > 0 else 0.0

    def read(self, now: float, children: Sequence[int], share: float | None, *, assume: bool = True) -> Machine:
        """How the machine is at ``now``.

        share: CPU share of the tasks that ended of late, None when none did; then that of what runs now counts, and
        until that can be told either a whole core per task is assumed, unless nothing is to be assumed.
        """
        busy = psutil.cpu_percent(None) / 100
        measured = self._running_share() if share is None else share
        if measured is not None:
            # On a full machine everything takes longer, also for reasons that nobody tells: a share only rises then.
            measured = self._share = max(self._share, measured) if busy > FULL else measured
        known = 1.0 if measured is None and assume else measured
        if now - self._weighed_at >= MEMORY_EVERY_S:
            self._weighed_at = now
            self._weigh(children)
        return Machine(
            cpu_share=known if self._isolated else None, cores=self.cores, cpu_busy=busy,
            memory_limit=self._limit_bytes, memory_used=self._used_bytes, parent_bytes=self._parent_bytes,
            child_bytes=self._child_bytes, oom_kills=self._group.kills(), io_pressure=_pressure("io"),
        )  # fmt: skip

    def _running_share(self) -> float | None:
        """CPU share of the tasks in slots; None while that cannot be told."""
        ran_s = self._slot_s - self._waited_s
        return min(1.0, self._cpu_s / ran_s) if ran_s >= TOLD_AFTER_S else None

    def _weigh(self, children: Sequence[int]) -> None:
        weights = sorted(weight for pid in children[:MOST_WEIGHED] if (weight := _weight(pid)) is not None)
        self._child_bytes = weights[math.ceil(0.95 * len(weights)) - 1] if weights and self._isolated else None
        own = _weight(self._process.pid)
        self._parent_bytes = float(own or 0.0)
        together = self._parent_bytes + sum(weights) * len(children) / max(1, len(weights))
        # With a limit of the user's own, what counts is what this worker uses of it.
        group = self._group.limit_bytes()
        self._used_bytes = self._group.used_bytes() if group == self._limit_bytes else together


def _weight(pid: int) -> float | None:
    """Memory of one process in bytes; what it shares with others counts by part, where the system tells."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # not there on this system, or the child has just ended
    try:
        return float(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _times(pid: int) -> tuple[float, float] | None:
    """(CPU seconds, seconds runnable without a core) of a process so far."""
    try:
        ran, waited = Path(f"/proc/{pid}/schedstat").read_text().split()[:2]
        return int(ran) / _NS, int(waited) / _NS
    except (OSError, ValueError):
        pass  # a kernel without scheduler statistics, or not Linux
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system, 0.0


def _pressure(what: str) -> float | None:
    """Share of the last ten seconds in which some process stood still for want of it; None where it is not known."""
    try:
        first = Path(f"/proc/pressure/{what}").read_text().splitlines()[0]
        fields = dict(part.split("=", 1) for part in first.split()[1:])
        return float(fields["avg10"]) / 100
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _cores() -> float:
    """CPUs this process may use: its control group's quota, else those it may run on."""
    quotas = (quota for quota in _quotas() if quota > 0)
    return float(min([*quotas, float(cpus())]))


def _quotas() -> Iterable[float]:
    """Source: cgroup-v2.rst ``cpu.max``; v1 ``cpu.cfs_quota_us``."""
    for file, period_file in ((_CGROUP / "cpu.max", None), (_CGROUP / "cpu/cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = file.read_text().split()
            period = words[1] if period_file is None else (file.parent / period_file).read_text()
            yield float(words[0]) / float(period)
        except (OSError, ValueError, IndexError, ZeroDivisionError):
            continue  # no quota: "max", or no such file
