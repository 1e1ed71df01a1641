"""A workflow drawn as a graph: columns by call depth, many alike folded into one, edges as curves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.workflows import FlowNode, Workflow
from opsq.web import charts, words
from opsq.web.faces import Face, task_face
from opsq.web.view_common import Places

FOLD_FROM: Final = 5
MAX_BOXES: Final = 120
#: Bodies that hang on bodies that hang on bodies … are put right of each other so many times.
MOST_NESTED: Final = 20
BOX_WIDTH: Final = 184
BOX_HEIGHT: Final = 40
GAP_X: Final = 56
GAP_Y: Final = 12
MAX_LABEL: Final = 24
_WORST: Final = ("FAILURE", "STARTED", "RETRY", "RECEIVED", "PENDING", "SENT", "REVOKED", "REJECTED", "SUCCESS")


@dataclass(frozen=True, slots=True)
class Box:
    """A member, or many alike. fills: shares of the folded members by state, in pixels."""

    x: int
    y: int
    href: str
    label: str
    title: str
    small: str
    face: Face
    css: str
    fills: tuple[charts.Segment, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """Who called whom, as SVG path data."""

    path: str
    css: str


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing, in pixels. left_out: members that no box stands for. sentence: what it shows, in words."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    left_out: int
    sentence: str


@dataclass(frozen=True, slots=True)
class _Bunch:
    """What one box stands for. key: identifies it. parents: keys of those that its edges come from."""

    key: str
    parents: tuple[str, ...]
    depth: int
    members: tuple[FlowNode, ...]


def graph(flow: Workflow, here: str, places: Places) -> Graph:
    """Draw a workflow; five or more calls of one task by the same caller, or in one group, are one box.

    A chord's body hangs on all of its header.
    """
    bunches = _bunches(flow.nodes)
    shown = bunches[:MAX_BOXES]
    places_of = _places(shown)
    critical = {bunch.key for bunch in shown if any(node.critical for node in bunch.members)}
    boxes = tuple(_box(bunch, places_of[bunch.key], flow.root, here, places) for bunch in shown)
    edges = tuple(
        _edge(places_of[above], places_of[bunch.key], above in critical and bunch.key in critical)
        for bunch in shown
        for above in bunch.parents
        if above in places_of and above != bunch.key
    )
    columns = 1 + max((bunch.depth for bunch in shown), default=0)
    bottom = max((y for _, y in places_of.values()), default=0)
    left_out = sum(len(bunch.members) for bunch in bunches[MAX_BOXES:])
    said = f"{words.plural(len(flow.nodes), 'task')} in {words.plural(columns, 'step')} of calls."
    return Graph(columns * (BOX_WIDTH + GAP_X) - GAP_X + 2, bottom + BOX_HEIGHT + 2, boxes, edges, left_out, said)


def _bunches(nodes: Sequence[FlowNode]) -> list[_Bunch]:
    """Put members that are alike together: same task and group, called from the same box."""
    box_of: dict[str, str] = {}
    boxes_of_group: dict[str, list[str]] = {}
    found: list[_Bunch] = []
    columns = _columns(nodes)
    for depth in sorted(set(columns.values())):
        alike: dict[tuple[str, str | None, str | None], list[FlowNode]] = {}
        for node in nodes:
            if columns[node.id] == depth:
                above = box_of.get(node.parent_id or "", "")
                alike.setdefault((above, node.name, node.group), []).append(node)
        for (above, _, _), members in alike.items():
            for bunch in [members] if len(members) >= FOLD_FROM else [[node] for node in members]:
                first = bunch[0]
                box_of.update((node.id, first.id) for node in bunch)
                if first.group is not None:
                    boxes_of_group.setdefault(first.group, []).append(first.id)
                joined = boxes_of_group.get(first.follows, [above]) if first.follows is not None else [above]
                found.append(_Bunch(first.id, tuple(dict.fromkeys(joined)), depth, tuple(bunch)))
    return found


def _columns(nodes: Sequence[FlowNode]) -> dict[str, int]:
    """Give each member its column: one right of its caller, a chord's body one right of all of its header."""
    columns = {node.id: node.depth for node in nodes}
    for _ in range(MOST_NESTED):
        ends: dict[str, int] = {}
        for node in nodes:
            if node.group is not None:
                ends[node.group] = max(ends.get(node.group, 0), columns[node.id])
        moved = False
        for node in nodes:
            after = columns.get(node.parent_id or "", columns[node.id] - 1)
            wanted = 1 + max(after, ends.get(node.follows or "", after))
            if wanted > columns[node.id]:
                columns[node.id], moved = wanted, True
        if not moved:
            break
    return columns


def _places(bunches: Sequence[_Bunch]) -> dict[str, tuple[int, int]]:
    """Place boxes: column by depth, beside the middle of what they hang on, or the first free row of the column."""
    free: dict[int, int] = {}
    found: dict[str, tuple[int, int]] = {}
    for bunch in bunches:
        above = [found[key][1] for key in bunch.parents if key in found]
        wanted = (min(above) + max(above)) // 2 if above else 1
        y = max(free.get(bunch.depth, 1), wanted)
        found[bunch.key] = (1 + bunch.depth * (BOX_WIDTH + GAP_X), y)
        free[bunch.depth] = y + BOX_HEIGHT + GAP_Y
    return found


def _box(bunch: _Bunch, at: tuple[int, int], root: str, here: str, places: Places) -> Box:
    first, many = bunch.members[0], len(bunch.members)
    name = words.short_name(first.name) if first.name else words.UNKNOWN
    counts: dict[str, int] = {}
    for node in bunch.members:
        counts[node.state] = counts.get(node.state, 0) + 1
    state = next((one for one in _WORST if counts.get(one)), first.state)
    css = " ".join(
        word
        for word, holds in (
            ("critical", any(node.critical for node in bunch.members)),
            ("here", any(node.id == here for node in bunch.members)),
            ("ghost", first.orphan),
        )
        if holds
    )
    if many > 1:
        small = ", ".join(
            f"{words.count(n)} {task_face(one).word}" for one, n in sorted(counts.items(), key=lambda c: -c[1])
        )
        href = places.search(root=root, **({"type": first.name} if first.name else {}))
    else:
        ran = f" {words.duration(first.run_s)}" if first.run_s is not None else ""
        small, href = f"{task_face(state).word}{ran}", places.task(first.id)
    label = name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"
    return Box(
        x=at[0],
        y=at[1],
        href=href,
        label=f"{label} × {words.count(many)}" if many > 1 else label,
        title=f"{first.name or words.UNKNOWN}, {small}",
        small=small[:34],
        face=task_face(state),
        css=css,
        fills=_fills(counts, many),
    )


def _fills(counts: Mapping[str, int], whole: int) -> tuple[charts.Segment, ...]:
    """Share the bottom edge of a box among the states of its members."""
    at = 0.0
    found = []
    for state in (*_WORST, *sorted(set(counts) - set(_WORST))):
        if counts.get(state):
            width = BOX_WIDTH * counts[state] / whole
            found.append(charts.Segment(task_face(state).css, round(at, 1), round(width, 1)))
            at += width
    return tuple(found)


def _edge(start: tuple[int, int], end: tuple[int, int], critical: bool) -> Edge:
    x1, y1 = start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT // 2
    x2, y2 = end[0], end[1] + BOX_HEIGHT // 2
    middle = (x1 + x2) // 2
    return Edge(f"M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}", "critical" if critical else "")
