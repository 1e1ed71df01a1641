"""The slots of a worker: how busy each of its processes was, what it used, what it ran last. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opsq.events.slots import SlotUse
from opsq.web import words
from opsq.web.view_common import Link, Places


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One process. percent: of the bar that says how much of the time it ran tasks. last: its newest task."""

    pid: str
    busy: str
    percent: int
    runs: str
    cpu: str
    memory: str
    last: Link
    last_at: float


def slot_rows(found: Sequence[SlotUse], places: Places) -> tuple[SlotRow, ...]:
    """Build the rows, in the order of the processes: they keep their places while they live."""
    return tuple(
        SlotRow(
            pid=str(one.pid),
            busy=words.percent(one.busy),
            percent=min(100, round(100 * one.busy)),
            runs=words.count(one.runs),
            cpu=words.percent(one.cpu_share),
            memory=words.size(one.rss_bytes),
            last=Link(words.short_name(one.last_type) if one.last_type else words.UNKNOWN, places.task(one.last_id)),
            last_at=one.last_at,
        )
        for one in found
    )


def slots_small(found: Sequence[SlotUse]) -> str:
    """Say what the figures are taken from."""
    return f"by process, from the newest {words.plural(sum(one.runs for one in found), 'run')}"
