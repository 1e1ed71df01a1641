"""What the slots of a worker used, from its newest runs: each child of a prefork pool is a process of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from opsq.events.evidence import decode
from opsq.events.records import Try
from opsq.events.rows import TaskRow
from opsq.events.tries import Corrected, as_told, tries

#: So many of a worker's newest tasks are looked at.
NEWEST: Final = 100


class SlotUse(Struct, frozen=True):
    """What one process used for its newest runs.

    busy: share of the time that it ran them, since the oldest of all processes' began. cpu_share: processor time per
    second of running; rss_bytes: the peak; ``None`` where no run told. last_at: epoch seconds at which the newest
    ended, by our clock; last_id, last_type: that task.
    """

    pid: int
    runs: int
    busy: float
    cpu_share: float | None
    rss_bytes: int | None
    last_at: float
    last_id: str
    last_type: str | None


class _Ran(Struct):
    row: TaskRow
    ended_at: float
    run_s: float
    told: Try


def slots_of(rows: Iterable[TaskRow], worker: str, now: float, corrected: Corrected = as_told) -> tuple[SlotUse, ...]:
    """Add up the ended runs of a worker by process, in the order of their ids."""
    by_pid: dict[int, list[_Ran]] = {}
    for row in rows:
        for one in tries(decode(row.evidence), corrected):
            if one.worker == worker and one.child_pid is not None and one.finished_at and one.runtime_s is not None:
                by_pid.setdefault(one.child_pid, []).append(_Ran(row, one.finished_at, one.runtime_s, one))
    began = min((ran.ended_at - ran.run_s for runs in by_pid.values() for ran in runs), default=now)
    return tuple(_use(pid, by_pid[pid], now - began) for pid in sorted(by_pid))


def _use(pid: int, runs: list[_Ran], over_s: float) -> SlotUse:
    told = [ran for ran in runs if ran.told.cpu_s is not None]
    told_s = sum(ran.run_s for ran in told)
    last = max(runs, key=lambda ran: ran.ended_at)
    return SlotUse(
        pid=pid,
        runs=len(runs),
        busy=sum(ran.run_s for ran in runs) / over_s if over_s > 0 else 0.0,
        cpu_share=sum(ran.told.cpu_s or 0.0 for ran in told) / told_s if told_s > 0 else None,
        rss_bytes=max((ran.told.rss_bytes for ran in runs if ran.told.rss_bytes is not None), default=None),
        last_at=last.ended_at,
        last_id=last.row.id,
        last_type=last.row.type,
    )
