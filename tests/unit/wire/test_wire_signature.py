"""Signatures: round trips, tolerance, bounds, and the place of what is wrong."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq.errors import MalformedMessage
from opsq.wire.limits import Limits
from opsq.wire.signature import Call, Chain, Chord, Group, Signature, parse_signature, signature_to_wire

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
atoms = st.none() | st.integers() | text
objects = st.dictionaries(text.filter(lambda name: name not in ("tasks", "header", "body")), atoms, max_size=2)
common = {"kwargs": objects, "options": objects, "immutable": st.booleans()}
call_nodes = st.builds(Call, task=text.filter(bool), args=st.tuples(atoms), **common)


def _workflows(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    many = st.lists(inner, max_size=3).map(tuple)
    groups = st.builds(Group, tasks=many, **common)
    return (
        st.builds(Chain, tasks=many, **common)
        | groups
        | st.builds(Chord, header=many | groups, body=st.none() | inner, **common)
    )


nodes: st.SearchStrategy[Signature] = st.recursive(call_nodes, _workflows, max_leaves=8)


@given(node=nodes)
def test_round_trip(node: Signature) -> None:
    wire = json.loads(json.dumps(signature_to_wire(node)))
    assert parse_signature(wire) == node
    assert signature_to_wire(parse_signature(wire)) == wire


@given(node=nodes)
def test_the_six_keys_are_always_there(node: Signature) -> None:
    keys = ["task", "args", "kwargs", "options", "subtask_type", "immutable"]
    assert list(signature_to_wire(node)) == keys


def test_missing_keys_are_tolerated() -> None:
    assert parse_signature({"task": "t"}) == Call(task="t")
    assert parse_signature({"task": "t", "args": None, "kwargs": None, "options": None}) == Call(task="t")
    assert parse_signature({"task": "celery.group", "subtask_type": "group"}) == Group(tasks=())


def test_an_unknown_kind_is_a_plain_task_and_is_kept() -> None:
    wire = signature_to_wire(Call(task="t", subtask_type="future"))
    assert wire["subtask_type"] == "future"
    assert parse_signature(wire) == Call(task="t", subtask_type="future")


def test_keys_of_old_producers_are_kept() -> None:
    wire = {**signature_to_wire(Call(task="t")), "chord_size": 3}
    node = parse_signature(wire)
    assert node.extra == {"chord_size": 3}
    assert signature_to_wire(node) == wire


def test_both_forms_of_a_chord_header() -> None:
    member, body = Call(task="m"), Call(task="b")
    for header in ((member, member), Group(tasks=(member, member))):
        assert parse_signature(signature_to_wire(Chord(header=header, body=body))) == Chord(header=header, body=body)


def chain(*tasks: object) -> dict[str, Any]:
    return {"task": "celery.chain", "kwargs": {"tasks": list(tasks)}, "subtask_type": "chain"}


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        (5, "a signature must be an object, got int"),
        ({}, "a signature must name its task at $.task"),
        ({"task": ""}, "a signature must name its task at $.task"),
        ({"task": "t", "args": {}}, "args must be an array, got dict at $.args"),
        ({"task": "t", "kwargs": []}, "kwargs must be an object with text keys, got list at $.kwargs"),
        ({"task": "t", "options": {1: 2}}, "options must be an object with text keys, got dict at $.options"),
        (chain({"task": "t"}, chain({})), "a signature must name its task at $.kwargs.tasks[1].kwargs.tasks[0].task"),
        (chain("t"), "a signature must be an object, got str at $.kwargs.tasks[0]"),
        ({**chain(), "kwargs": {"tasks": {}}}, "expected an array of signatures, got dict at $.kwargs.tasks"),
        (
            {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [], "body": 5}},
            "a signature must be an object, got int at $.kwargs.body",
        ),
        (
            {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": 5}},
            "expected an array of signatures, got int at $.kwargs.header",
        ),
    ],
)
def test_the_place_of_what_is_wrong_is_named(wire: object, problem: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_signature(wire)
    assert str(caught.value) == problem


def test_depth_and_size_are_bounded() -> None:
    wire = {"task": "t"}
    for _level in range(150):
        wire = chain(wire)
    with pytest.raises(MalformedMessage) as caught:
        parse_signature(wire)
    assert "deeper than 100" in str(caught.value)
    doubling: dict[str, Any] = {"task": "t"}
    for _level in range(60):
        doubling = chain(doubling, doubling)
    with pytest.raises(MalformedMessage) as caught:
        parse_signature(doubling, Limits(max_nodes=10_000))
    assert "more than 10000 signatures" in str(caught.value)


anything = st.recursive(
    st.none() | st.integers() | st.sampled_from(["chain", "group", "chord", "t"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["task", "args", "kwargs", "options", "subtask_type", "tasks", "header", "body"]), inner
        )
    ),
    max_leaves=20,
)


@given(value=anything)
def test_arbitrary_values_raise_nothing_else(value: object) -> None:
    with contextlib.suppress(MalformedMessage):
        parse_signature(value)
