from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from opsq import Opsq, Task, chain, current_task, group
from opsq.broker.message import OutMessage
from opsq.core.autoretry import backoff_s
from opsq.core.request import Context, allow_join_result, running
from opsq.errors import (
    BrokerUnavailable,
    Ignore,
    MaxRetriesExceededError,
    OpsqError,
    Reject,
    Retry,
    UsageError,
)
from opsq.result import EagerResult
from opsq.signals import task_postrun, task_prerun
from opsq.wire.task import decode_body, parse_headers
from tests.unit.core.conftest import KeptMessages


class Flaky(Exception):
    pass


@pytest.fixture
def add(app: Opsq) -> Any:
    return app.task(name="add")(lambda x, y=0: x + y)


def test_apply_runs_here_and_returns_the_result(app: Opsq, add: Any, kept: KeptMessages) -> None:
    result = add.apply((1, 2), task_id="t1")
    assert isinstance(result, EagerResult)
    assert (result.id, result.get(), result.state, result.ready(), result.successful()) == (
        "t1",
        3,
        "SUCCESS",
        True,
        True,
    )
    assert (result.children, result.traceback, result.failed()) == ([], None, False)
    assert kept.messages == []


def test_failures_are_kept_or_raised(app: Opsq) -> None:
    @app.task
    def fail() -> None:
        raise Flaky("no")

    result = fail.apply()
    assert (result.state, repr(result.result)) == ("FAILURE", "Flaky('no')")
    assert "Flaky: no" in str(result.traceback)
    with pytest.raises(Flaky):
        result.get()
    assert isinstance(result.get(propagate=False), Flaky)
    with pytest.raises(Flaky):
        fail.apply(throw=True)


def test_always_eager(app: Opsq, add: Any, kept: KeptMessages) -> None:
    app.conf.update(task_always_eager=True, task_eager_propagates=True, task_store_eager_result=True)

    @app.task
    def fail() -> None:
        raise Flaky("no")

    result = add.delay(1, 2)
    assert result.get() == 3
    assert app.AsyncResult(result.id).get() == 3, "stored"
    with pytest.raises(Flaky):
        fail.delay()
    assert chain(add.s(1, 2), add.s(3), add.s(4)).apply_async().get() == 10
    assert group(add.s(1, 1), add.s(2, 2))().get() == [2, 4]
    assert kept.messages == []
    with pytest.warns(UserWarning, match="task_always_eager has no effect on send_task"):
        app.send_task("other")


def test_callbacks_run_here_too(app: Opsq, add: Any) -> None:
    seen: list[Any] = []

    @app.task
    def note(value: Any, tag: str = "") -> None:
        seen.append((value, tag))

    @app.task
    def fail() -> None:
        raise Flaky("no")

    add.apply((1, 2), link=[note.s(), note.s(tag="second")])
    failed = fail.apply(link_error=note.s(tag="error"))
    assert seen == [(3, ""), (3, "second"), (failed.id, "error")]


def test_hooks_and_signals_in_order(app: Opsq) -> None:
    order: list[Any] = []

    class Noted(Task[..., Any]):
        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            order.append(("before_start", args))

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            order.append(("on_success", retval))

        def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            order.append(("on_failure", str(exc)))

        def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            order.append(("after_return", status))

    @app.task(base=Noted)
    def work(x: int) -> int:
        if x < 0:
            raise Flaky("negative")
        return x

    def before(sender: Any = None, **_: Any) -> None:
        order.append("prerun")

    def after(state: Any = None, **_: Any) -> None:
        order.append(("postrun", state))

    task_prerun.connect(before, sender=work)
    task_postrun.connect(after, sender=work)
    work.apply((1,))
    work.apply((-1,))
    assert order == [
        *("prerun", ("before_start", (1,)), ("on_success", 1), ("after_return", "SUCCESS"), ("postrun", "SUCCESS")),
        *("prerun", ("before_start", (-1,)), ("on_failure", "negative"), ("after_return", "FAILURE")),
        ("postrun", "FAILURE"),
    ]


def test_async_functions(app: Opsq) -> None:
    @app.task
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert later.is_async
    assert later.apply((1,)).get() == 2


def test_ignore_and_reject(app: Opsq) -> None:
    @app.task
    def leave(error: str) -> None:
        raise Ignore if error == "ignore" else Reject("no", requeue=True)

    assert leave.apply(("ignore",)).state == "IGNORED"
    assert leave.apply(("reject",)).state == "REJECTED"


def test_eager_retries(app: Opsq) -> None:
    attempts: list[tuple[int, int]] = []

    @app.task(bind=True, max_retries=2, default_retry_delay=100)
    def flaky(self: Task[..., Any], x: int) -> str:
        attempts.append((self.request.retries, x))
        if self.request.retries < 2:
            self.retry(exc=Flaky("again"), args=(x + 1,))
        return "done"

    assert flaky.apply((1,)).get() == "done"
    assert attempts == [(0, 1), (1, 2), (2, 3)]


def test_eager_retries_give_up(app: Opsq) -> None:
    @app.task(bind=True, max_retries=1)
    def never(self: Task[..., Any], exc: bool) -> None:
        self.retry(exc=Flaky("again") if exc else None)

    with pytest.raises(Flaky):
        never.apply((True,)).get()
    with pytest.raises(MaxRetriesExceededError, match="cannot retry"):
        never.apply((False,)).get()


def test_autoretry(app: Opsq) -> None:
    attempts: list[int] = []

    @app.task(
        bind=True, autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), retry_kwargs={"max_retries": 4}
    )
    def flaky(self: Task[..., Any], error: type[Exception]) -> str:
        attempts.append(self.request.retries)
        if len(attempts) < 4:
            raise error("x")
        return "done"

    assert flaky.apply((OSError,)).get() == "done"
    assert attempts == [0, 1, 2, 3]
    for error in (FileNotFoundError, ValueError):
        attempts.clear()
        assert flaky.apply((error,)).state == "FAILURE"
        assert attempts == [0]


def test_backoff() -> None:
    assert [backoff_s(n) for n in range(5)] == [1, 2, 4, 8, 16]
    assert [backoff_s(n, 3, 10) for n in range(4)] == [3, 6, 10, 10]
    assert backoff_s(10**6, 1, 600) == 600
    assert all(0 <= backoff_s(4, full_jitter=True) <= 16 for _ in range(50))


def test_a_retry_publishes_the_same_call_again(app: Opsq, kept: KeptMessages) -> None:
    @app.task(bind=True, name="r")
    def work(self: Task[..., Any], x: int) -> None:
        raise self.retry(countdown=5, exc=Flaky("no"))

    request = Context(
        **{"id": "t1", "task": "r", "args": [1], "kwargs": {}, "retries": 1, "root_id": "root", "parent_id": "p"},
        **{"headers": {"my": 1, "x-death": [1], "redelivered": True, "opsq_published_at": 1.0}, "timelimit": (9, 8)},
        **{"callbacks": [{"task": "cb", "args": [], "kwargs": {}}], "group": "g", "group_index": 2},
        **{"delivery_info": {"exchange": "", "routing_key": "fast", "priority": 4}, "called_directly": False},
        **{"reply_to": "me", "stamped_headers": ["s"], "stamps": {"s": 1}},
    )
    with running(work, request), pytest.raises(Retry) as caught:
        work.run(1)
    assert isinstance(caught.value.__cause__, Flaky)
    assert caught.value.when == 5
    (message,) = kept.tasks
    headers = parse_headers(message.headers)
    assert (headers.id, headers.retries, headers.root_id, headers.parent_id) == ("t1", 2, "root", "p")
    assert (headers.group, headers.group_index, headers.timelimit) == ("g", 2, (9, 8))
    assert (headers.stamped_headers, headers.stamps) == (["s"], {"s": 1})
    assert sorted(headers.user) == ["my", "opsq_published_at"]
    assert headers.eta is not None
    assert (message.routing_key, message.properties["priority"], message.properties["reply_to"]) == ("fast", 4, "me")
    assert json.loads(message.body)[2]["callbacks"][0]["task"] == "cb"


def test_a_root_that_retries_is_not_its_own_child(app: Opsq, kept: KeptMessages) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any]) -> None:
        self.retry()

    request = Context(id="t1", task=work.name, root_id="t1", called_directly=False, args=[], kwargs={})
    with running(work, request), pytest.raises(Retry):
        work.run()
    assert kept.tasks[0].headers["parent_id"] is None
    assert request.children == []


class Away(KeptMessages):
    """A publisher whose broker does not answer."""

    def publish_many(self, messages: Sequence[OutMessage], **how: Any) -> None:
        raise BrokerUnavailable("away")


def test_a_retry_that_cannot_be_published_sends_the_message_back(app: Opsq, kept: KeptMessages) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any]) -> None:
        self.retry(publisher=Away())

    request = Context(id="t1", task=work.name, called_directly=False, args=[], kwargs={})
    with running(work, request), pytest.raises(Reject) as caught:
        work.run()
    assert caught.value.requeue is True


@pytest.mark.parametrize("wrong", [{"queue": "nowhere"}, {"serializer": "no such thing"}])
def test_a_retry_that_can_never_be_published_fails_and_does_not_go_round_for_ever(
    app: Opsq, kept: KeptMessages, wrong: dict[str, str]
) -> None:
    app.conf.task_create_missing_queues = False

    @app.task(bind=True)
    def work(self: Task[..., Any]) -> None:
        self.retry(**wrong)

    request = Context(id="t1", task=work.name, called_directly=False, args=[], kwargs={})
    with running(work, request), pytest.raises(OpsqError, match=next(iter(wrong.values()))):
        work.run()
    assert kept.messages == []


def test_called_directly_a_retry_raises_the_error(app: Opsq) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any], given: bool) -> None:
        try:
            raise Flaky("mine")
        except Flaky as error:
            self.retry(exc=error if given else None)

    for given in (True, False):
        with pytest.raises(Flaky):
            work(given)


def test_retry_without_raising(app: Opsq, kept: KeptMessages) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any]) -> Retry:
        return self.retry(throw=False, countdown=1)

    request = Context(id="t1", task=work.name, called_directly=False, args=[], kwargs={})
    with running(work, request):
        assert isinstance(work.run(), Retry)
    assert len(kept.tasks) == 1


def test_replace_sends_another_call_under_the_same_id(app: Opsq, add: Any, kept: KeptMessages) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any]) -> None:
        self.replace(add.s(1, 2))

    request = Context(
        id="t1",
        task=work.name,
        root_id="root",
        called_directly=False,
        group="g",
        group_index=3,
        callbacks=[dict(add.s(5))],
    )
    with running(work, request), pytest.raises(Ignore, match="replaced by add"):
        work.run()
    headers = parse_headers(kept.tasks[0].headers)
    assert (headers.id, headers.task, headers.root_id, headers.group, headers.group_index) == (
        "t1",
        "add",
        "root",
        "g",
        3,
    )
    assert headers.replaced_task_nesting == 1
    with pytest.raises(UsageError, match="works inside a running task only"):
        work()


def test_request_outside_and_inside_a_run(app: Opsq) -> None:
    seen: list[Any] = []

    @app.task(bind=True)
    def inner(self: Task[..., Any]) -> None:
        seen.append((self.request.called_directly, self.request.id))

    @app.task(bind=True)
    def outer(self: Task[..., Any]) -> None:
        inner()
        seen.append((self.request.called_directly, self.request.id, current_task.name, app.current_task is self))
        inner.apply(task_id="in")

    outer.apply(task_id="out")
    assert seen == [(True, None), (False, "out", outer.name, True), (False, "in")]
    assert outer.request.called_directly
    assert not current_task


def test_headers_are_attributes_of_the_request() -> None:
    request = Context(headers={"tenant": "a"}, timelimit=(9, 8))
    assert (request.tenant, request.get("tenant"), request.get("nothing", 3)) == ("a", "a", 3)
    assert (request.time_limit, request.soft_time_limit) == (9, 8)
    with pytest.raises(AttributeError, match="no field or header 'nothing'"):
        _ = request.nothing


def test_calls_in_a_task_descend_from_it(app: Opsq, add: Any, kept: KeptMessages) -> None:
    app.conf.task_inherit_parent_priority = True

    @app.task
    def parent() -> None:
        add.delay(1)
        add.apply_async((2,), add_to_parent=False)

    request = Context(
        id="me",
        task=parent.name,
        root_id="root",
        called_directly=False,
        delivery_info={"priority": 7},
        args=(),
        kwargs={},
    )
    with running(parent, request):
        parent.run()
    first, second = kept.tasks
    assert [(m.headers["root_id"], m.headers["parent_id"], m.properties["priority"]) for m in (first, second)] == [
        ("root", "me", 7)
    ] * 2
    assert [child.id for child in request.children] == [first.headers["id"]]


def test_an_overridden_call_keeps_its_request(app: Opsq) -> None:
    class Wrapped(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return "<" + super().__call__(*args, **kwargs) + ">"

    @app.task(base=Wrapped, bind=True)
    def who(self: Task[..., Any]) -> str:
        return str(self.request.id)

    assert who.apply(task_id="me").get() == "<me>"


def test_get_inside_a_task_is_refused(app: Opsq, add: Any, kept: KeptMessages) -> None:
    request = Context(id="me", task="add", called_directly=False)
    with running(add, request):
        with pytest.raises(RuntimeError, match=r"get\(\) inside a task .* allow_join_result\(\)"):
            add.delay(1).get()
        with allow_join_result(), pytest.raises(TimeoutError):
            add.delay(1).get(timeout=0.01)
        with pytest.raises(TimeoutError):
            add.delay(1).get(timeout=0.01, disable_sync_subtasks=False)


def test_threads_do_not_see_each_others_requests(app: Opsq, add: Any) -> None:
    seen: list[Any] = []
    with running(add, Context(id="here", task="add", called_directly=False)):
        thread = threading.Thread(target=lambda: seen.append(add.request.id))
        thread.start()
        thread.join()
        seen.append(add.request.id)
    assert seen == [None, "here"]


def test_update_state_and_events(app: Opsq, add: Any, kept: KeptMessages) -> None:
    with running(add, Context(id="me", task="add", called_directly=False)):
        add.update_state(state="PROGRESS", meta={"done": 3})
        add.send_event("task-progress", pct=50)
    result = app.AsyncResult("me")
    assert (result.state, result.info, result.date_done) == ("PROGRESS", {"done": 3}, None)
    (message,) = kept.messages
    assert message.routing_key == "task.progress"
    event = json.loads(message.body)
    assert (event["type"], event["uuid"], event["pct"]) == ("task-progress", "me", 50)
    with pytest.raises(UsageError, match="needs a task_id outside a run"):
        add.update_state(state="PROGRESS")


def test_the_body_of_a_retry_is_readable(app: Opsq, add: Any, kept: KeptMessages) -> None:
    add.apply_async((1,), {"y": 2})
    message = kept.tasks[0]
    body = decode_body(message.body, "application/json", "utf-8", None, accept=frozenset({"application/json"}))
    assert (list(body.args), body.kwargs) == ([1], {"y": 2})


@pytest.mark.parametrize(("keeps", "children"), [(True, 3), (False, 0)])
def test_a_task_says_whether_it_keeps_its_children(
    app: Opsq, kept: KeptMessages, add: Any, keeps: bool, children: int
) -> None:
    @app.task(trail=keeps)
    def parent() -> None: ...

    request = Context(id="t1", task=parent.name, called_directly=False, args=[], kwargs={})
    with running(parent, request):
        add.delay(1, 2)
        group(add.s(1, 2), add.s(3, 4)).apply_async()
        app.send_many([add.s(1, 2)])
        add.apply_async((1, 2), add_to_parent=False)
    assert len(request.children) == children
