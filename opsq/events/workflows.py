"""A workflow from its rows: members, the tree of who called whom, and the path that decided when it was done. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, structs

from opsq.events.evidence import decode, registers
from opsq.events.fields import FIELDS
from opsq.events.life import PARENT, Run, Summary, summarise
from opsq.events.records import key_time
from opsq.events.rows import TaskRow
from opsq.wire import states

#: Members that are read of one workflow; larger ones are shown as far as that.
MOST_MEMBERS: Final = 5_000
GROUP: Final = FIELDS["group_id"]
_RUN_SEGMENT: Final = 3
#: What a worker publishes when a header is done comes after the last end; clocks of two machines differ a little.
_TOLERANCE_S: Final = 0.05


class FlowNode(Struct, frozen=True, kw_only=True):
    """One member. depth: calls between it and the first task. slack_s: how much later it could have ended.

    critical: it is on the path that decided when the workflow was done. orphan: its caller is not known.
    group: the group, or header of a chord, that it is a member of. follows: the group whose last end it waited for.
    Times in epoch seconds, ``None`` where unknown.
    """

    id: str
    parent_id: str | None
    name: str | None
    state: str
    queue: str | None
    worker: str | None
    at: float
    started_at: float | None
    finished_at: float | None
    run_s: float | None
    depth: int = 0
    critical: bool = False
    orphan: bool = False
    slack_s: float | None = None
    group: str | None = None
    follows: str | None = None


class Workflow(Struct, frozen=True, kw_only=True):
    """A workflow with its members, callers before the called. whole: all members were read.

    states: members by state. critical_s: seconds from the first publication to the end of the critical path.
    """

    root: str
    name: str | None
    states: Mapping[str, int]
    nodes: tuple[FlowNode, ...]
    started_at: float | None
    finished_at: float | None
    done: bool
    critical: tuple[str, ...] = ()
    critical_s: float | None = None
    whole: bool = True


def workflow(root: str, rows: Iterable[TaskRow]) -> Workflow | None:
    """Put the rows of a workflow together, the first task's among them; ``None`` when there is none."""
    found = {row.id: row for row in rows}
    if not found:
        return None
    summaries = {id: summarise(decode(row.evidence)) for id, row in found.items()}
    parents = {id: _parent(row) for id, row in found.items()}
    depths = _depths(root, parents)
    ends = {id: _end(summary) for id, summary in summaries.items()}
    path = _critical(parents, ends)
    last_end = max((end for end in ends.values() if end is not None), default=None)
    slacks = _slacks(parents, ends, last_end)
    groups = {id: registers(decode(row.evidence)).get(GROUP) for id, row in found.items()}
    follows = _follows(found, parents, ends, groups)
    nodes = [
        structs.replace(
            _node(found[id], summaries[id], parents[id], depths[id], id in path, slacks.get(id)),
            orphan=parents[id] is not None and parents[id] not in found,
            group=groups[id],
            follows=follows.get(id),
        )
        for id in sorted(found, key=lambda id: (depths[id], found[id].key))
    ]
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.state] = counts.get(node.state, 0) + 1
    started = min((summary.arrived_at for summary in summaries.values() if summary.arrived_at), default=None)
    done = all(node.state in states.READY_STATES for node in nodes)
    return Workflow(
        root=root,
        name=summaries[root].type if root in summaries else None,
        states=counts,
        nodes=tuple(nodes),
        started_at=started,
        finished_at=last_end if done else None,
        done=done,
        critical=path,
        critical_s=last_end - started if last_end is not None and started is not None else None,
        whole=len(found) <= MOST_MEMBERS,
    )


def _parent(row: TaskRow) -> str | None:
    parent = registers(decode(row.evidence)).get(PARENT)
    return parent if parent != row.id else None


def _end(summary: Summary) -> float | None:
    return max((run.at for run in summary.runs), default=None)


def _depths(root: str, parents: Mapping[str, str | None]) -> dict[str, int]:
    """Calls from the first task; a loop, which only a hostile emitter makes, counts as the start of its own tree."""
    depths: dict[str, int] = {}
    for id in parents:
        path: list[str] = []
        step: str | None = id
        while step is not None and step in parents and step not in depths and step not in path:
            path.append(step)
            step = parents[step]
        above = depths.get(step, -1) if step is not None else -1
        if above < 0 and step is not None and path and path[-1] != root and root in parents:
            above = 0  # its caller is not known: it is shown under the first task
        for one in reversed(path):
            above += 1
            depths[one] = above
    return depths


def _critical(parents: Mapping[str, str | None], ends: Mapping[str, float | None]) -> tuple[str, ...]:
    """From the member that ended last back through its callers, first to last."""
    known = [(end, id) for id, end in ends.items() if end is not None]
    if not known:
        return ()
    path: list[str] = []
    step: str | None = max(known)[1]
    while step is not None and step in parents and step not in path:
        path.append(step)
        step = parents[step]
    return tuple(reversed(path))


def _follows(
    found: Mapping[str, TaskRow],
    parents: Mapping[str, str | None],
    ends: Mapping[str, float | None],
    groups: Mapping[str, str | None],
) -> dict[str, str]:
    """Which members are bodies of chords, by the group they waited for.

    Whoever ends a header last publishes the body, so that only that one is its caller; and it comes after every end.
    """
    last_end: dict[str, float] = {}
    for id, group in groups.items():
        if group is not None:
            last_end[group] = max(last_end.get(group, 0.0), ends[id] or float("inf"))
    waited = {}
    for id, parent in parents.items():
        group = groups.get(parent) if parent is not None else None
        if group is not None and groups[id] != group and key_time(found[id].key) >= last_end[group] - _TOLERANCE_S:
            waited[id] = group
    return waited


def _slacks(
    parents: Mapping[str, str | None], ends: Mapping[str, float | None], last_end: float | None
) -> dict[str, float]:
    """How much later each member could have ended without the workflow ending later: by its latest descendant."""
    latest: dict[str, float] = {}
    for id, end in ends.items():
        if end is None:
            continue
        step: str | None = id
        seen: set[str] = set()
        while step is not None and step in parents and step not in seen and latest.get(step, -1.0) < end:
            latest[step] = end
            seen.add(step)
            step = parents[step]
    return {} if last_end is None else {id: last_end - latest[id] for id in latest}


def _node(
    row: TaskRow,
    summary: Summary,
    parent: str | None,
    depth: int,
    critical: bool,
    slack_s: float | None,
) -> FlowNode:
    last: Run | None = summary.runs[-1] if summary.runs else None
    return FlowNode(
        id=row.id,
        parent_id=parent,
        name=summary.type,
        state=summary.state,
        queue=summary.queue,
        worker=summary.worker,
        at=key_time(row.key),
        started_at=summary.started_at[-1] if summary.started_at else None,
        finished_at=last.at if last else None,
        run_s=last.segments[_RUN_SEGMENT] if last else None,
        depth=depth,
        critical=critical,
        slack_s=slack_s,
    )
