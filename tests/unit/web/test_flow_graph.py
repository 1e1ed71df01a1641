"""A workflow as boxes and edges: what is alike is folded, nothing overlaps, large ones stay bounded."""

from __future__ import annotations

import itertools

from opsq.events.workflows import FlowNode, Workflow
from opsq.web.flow_graph import BOX_HEIGHT, MAX_BOXES, graph
from opsq.web.view_common import Places


def node(id: str, parent: str | None, depth: int, state: str = "SUCCESS", name: str = "shop.work") -> FlowNode:
    return FlowNode(
        id=id, parent_id=parent, name=name, state=state, queue=None, worker=None, at=0.0, started_at=1.0,
        finished_at=2.0, run_s=1.0, depth=depth,
    )  # fmt: skip


def flow(*nodes: FlowNode) -> Workflow:
    return Workflow(root="r", name="shop.work", states={}, nodes=nodes, started_at=0.0, finished_at=2.0, done=True)


def test_five_alike_are_one_box_and_four_are_four() -> None:
    root = node("r", None, 0, name="shop.root")
    five = graph(
        flow(root, *(node(f"c{i}", "r", 1, "FAILURE" if i == 2 else "SUCCESS") for i in range(5))), "", Places()
    )
    assert [box.label for box in five.boxes] == ["shop.root", "shop.work × 5"]
    assert five.boxes[1].face.word == "failed"
    assert "1 failed" in five.boxes[1].small
    four = graph(flow(root, *(node(f"c{i}", "r", 1) for i in range(4))), "", Places())
    assert len(four.boxes) == 5
    assert len(four.edges) == 4


def test_boxes_of_a_column_do_not_overlap() -> None:
    drawn = graph(flow(node("r", None, 0), *(node(f"c{i}", "r", 1, name=f"shop.n{i}") for i in range(9))), "", Places())
    heights = sorted(box.y for box in drawn.boxes if box.x > 1)
    assert all(b - a >= BOX_HEIGHT for a, b in itertools.pairwise(heights))
    assert drawn.height >= heights[-1] + BOX_HEIGHT


def test_a_very_large_workflow_stays_drawable_and_says_what_is_left_out() -> None:
    members = [node(f"c{i}", "r", 1, name=f"shop.n{i}") for i in range(3_000)]
    drawn = graph(flow(node("r", None, 0), *members), "", Places())
    assert len(drawn.boxes) == MAX_BOXES
    assert drawn.left_out == 3_001 - MAX_BOXES


def test_an_orphan_is_drawn_without_an_edge() -> None:
    drawn = graph(flow(node("r", None, 0), node("lost", "nobody", 1)), "lost", Places())
    assert drawn.edges == ()
    assert "here" in drawn.boxes[1].css
