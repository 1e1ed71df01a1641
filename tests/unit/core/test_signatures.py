from __future__ import annotations

import copy
import json
import pickle
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsq import Opsq, Signature, chain, chord, group, maybe_signature, signature
from opsq.canvas import StampingVisitor
from opsq.core.canvas import Opening, Planner
from opsq.errors import MalformedMessage, UsageError
from opsq.result import AsyncResult, GroupResult
from opsq.wire.signature import Call, Chain, Chord, Group, parse_signature
from tests.unit.core.conftest import KeptMessages


@pytest.fixture
def add(app: Opsq) -> Any:
    return app.task(name="add")(lambda x, y=0: x + y)


def plan(node: Any, *args: Any, **options: Any) -> tuple[tuple[Any, ...], Any]:
    numbers = count(1)
    return Planner(lambda: f"id{next(numbers)}", "me").plan(node, args, options)


def test_a_signature_is_celerys_dict(app: Opsq, add: Any) -> None:
    assert json.loads(json.dumps(add.s(1, y=2).set(queue="q"))) == {
        "task": "add",
        "args": [1],
        "kwargs": {"y": 2},
        "options": {"queue": "q"},
        "subtask_type": None,
        "immutable": False,
    }
    made = app.signature("add", args=(1,), kwargs={"y": 2}, countdown=3)
    assert (made.task, made.args, made.kwargs, made.options) == ("add", (1,), {"y": 2}, {"countdown": 3})
    assert repr(add.s(1, y="x")) == "add(1, y='x')"


def test_merging(add: Any) -> None:
    sig = add.s(2, y=1).set(priority=1, group_id="g")
    clone = sig.clone((1,), {"z": 3}, priority=5, group_id="other")
    assert (clone.args, clone.kwargs) == ((1, 2), {"y": 1, "z": 3})
    assert clone.options == {"priority": 5, "group_id": "g"}
    assert sig.args == (2,)
    fixed = add.si(2).clone((1,), {"z": 3}, priority=5)
    assert (fixed.args, fixed.kwargs, fixed.options) == ((2,), {}, {"priority": 5})


def test_copies_share_nothing(add: Any) -> None:
    sig = add.s([1], y={"a": [1]}).set(link=[add.s(3)])
    workflow = chain(sig, group(add.s(1), add.s(2)))
    for other in (sig.clone(), copy.deepcopy(sig), signature(sig), pickle.loads(pickle.dumps(sig))):
        assert other == sig
        other.kwargs["y"]["a"].append(2)
        other.options["link"].append(1)
    assert sig.kwargs == {"y": {"a": [1]}}
    assert len(sig.options["link"]) == 1
    again = workflow.clone()
    again.tasks[1].tasks[0].kwargs["z"] = 1
    assert workflow.tasks[1].tasks[0].kwargs == {}
    assert type(again.tasks[1]) is group


def test_round_trip_through_json(add: Any) -> None:
    workflow = add.s(1) | add.s(2) | group(add.s(3), add.s(4) | add.s(5))
    back = maybe_signature(json.loads(json.dumps(workflow)))
    assert json.dumps(back) == json.dumps(workflow)
    assert repr(back) == "add(1) | add(2) | group([add(3), add(4) | add(5)])"
    assert [type(task).__name__ for task in back.tasks] == ["Signature", "Signature", "group"]


def test_links(add: Any) -> None:
    sig = add.s(1)
    callback = add.s(2)
    assert sig.link(callback) is callback
    sig.link(callback)
    assert sig.on_error(add.s(3)) is sig
    assert (len(sig.options["link"]), len(sig.options["link_error"])) == (1, 1)


def test_bad_signatures() -> None:
    with pytest.raises(UsageError, match="a signature needs a task"):
        signature({"args": []})
    with pytest.raises(UsageError, match=r"expected a signature such as add.s\(1\), got 3"):
        maybe_signature(3)
    with pytest.raises(UsageError, match="expected a signature"):
        chain("add", "sub")


def test_calling_and_applying(app: Opsq, add: Any, kept: KeptMessages) -> None:
    assert add.s(1)(2) == 3
    assert add.s(1).apply((2,)).get() == 3
    result = add.s(1).set(queue="q").apply_async((2,))
    assert isinstance(result, AsyncResult)
    (message,) = kept.tasks
    assert (json.loads(message.body)[0], message.routing_key) == ([2, 1], "q")
    frozen = add.s(1)
    assert frozen.freeze("fixed").id == "fixed"
    assert frozen.apply_async().id == "fixed"


def test_a_signature_of_a_task_nobody_knows_is_published(app: Opsq, kept: KeptMessages) -> None:
    app.signature("elsewhere.task", args=(1,)).apply_async()
    assert kept.tasks[0].headers["task"] == "elsewhere.task"


def test_chain_on_the_wire(app: Opsq, add: Any, kept: KeptMessages) -> None:
    result = (add.s(1, 2) | add.s(3) | add.si(5, 6)).apply_async(countdown=1)
    (message,) = kept.tasks
    args, _kwargs, embed = json.loads(message.body)
    assert args == [1, 2]
    assert [step["args"] for step in embed["chain"]] == [[5, 6], [3]], "reversed: the next one last"
    assert [sorted(step["options"]) for step in embed["chain"]] == [["reply_to", "task_id"]] * 2
    assert [step["immutable"] for step in embed["chain"]] == [True, False]
    assert message.headers["eta"] is not None
    assert result.id == embed["chain"][0]["options"]["task_id"]
    assert result.parent.id == embed["chain"][1]["options"]["task_id"]
    assert result.parent.parent.id == message.headers["id"]
    assert result.parent.parent.parent is None


def test_group_on_the_wire(app: Opsq, add: Any, kept: KeptMessages) -> None:
    result = group(add.s(n) for n in range(3)).apply_async((10,), queue="q")
    assert isinstance(result, GroupResult)
    headers = [message.headers for message in kept.tasks]
    assert [each["group_index"] for each in headers] == [0, 1, 2]
    assert {each["group"] for each in headers} == {result.id}
    assert {each["root_id"] for each in headers} == {headers[0]["id"]}, "a monitor sees that they belong together"
    assert [json.loads(message.body)[0] for message in kept.tasks] == [[10, 0], [10, 1], [10, 2]]
    assert [each.id for each in result] == [each["id"] for each in headers]
    assert {message.routing_key for message in kept.tasks} == {"q"}
    assert len(kept.calls) == 1


def test_plan_of_links_in_a_chain() -> None:
    node = Chain(
        tasks=(Call(task="a"), Chain(tasks=(Call(task="b"), Call(task="c")))),
        options={"link": [{"task": "done"}], "link_error": [{"task": "oops"}]},
    )
    (head,), ref = plan(node, queue="q")
    assert (head.task, head.options["queue"], head.options["link_error"]) == ("a", "q", [{"task": "oops"}])
    assert "link" not in head.options
    last, middle = head.options["chain"]
    assert (last["task"], last["options"]["link"]) == ("c", [{"task": "done"}])
    assert middle["options"]["link_error"] == [{"task": "oops"}]
    assert "queue" not in middle["options"]
    assert ref.id == last["options"]["task_id"]


def test_plan_of_a_chain_that_an_outer_chain_follows() -> None:
    (head,), _ref = plan(Chain(tasks=(Call(task="a"), Call(task="b"))), chain=[{"task": "z"}, {"task": "y"}])
    assert [step["task"] for step in head.options["chain"]] == ["z", "y", "b"]


def test_plan_of_a_group_at_the_end_of_a_chain() -> None:
    node = Chain(tasks=(Call(task="a"), Group(tasks=(Call(task="b"), Call(task="c")))))
    (head,), ref = plan(node)
    (last,) = head.options["chain"]
    members = [task["options"]["task_id"] for task in last["kwargs"]["tasks"]]
    assert ref.children is not None
    assert [child.id for child in ref.children] == members
    assert ref.id == last["options"]["task_id"]
    assert ref.parent is not None
    assert ref.parent.id == head.options["task_id"]


def test_plan_of_a_chain_in_a_group() -> None:
    calls, ref = plan(Group(tasks=(Chain(tasks=(Call(task="a"), Call(task="b"))), Call(task="c"))))
    first, second = calls
    assert first.options.get("group_id") is None, "only the last of the chain is a member"
    assert first.options["chain"][0]["options"]["group_id"] == ref.id
    assert (second.options["group_id"], second.options["group_index"]) == (ref.id, 1)


def test_plan_flattens_groups_in_groups() -> None:
    calls, ref = plan(Group(tasks=(Group(tasks=(Call(task="a"), Call(task="b"))), Call(task="c"))))
    assert [(call.task, call.options["group_index"]) for call in calls] == [("a", 0), ("b", 1), ("c", 2)]
    assert ref.children is not None
    assert len(ref.children) == 3


def test_immutable_members_take_no_arguments() -> None:
    calls, _ = plan(Group(tasks=(Call(task="a", args=(1,), immutable=True), Call(task="b", args=(1,)))), 9)
    assert [call.args for call in calls] == [(1,), (9, 1)]


def test_plan_of_a_chord() -> None:
    steps, ref = plan(Chord(header=(Call(task="a"), Call(task="b")), body=Call(task="c")))
    opening, first, second = steps
    assert isinstance(opening, Opening)
    assert (opening.size, opening.group_id) == (2, first.options["group_id"])
    assert [first.options["group_index"], second.options["group_index"]] == [0, 1]
    assert first.options["chord"]["options"] == {"task_id": ref.id, "reply_to": "me"}
    assert ref.parent is not None
    assert [child.id for child in ref.parent.children or ()] == [each.options["task_id"] for each in (first, second)]


def test_a_group_that_something_follows_is_a_chord() -> None:
    node = Chain(tasks=(Call(task="a"), Group(tasks=(Call(task="b"), Call(task="c"))), Call(task="d"), Call(task="e")))
    (head,), ref = plan(node)
    last, after = head.options["chain"]
    assert (last["task"], after["task"], after["kwargs"]["body"]["task"]) == ("e", "celery.chord", "d")
    assert ref.id == last["options"]["task_id"]
    assert ref.parent is not None
    assert ref.parent.id == after["kwargs"]["body"]["options"]["task_id"]


def test_a_plan_that_is_planned_again_keeps_its_ids() -> None:
    inner = Chord(
        header=(Call(task="a"), Chain(tasks=(Call(task="b"), Group(tasks=(Call(task="c"),))))), body=Call(task="d")
    )
    node = Chain(tasks=(Call(task="first"), inner, Call(task="last")))
    (head,), ref = plan(node)
    again = parse_signature(head.options["chain"][-1])
    planned, _ = plan(again, chain=head.options["chain"][:-1])
    body = planned[0].body
    assert ref.parent is not None
    assert (body["options"]["task_id"], body["options"]["chain"][0]["options"]["task_id"]) == (ref.parent.id, ref.id)


def test_every_member_of_a_header_is_one_part() -> None:
    node = Chord(
        header=(Chain(tasks=(Call(task="a"), Group(tasks=(Call(task="b"), Call(task="c"))))),), body=Call(task="d")
    )
    (opening, head), _ref = plan(node)
    assert isinstance(opening, Opening)
    (gather,) = head.options["chain"]
    assert gather["kwargs"]["body"]["task"] == "celery.accumulate"
    assert gather["kwargs"]["body"]["options"]["group_id"] == opening.group_id


def test_options_of_a_chord_go_where_they_belong() -> None:
    node = Chord(header=(Call(task="a"),), body=Call(task="b"))
    (_opening, head), ref = plan(
        node, task_id="mine", queue="q", countdown=3, link={"task": "l"}, link_error={"task": "e"}
    )
    body = head.options["chord"]["options"]
    assert (head.options["queue"], head.options["countdown"], "link_error" in head.options) == ("q", 3, False)
    assert (body["task_id"], body["queue"], "countdown" in body) == ("mine", "q", False)
    assert (body["link"], body["link_error"], ref.id) == ([{"task": "l"}], [{"task": "e"}], "mine")


def test_a_fault_in_a_workflow_has_a_path(app: Opsq, add: Any) -> None:
    workflow = chain(add.s(1), group(add.s(2), add.s(3)))
    workflow.tasks[1].tasks[1]["args"] = 7
    with pytest.raises(MalformedMessage, match=r"\$\.kwargs\.tasks\[1\]\.kwargs\.tasks\[1\]\.args"):
        workflow.apply_async()


def test_joining(add: Any) -> None:
    joined = group(add.s(1), add.s(2)) | add.s()
    assert (type(joined), type(joined.body)) == (chord, Signature)
    assert type(joined | add.s(3)) is chord
    assert type(group(add.s(1)) | add.s(2)) is chain
    assert chain(add.s(1)) == add.s(1)
    assert [task.args for task in chain(add.s(1), add.s(2)).on_error(add.s(9)).unchain_tasks()] == [(1,), (2,)]


def test_a_generator_is_published_as_it_goes(app: Opsq, add: Any, kept: KeptMessages) -> None:
    published: list[int] = []
    result = group(add.s(n) for n in range(1200)).apply_async(progress=published.append)
    assert (len(result), len(kept.tasks), published[-1]) == (1200, 1200, 1200)
    assert [message.headers["id"] for message in kept.tasks] == [each.id for each in result.results]
    assert result[-1].id == kept.tasks[-1].headers["id"]
    assert len(kept.calls) == 3


def test_stamps_reach_everything(add: Any) -> None:
    class Marks(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"mark": sig.args[0], "kept": True, "stamped_headers": ["mark"]}

    workflow = chain(add.s(1), chord([add.s(2), add.s(3)], add.s(4))).on_error(add.s(5))
    workflow.stamp(Marks(), of="order 7", stamped_headers=["of"])
    first, whole = workflow.tasks
    for each, number in (
        (first, 1),
        (whole.tasks.tasks[1], 3),
        (whole.body, 4),
        (workflow.options["link_error"][0], 5),
    ):
        assert (each.options["mark"], each.options["of"]) == (number, "order 7")
        assert set(each.options["stamped_headers"]) == {"mark", "of"}


def test_what_cannot_be_planned() -> None:
    with pytest.raises(UsageError, match="a chain needs at least one task"):
        plan(Chain(tasks=()))
    with pytest.raises(UsageError, match="link= cannot be given to a group"):
        plan(Group(tasks=(Call(task="a"),)), link={"task": "x"})


def test_skew_and_emptiness(add: Any) -> None:
    skewed = group(add.s(n) for n in range(4)).skew(1, 3)
    assert [task.options["countdown"] for task in skewed.tasks] == [1, 2, 1, 2]
    assert not chain()
    assert not group()


names = st.sampled_from(["a", "b", "c"])
calls = st.builds(Call, task=names, args=st.tuples(st.integers()), immutable=st.booleans())
chains = st.builds(lambda tasks: Chain(tasks=tuple(tasks)), st.lists(calls, min_size=1, max_size=5))
groups = st.builds(
    lambda tasks, inner: Group(tasks=(*tasks, Group(tasks=tuple(inner)))),
    st.lists(st.one_of(calls, chains), min_size=1, max_size=5),
    st.lists(calls, max_size=3),
)


@given(st.one_of(calls, chains, groups))
def test_every_call_gets_one_id_and_the_handle_knows_them_all(node: Any) -> None:
    planned, ref = plan(node)
    ids = [call.options["task_id"] for call in planned]
    ids += [step["options"]["task_id"] for call in planned for step in call.options.get("chain", ())]
    assert len(set(ids)) == len(ids)

    def walk(each: Any) -> set[str]:
        own = set() if each.children is not None else {each.id}
        return own.union(*(walk(child) for child in each.children or ()), walk(each.parent) if each.parent else set())

    assert walk(ref) == set(ids)
