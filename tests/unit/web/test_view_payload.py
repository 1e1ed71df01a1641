"""Arguments, log lines and progress as a page shows them, also when a sender writes nonsense."""

from __future__ import annotations

import json

import pytest

from opsq.web.view_payload import MAX_LEAVES, Leaf, log_of, progress_of, tree


def leaves(found: tuple[Leaf, ...]) -> int:
    return sum(1 + leaves(leaf.children) for leaf in found)


def test_arguments_become_a_tree() -> None:
    found = tree('{"args": [1, "two"], "kwargs": {"options": {"deep": [true, null]}, "key": "[redacted]"}}')
    assert [(leaf.key, leaf.text) for leaf in found[:2]] == [("0", "1"), ("1", '"two"')]
    options = found[2]
    assert (options.key, options.text) == ("options", "1 key")
    assert [leaf.text for leaf in options.children[0].children] == ["true", "none"]
    assert found[3].hidden


@pytest.mark.parametrize("payload", [None, "", "{", "[]", '"text"', '{"args": 3, "kwargs": []}'])
def test_a_payload_that_cannot_be_read_is_no_tree(payload: str | None) -> None:
    assert tree(payload) == ()


def test_a_large_payload_is_cut() -> None:
    wide = tree(json.dumps({"args": [list(range(10_000))], "kwargs": {}}))
    assert leaves(wide) <= MAX_LEAVES + 2
    deep: object = 1
    for _ in range(50):
        deep = [deep]
    assert leaves(tree(json.dumps({"args": [deep]}))) < 15


def test_log_lines_stand_once_and_in_order() -> None:
    second = {"kind": "task-log", "first": 2, "lines": [[11.0, "ERROR", "shop", "late"]], "left_out": 4, "attempt": 1}
    first = {"kind": "task-log", "first": 1, "lines": [[10.0, "INFO", "shop", "early"]], "attempt": 1}
    log = log_of([second, first, second, {"kind": "task-log", "lines": [["x"], 5, None]}])
    assert [line.text for line in log.lines] == ["early", "late"]
    assert log.lines[1].css == "error"
    assert log.left_out == 4
    assert log_of([{"kind": "task-log", "lines": "hidden"}]).hidden


def test_progress_is_the_newest_and_never_beyond_the_whole() -> None:
    told = [
        {"kind": "task-progress", "at": 2.0, "current": 30, "total": 20, "message": "almost"},
        {"kind": "task-progress", "at": 1.0, "current": 1, "total": 20},
    ]
    found = progress_of(told)
    assert found is not None
    assert found.percent == 100
    assert found.text.endswith(": almost")
    assert progress_of([]) is None
    vague = progress_of([{"kind": "task-progress", "at": 1.0, "current": "much"}])
    assert vague is not None
    assert vague.percent is None
