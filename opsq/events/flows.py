"""Workflows that move: how many members each has in which state, by ``root_id``.

Tallies follow rows: what a member counted before is taken back. A tally is **exact** when nothing of the workflow can
have been left out: nothing was forgotten since, or its first task is younger than what was. Of the others, and of
every workflow's tree, the rows tell (``workflows.py``). Bounded by number; the one that moved longest ago leaves first.

Thread: the writer's; ``copy`` and ``get`` from any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from opsq.events.life import Summary

_EARLIEST: Final = 0.0


class Flow(msgspec.Struct):
    """One workflow. at: when its first known member was placed. changed_at: when it moved last, by our clock.

    called: members beside the first task.
    """

    root: str
    at: float
    changed_at: float
    exact: bool
    name: str | None = None
    states: dict[str, int] = {}
    called: int = 0

    @property
    def members(self) -> int:
        """Tasks in it, the first one included."""
        return sum(self.states.values())


class Flows:
    """Recent workflows of a cluster.

    state_of: the state, name and time of the row of a task that belongs to no other, ``None`` when none is known.
    """

    def __init__(self, max_flows: int, state_of: Callable[[str], tuple[str, str | None, float] | None]) -> None:
        self._max = max_flows
        self._state_of = state_of
        self._flows: dict[str, Flow] = {}
        #: Whatever began before this may have members that are not counted here.
        self.complete_since = _EARLIEST

    def __len__(self) -> int:
        return len(self._flows)

    def __contains__(self, root: str) -> bool:
        return root in self._flows

    def change(self, id: str, at: float, before: Summary | None, after: Summary, now: float) -> None:
        """A task of a workflow changed; ``at`` is where its row is placed in time."""
        root = after.root or id
        old = None if before is None else (before.root or id)
        if before is not None and old is not None and old != root:
            self._leave(old, id, before.state)
        flow = self._flows.pop(root, None) or self._open(root, id, at, now)
        self._flows[root] = flow  # the latest to move is the last
        if before is not None and old == root:
            self._count(flow, before.state, -1)
        elif root != id:
            flow.called += 1
        self._count(flow, after.state, 1)
        if id == root and after.type is not None:
            flow.name = after.type
        flow.at, flow.changed_at = min(flow.at, at), now

    def restore(self, id: str, at: float, state: str, root: str) -> None:
        """Take a member from its row, after a start; the oldest first. What else belongs to it is not known here."""
        flow = self._flows.pop(root, None) or self._open(root, id, at, at)
        self._flows[root] = flow
        flow.exact = False
        flow.called += 1
        self._count(flow, state, 1)
        flow.at, flow.changed_at = min(flow.at, at), at

    def _leave(self, root: str, id: str, state: str) -> None:
        """A task names another first task now; if it was the last that was called, there is no workflow."""
        flow = self._flows.get(root)
        if flow is None:
            return
        self._count(flow, state, -1)
        if id == root:
            flow.name = None
        else:
            flow.called -= 1
        if not flow.called:
            del self._flows[root]

    def _open(self, root: str, id: str, at: float, now: float) -> Flow:
        first = None if root == id else self._state_of(root)
        began = at if first is None else min(at, first[2])
        # What came before the first task is known only if that task is.
        whole = self.complete_since == _EARLIEST or (first is not None and first[2] > self.complete_since)
        flow = Flow(root, began, now, whole)
        if first is not None:
            flow.name = first[1]
            flow.states = {first[0]: 1}
        return flow

    def _count(self, flow: Flow, state: str, sign: int) -> None:
        total = flow.states.get(state, 0) + sign
        states = {name: count for name, count in flow.states.items() if name != state}
        if total:
            states[state] = total
        flow.states = states  # replaced whole, so that readers never see it change

    def shrink(self, now: float) -> None:
        """Forget workflows beyond the bound. What began before now may then be incomplete when it moves again."""
        surplus = len(self._flows) - self._max
        if surplus > 0:
            for root in list(self._flows)[: surplus + self._max // 8]:
                del self._flows[root]
            self.complete_since = now

    def forget_before(self, at: float) -> None:
        """Forget workflows whose rows were removed: those that began before ``at``."""
        for root in [root for root, flow in self._flows.items() if flow.at < at]:
            del self._flows[root]

    def get(self, root: str) -> Flow | None:
        """One workflow. Thread: any."""
        return self._flows.get(root)

    def copy(self) -> list[Flow]:
        """Every workflow, the latest to move first. Thread: any."""
        return list(self._flows.copy().values())[::-1]
