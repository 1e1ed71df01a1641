"""What should not happen and did, counted by kind with examples, and calls whose caller is not known.

A task's own anomalies ("started twice", "final then started" …) are functions of its evidence (``life.py``). "unknown
parent" is one between two tasks: it counts while no row of the parent exists, and is taken back when one appears.

Thread: the writer's; ``samples`` from any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

UNKNOWN_PARENT: Final = "unknown parent"
SAMPLES: Final = 20
#: Their name in the ledger.
LEDGER: Final = "anomalies"
_MOST_CHILDREN: Final = 1_000
_ENCODER: Final = msgspec.msgpack.Encoder()


class _Kept(msgspec.Struct, array_like=True):
    counts: dict[str, int] = {}
    samples: dict[str, dict[str, float]] = {}
    waiting: dict[str, list[str]] = {}
    untold: int = 0


class Anomalies:
    """Counts and examples of a cluster. waiting: ids of tasks that named a parent nobody has heard of."""

    def __init__(self, max_parents: int = 2_000) -> None:
        self._max_parents = max_parents
        self._kept = _Kept()
        self._changed = False

    def restore(self, ledger: Mapping[str, bytes]) -> None:
        """Put stored counts back."""
        if ledger.get(LEDGER):
            self._kept = msgspec.msgpack.decode(ledger[LEDGER], type=_Kept)

    def change(self, id: str, at: float, before: Iterable[str], after: Iterable[str]) -> None:
        """A task shows ``after`` now and showed ``before`` until now."""
        gone, new = set(before), set(after)
        for kind in gone - new:
            self._count(kind, id, at, -1)
        for kind in new - gone:
            self._count(kind, id, at, 1)

    def _count(self, kind: str, id: str, at: float, sign: int) -> None:
        kept = self._kept
        self._changed = True
        total = kept.counts.get(kind, 0) + sign
        if total:
            kept.counts[kind] = total
        else:
            kept.counts.pop(kind, None)
        samples = kept.samples.get(kind, {})
        if sign < 0:
            # Replaced whole, so that a reader in another thread never sees it change.
            kept.samples[kind] = {one: when for one, when in samples.items() if one != id}
        else:
            newest = sorted([*samples.items(), (id, at)], key=lambda entry: (entry[1], entry[0]), reverse=True)
            kept.samples[kind] = dict(newest[:SAMPLES])

    # -- callers nobody knows ------------------------------------------------------------------------------------------

    def orphan(self, id: str, parent: str, at: float) -> None:
        """A task names a parent that has no row."""
        children = self._kept.waiting.setdefault(parent, [])
        if id in children:
            return
        if len(children) < _MOST_CHILDREN:
            children.append(id)
        self._count(UNKNOWN_PARENT, id, at, 1)
        if len(self._kept.waiting) > self._max_parents:
            # Given up: its children stay counted, whatever is heard of it later.
            del self._kept.waiting[next(iter(self._kept.waiting))]
            self._kept.untold += 1

    def withdraw(self, id: str, parent: str, at: float) -> None:
        """A task names another parent now."""
        children = self._kept.waiting.get(parent, [])
        if id in children:
            children.remove(id)
            self._count(UNKNOWN_PARENT, id, at, -1)

    def is_waited_for(self, id: str) -> bool:
        """Did a task name this one as its parent before it was heard of?"""
        return id in self._kept.waiting

    def found(self, parent: str, at: float) -> None:
        """The parent was heard of after all."""
        for id in self._kept.waiting.pop(parent, ()):
            self._count(UNKNOWN_PARENT, id, at, -1)

    # -- handing over --------------------------------------------------------------------------------------------------

    def take(self) -> dict[str, bytes]:
        """Counts and examples as the ledger keeps them, when they changed since the last call."""
        if not self._changed:
            return {}
        self._changed = False
        return {LEDGER: _ENCODER.encode(self._kept)}

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks show each kind. Thread: any."""
        return self._kept.counts.copy()

    @property
    def given_up(self) -> int:
        """Parents that were waited for and are no more. Thread: any."""
        return self._kept.untold

    def samples(self) -> dict[str, list[tuple[float, str]]]:
        """By kind, when and which tasks, newest first. Thread: any."""
        return {
            kind: sorted(((at, id) for id, at in found.items()), reverse=True)
            for kind, found in self._kept.samples.copy().items()
            if found
        }
