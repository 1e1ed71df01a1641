"""Joining what this monitor knows with what another one stored: pure, with the fold's own functions.

Sums change by what a stored row grows; levels and greatest values are joined by taking the greater.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from opsq.events import anomalies as odd
from opsq.events import error_groups
from opsq.events import evidence as ev
from opsq.events.life import Summary, summarise
from opsq.events.records import key_time
from opsq.events.rollup import LAG, Delta, Rollup, Slice, SliceKey, decode_slice, encode_slice
from opsq.events.rows import Cell, TaskRow
from opsq.events.store import add_cells


class Change(NamedTuple):
    """A task as it was stored, ``None`` when it was not, and as it is now. at: where its row is placed in time."""

    id: str
    at: float
    before: Summary | None
    after: Summary


class Merged(NamedTuple):
    """What a transaction has to write: rows that grew, and the differences they make."""

    rows: list[TaskRow]
    cells: dict[Cell, int]
    slices: dict[SliceKey, Slice]
    changed: list[Change]

    @property
    def parents(self) -> list[str]:
        """Tasks that were newly named as callers."""
        return sorted({
            one.after.parent for one in self.changed
            if one.after.parent is not None and (one.before is None or one.before.parent != one.after.parent)
        })  # fmt: skip


def merge_rows(rows: Iterable[TaskRow], known: Mapping[str, TaskRow], now: float) -> Merged:
    """Join rows with the stored ones. known: by id, as far as they exist. now: epoch seconds."""
    grown: list[TaskRow] = []
    changed: list[Change] = []
    cells: dict[Cell, int] = {}
    delta = Delta()
    for row in rows:
        stored = known.get(row.id)
        if stored is not None and stored.evidence == row.evidence:
            continue
        mine = ev.decode(row.evidence)
        if stored is None:
            before, after, kept = None, summarise(mine), row
        else:
            theirs = ev.decode(stored.evidence)
            joined = ev.merge(theirs, mine)
            data = ev.encode(joined)
            if data == stored.evidence:
                continue
            before, after = summarise(theirs), summarise(joined)
            kept = TaskRow(stored.key, row.id, after.state, after.type, after.queue, after.worker, after.root, data)
            add_cells(cells, {stored.cell: -1})
        add_cells(cells, {kept.cell: 1})
        delta.change(before, after)
        grown.append(kept)
        changed.append(Change(kept.id, key_time(kept.key), before, after))
    return Merged(grown, cells, _spread(delta, now), changed)


def merged_ledger(
    stored: Mapping[str, bytes], mine: Mapping[str, bytes], changed: Iterable[Change], present: Collection[str]
) -> dict[str, bytes]:
    """The ledger to store. stored: error groups of ``mine`` and the anomalies, as they are. present: callers with rows.

    Facts of error groups only grow, so they are joined. Anomalies change by what the stored rows grew, like counts.
    Everything else is what the monitor that writes last says of itself.
    """
    anomalies = odd.Anomalies()
    anomalies.restore(stored)
    for one in changed:
        _oddities(anomalies, one, present)
    ledger = {name: data for name, data in mine.items() if name != odd.LEDGER} | anomalies.take()
    for name, data in ledger.items():
        if name.startswith(error_groups.LEDGER):
            ledger[name] = error_groups.joined(stored.get(name, b""), data)
    return ledger


def _oddities(anomalies: odd.Anomalies, one: Change, present: Collection[str]) -> None:
    before, after = one.before, one.after
    anomalies.change(one.id, one.at, before.anomalies if before else (), after.anomalies)
    parent = before.parent if before else None
    if after.parent != parent:
        if parent is not None:
            anomalies.withdraw(one.id, parent, one.at)
        if after.parent is not None and after.parent not in present:
            anomalies.orphan(one.id, after.parent, one.at)
    if before is None and anomalies.is_waited_for(one.id):
        anomalies.found(one.id, one.at)


def _spread(delta: Delta, now: float) -> dict[SliceKey, Slice]:
    """The differences in every tier: a roll-up over an empty store holds nothing else."""
    rollup = Rollup(lambda keys: {}, max_slices=1 << 30)
    rollup.apply(delta, now)
    return {key: decode_slice(data) for key, data in rollup.take().items()}


def merged_slices(
    stored: Mapping[SliceKey, bytes], grown: Mapping[SliceKey, Slice], mine: Mapping[SliceKey, bytes]
) -> dict[SliceKey, bytes]:
    """Slices to store. stored: as they are. grown: differences. mine: this monitor's own, for levels and lag."""
    found: dict[SliceKey, bytes] = {}
    for key in {*grown, *mine}:
        data = decode_slice(stored[key]) if key in stored else Slice()
        if key in mine:
            _levels(data, decode_slice(mine[key]))
        if key in grown:
            data.add(grown[key])
        written = encode_slice(data)
        if stored.get(key) != written:
            found[key] = written
    return found


def _levels(data: Slice, own: Slice) -> None:
    only = Slice(
        ready_max=own.ready_max, oldest_max_s=own.oldest_max_s, running_max=own.running_max, cpu_max=own.cpu_max,
        rss_max=own.rss_max,
    )  # fmt: skip
    data.add(only)
    lag = own.sketches.get(LAG)
    # Lag belongs to one monitor; of two the one that heard more is shown.
    if lag and sum(lag.values()) > sum(data.sketches.get(LAG, {}).values()):
        data.sketches[LAG] = lag
