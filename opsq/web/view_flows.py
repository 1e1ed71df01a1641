"""Workflows: the list of those that move, and one as a graph and on a time axis. Records in, geometry out; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opsq.events.records import Percentiles
from opsq.events.views import FlowItem
from opsq.events.workflows import FlowNode, Workflow
from opsq.web import charts, words
from opsq.web.faces import FINISHED, Face, task_face
from opsq.web.flow_graph import Graph, graph
from opsq.web.view_common import Head, Link, Places, row_id

MAX_ROWS: Final = 60
LEAST_PERCENT: Final = 0.4
HEADS: Final = (
    Head("Workflow"),
    Head("State"),
    Head("Done", "w-target"),
    Head("Members", "num"),
    Head("Began", "num p2"),
    Head("Moved", "num", "descending"),
)


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One workflow in the list."""

    id: str
    href: str
    name: str
    short: str
    face: Face
    said: str
    percent: int
    share: str
    members: str
    at: float
    changed_at: float


@dataclass(frozen=True, slots=True)
class FlowsView:
    """The page of workflows."""

    sentence: str
    rows: tuple[FlowRow, ...]
    heads: tuple[Head, ...]
    broker: str


@dataclass(frozen=True, slots=True)
class GanttRow:
    """One member on the time axis. usual_x, usual_width: where a usual run would stand, in percent."""

    id: str
    href: str
    name: str
    full_name: str
    face: Face
    segments: tuple[charts.Segment, ...]
    usual_x: float
    usual_width: float
    critical: bool
    run: str
    slack: str


@dataclass(frozen=True, slots=True)
class FlowView:
    """The page of one workflow."""

    root: str
    short: str
    crumbs: tuple[Link, ...]
    name: str
    face: Face
    sentence: str
    started_at: float | None
    states: tuple[tuple[Face, str], ...]
    graph: Graph
    gantt: tuple[GanttRow, ...]
    gantt_left_out: int
    ticks: tuple[charts.Tick, ...]
    critical: tuple[Link, ...]
    critical_said: str
    list_href: str
    whole: bool


def flows_view(items: Sequence[FlowItem], places: Places, broker: str) -> FlowsView:
    """Build the list of workflows, the one that moved last first; single tasks are none."""
    rows = tuple(_flow_row(item, places) for item in items if item.members > 1)
    open_ones = sum(row.percent < 100 for row in rows)
    said = f"{words.plural(len(rows), 'workflow')}, {open_ones} open" if rows else "No workflow has been seen"
    return FlowsView(said, rows, HEADS, broker)


def _flow_row(item: FlowItem, places: Places) -> FlowRow:
    ended = sum(count for state, count in item.states.items() if state in FINISHED)
    share = ended / item.members if item.members else 0.0
    least = "" if item.exact else "≥ "
    return FlowRow(
        id="f-" + row_id(item.root),
        href=places.page("workflows", item.root),
        name=item.name or words.UNKNOWN,
        short=words.short_id(item.root),
        face=task_face(_state(item.states)),
        said=_counts(item.states),
        percent=round(share * 100) if ended < item.members else 100,
        share=words.percent(share) if item.exact else words.UNKNOWN,
        members=f"{least}{words.count(item.members)}",
        at=item.at,
        changed_at=item.changed_at,
    )


def _state(states: Mapping[str, int]) -> str:
    """Give a workflow the state that most deserves a look."""
    order = ("FAILURE", "STARTED", "RETRY", "RECEIVED", "PENDING", "SENT", "REVOKED", "REJECTED", "SUCCESS")
    return next((state for state in order if states.get(state)), next(iter(states), ""))


def _counts(states: Mapping[str, int]) -> str:
    ordered = sorted(states.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{words.count(count)} {task_face(state).word}" for state, count in ordered if count)


def flow_view(
    flow: Workflow, usual: Mapping[str, Percentiles | None], here: str, places: Places, now: float
) -> FlowView:
    """Build the page of one workflow. usual: run time of a day by task type. here: the member that was asked for."""
    first = flow.started_at if flow.started_at is not None else min((node.at for node in flow.nodes), default=now)
    end = flow.finished_at if flow.finished_at is not None else now
    shown = _worth_showing(flow)
    length = max(end - first, 1e-3)
    by_id = {node.id: node for node in flow.nodes}
    path = [by_id[id] for id in flow.critical if id in by_id]
    return FlowView(
        root=flow.root,
        short=words.short_id(flow.root),
        crumbs=(Link("Workflows", places.to("/workflows")),),
        name=flow.name or "a workflow whose first task is unknown",
        face=task_face(_state(flow.states)),
        sentence=_story(flow, now),
        started_at=flow.started_at,
        states=tuple((task_face(state), words.count(count)) for state, count in sorted(flow.states.items()) if count),
        graph=graph(flow, here, places),
        gantt=tuple(_gantt(node, first, length, usual.get(node.name or ""), places, now) for node in shown),
        gantt_left_out=len(flow.nodes) - len(shown),
        ticks=_ticks(length),
        critical=tuple(
            Link(words.short_name(node.name) if node.name else words.short_id(node.id), places.task(node.id))
            for node in path
        ),
        critical_said=_critical(flow, path),
        list_href=places.search(root=flow.root),
        whole=flow.whole,
    )


def _story(flow: Workflow, now: float) -> str:
    members = words.plural(len(flow.nodes), "task")
    counts = _counts(flow.states)
    if flow.done and flow.started_at is not None and flow.finished_at is not None:
        return f"{members}, {counts}, {words.duration(flow.finished_at - flow.started_at)} from first to last"
    since = f", for {words.duration(now - flow.started_at)} so far" if flow.started_at is not None else ""
    return f"{members}, {counts}{since}"


def _critical(flow: Workflow, path: Sequence[FlowNode]) -> str:
    if not path:
        return "unknown until a member has ended"
    ran = sum(node.run_s or 0.0 for node in path)
    whole = words.duration(flow.critical_s)
    return f"{words.plural(len(path), 'task')}, {whole} of which {words.duration(ran)} running, the rest waiting"


def _worth_showing(flow: Workflow) -> list[FlowNode]:
    """Pick the rows of the time axis: the critical path always, then what failed, then the longest; by start."""
    if len(flow.nodes) <= MAX_ROWS:
        return sorted(flow.nodes, key=_begin)
    ordered = sorted(flow.nodes, key=lambda node: (not node.critical, node.state != "FAILURE", -(node.run_s or 0.0)))
    return sorted(ordered[:MAX_ROWS], key=_begin)


def _begin(node: FlowNode) -> tuple[float, int]:
    return (node.started_at if node.started_at is not None else node.at, node.depth)


def _gantt(
    node: FlowNode, first: float, length: float, usual: Percentiles | None, places: Places, now: float
) -> GanttRow:
    run_css = {"FAILURE": "failed", "RETRY": "retry", "REVOKED": "revoked"}.get(node.state, "running")
    started = node.started_at
    moving = node.state not in FINISHED
    end = node.finished_at if node.finished_at is not None and not (moving and node.state == "STARTED") else None
    waited_to = started if started is not None else (end if end is not None else now if moving else node.at)
    pieces = [("waiting", node.at, waited_to)]
    if started is not None:
        pieces.append((run_css, started, end if end is not None else now))
    segments = tuple(
        charts.Segment(css, _percent(at - first, length), max(LEAST_PERCENT, _percent(to - at, length)))
        for css, at, to in pieces
        if to > at or css != "waiting"
    )
    ghost = usual is not None and started is not None
    return GanttRow(
        id="g-" + row_id(node.id),
        href=places.task(node.id),
        name=words.short_name(node.name) if node.name else words.UNKNOWN,
        full_name=f"{node.name or words.UNKNOWN} {node.id}",
        face=task_face(node.state),
        segments=segments,
        usual_x=_percent((started or first) - first, length) if ghost else 0.0,
        usual_width=min(100.0, _percent(usual.p50, length)) if ghost and usual else 0.0,
        critical=node.critical,
        run=words.NOT_APPLICABLE if node.run_s is None else words.duration(node.run_s),
        slack=words.NOT_APPLICABLE if node.slack_s is None else "0" if node.critical else words.duration(node.slack_s),
    )


def _percent(part_s: float, whole_s: float) -> float:
    return round(min(100.0, max(0.0, 100 * part_s / whole_s)), 2)


def _ticks(length_s: float) -> tuple[charts.Tick, ...]:
    css = ("", "mid", "end")
    return tuple(charts.Tick(words.duration(length_s * i / 2) if i else "0", 50.0 * i, css[i]) for i in range(3))
