"""Random workflows come to what a plain evaluator says, on real workers.

``value_of`` is all there is to know about what a workflow means; see docs/canvas.md.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsq import Opsq, chain, chord, group
from opsq.testing.harness import running_worker
from tests.conftest import MakeApp
from tests.servers import RedisServer

EXAMPLES = 300 if os.environ.get("CHAOS") == "full" else 25
Tree = tuple[Any, ...]


def mix(value: Any, number: int) -> int:
    """A value that tells every order and every nesting apart."""
    return zlib.crc32(json.dumps([value, number]).encode())


def members_of(tree: Tree) -> list[Tree]:
    """The members of a group, groups in it flattened."""
    flat: list[Tree] = []
    for member in tree[1]:
        flat.extend(members_of(member) if member[0] == "group" else [member])
    return flat


def steps_of(tree: Tree) -> list[Tree]:
    """The steps of a chain, chains in it unrolled."""
    flat: list[Tree] = []
    for step in tree[1]:
        flat.extend(steps_of(step) if step[0] == "chain" else [step])
    return flat


def value_of(tree: Tree, value: Any) -> Any:
    """What ``tree`` makes of ``value``."""
    kind = tree[0]
    if kind == "call":
        return mix(value, tree[1])
    if kind == "group":
        return [value_of(member, value) for member in members_of(tree)]
    if kind == "chord":
        return value_of(tree[2], [value_of(member, value) for member in members_of(("group", tree[1]))])
    steps = steps_of(tree)
    while steps:
        step, *steps = steps
        if step[0] == "group" and steps and len(members_of(step)) == 1:
            # One member that something follows is no group at all.
            only = members_of(step)[0]
            steps = [*(steps_of(only) if only[0] == "chain" else [only]), *steps]
            continue
        value = value_of(step, value)
    return value


calls = st.tuples(st.just("call"), st.integers(0, 99))


def deeper(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    """One level more."""
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(st.just("group"), some),
        st.tuples(st.just("chord"), some, inner),
    )


trees: st.SearchStrategy[Tree] = calls
for _level in range(3):
    trees = st.one_of(calls, deeper(trees))


def built(app: Opsq, tree: Tree) -> Any:
    """The workflow of a tree."""
    if tree[0] == "call":
        return app.tasks["mix"].s(tree[1])
    if tree[0] == "chord":
        return chord([built(app, each) for each in tree[1]], built(app, tree[2]))
    make = chain if tree[0] == "chain" else group
    return make([built(app, each) for each in tree[1]])


@contextmanager
def app_with_a_worker(app: Opsq) -> Iterator[Opsq]:
    app.task(name="mix")(mix)
    with running_worker(app, pool="threads", concurrency=4):
        yield app


def compare(app: Opsq) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(trees, st.integers(0, 9))
    def every_tree(tree: Tree, value: int) -> None:
        result = built(app, tree).apply_async((value,))
        assert result.get(timeout=30) == value_of(tree, value), tree

    every_tree()


def test_canvas_values_on_sqlite(make_app: MakeApp) -> None:
    with app_with_a_worker(make_app()) as app:
        compare(app)


def test_canvas_values_on_redis(make_app: MakeApp, redis: RedisServer) -> None:
    with app_with_a_worker(make_app(broker=redis.url, backend=redis.url)) as app:
        compare(app)


def test_canvas_values_without_a_counting_store(tmp_path: Any) -> None:
    app = Opsq("shop", broker="memory://", backend="memory://", set_as_current=False, result_chord_retry_interval=0.02)
    try:
        with app_with_a_worker(app):
            tree: Tree = ("chain", [("chord", [("call", 1), ("call", 2)], ("call", 3)), ("call", 4)])
            assert built(app, tree).apply_async((5,)).get(timeout=30) == value_of(tree, 5)
    finally:
        app.close()


@pytest.mark.parametrize("header", [[], [("call", 1)]])
def test_a_chord_of_none_and_of_one(make_app: MakeApp, header: list[Tree]) -> None:
    with app_with_a_worker(make_app()) as app:
        tree = ("chord", header, ("call", 2))
        assert built(app, tree).apply_async((7,)).get(timeout=30) == value_of(tree, 7)
