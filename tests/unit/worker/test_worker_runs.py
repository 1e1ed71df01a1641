"""How runs end, whatever a task does: what is stored, settled and told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from opsq import Opsq, signals
from opsq.core.pools.base import Outcome
from opsq.core.request import Context
from opsq.core.worker.follow import child_id
from opsq.errors import Ignore, Reject, UsageError
from opsq.testing.harness import RunningWorker, running_worker
from tests.conftest import MakeApp


def end(worker: RunningWorker, task_id: str, times: int = 1) -> Outcome:
    """The outcome of a task, once settled."""
    detail = worker.wait("settled", task_id, times).detail
    assert isinstance(detail, Outcome)
    return detail


class UnprintableError(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


@pytest.mark.parametrize("pool", ["threads", "solo", "asyncio"])
def test_a_result_comes_back(app: Opsq, pool: str) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    with running_worker(app, pool=pool, concurrency=2) as worker:
        result = add.delay(2, 3)
        assert result.get(timeout=30) == 5
        outcome = end(worker, result.id)
    assert (outcome.state, outcome.settle, outcome.result_repr) == ("SUCCESS", "ack", "5")
    assert outcome.runtime_s < 5
    assert worker.counters == {"SUCCESS": 1}


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_async_def(app: Opsq, pool: str) -> None:
    @app.task(bind=True)
    async def add(self: Any, x: int, y: int) -> tuple[int, str]:
        await asyncio.sleep(0)
        return x + y, self.request.id

    with running_worker(app, pool=pool, concurrency=2):
        result = add.delay(2, 3)
        assert result.get(timeout=30) == [5, result.id]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("boom"), "ValueError('boom')"),
        (SystemExit(3), "SystemExit(3)"),
        (KeyboardInterrupt(), "KeyboardInterrupt()"),
        (UnprintableError(), "its repr raised RuntimeError"),
        (ValueError("x" * 100_000), "..."),
        (asyncio.CancelledError(), "CancelledError()"),
    ],
    ids=["error", "exit", "interrupt", "unprintable", "huge", "cancelled"],
)
@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_whatever_a_task_raises(app: Opsq, pool: str, error: BaseException, text: str) -> None:
    @app.task
    async def bad() -> None:
        raise error

    with running_worker(app, pool=pool, concurrency=1) as worker:
        result = bad.delay()
        outcome = end(worker, result.id)
        assert result.state == "FAILURE"
    assert (outcome.state, outcome.settle) == ("FAILURE", "ack")
    assert text in str(outcome.exception_repr)
    assert len(str(outcome.exception_repr)) <= 1024
    assert outcome.fingerprint is not None
    assert len(outcome.fingerprint) == 16


def test_a_failure_keeps_its_traceback(app: Opsq) -> None:
    @app.task
    def bad() -> None:
        raise ValueError("boom")

    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = bad.delay()
        with pytest.raises(ValueError, match="boom"):
            result.get(timeout=30)
        trace = str(end(worker, result.id).traceback)
    assert 'raise ValueError("boom")' in trace
    assert "opsq/core/worker" not in trace
    assert str(result.traceback) == trace


def test_a_result_that_cannot_be_written(app: Opsq) -> None:
    @app.task
    def bad() -> object:
        return threading.Lock()

    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = bad.delay()
        outcome = end(worker, result.id)
        assert result.state == "FAILURE"
    assert outcome.state == "FAILURE"
    assert "lock" in str(outcome.exception_repr)


def test_arguments_that_only_the_message_could_carry_cost_no_result(make_app: MakeApp) -> None:
    app = make_app(result_extended=True, accept_content=["json", "pickle"], task_serializer="pickle")

    @app.task
    def size(numbers: set[int]) -> int:
        return len(numbers)

    with running_worker(app, pool="threads", concurrency=1):
        result = size.delay({1, 2})
        assert result.get(timeout=30) == 2
    assert (result.args, result.kwargs) == ("({1, 2},)", "{}")


def test_ignore_and_reject(app: Opsq) -> None:
    @app.task
    def ignored() -> None:
        raise Ignore

    @app.task
    def rejected() -> None:
        raise Reject("no")

    @app.task(bind=True)
    def once_more(self: Any) -> str:
        if not self.request.delivery_info["redelivered"]:
            raise Reject("busy", requeue=True)
        return "done"

    with running_worker(app, pool="threads", concurrency=1) as worker:
        assert end(worker, ignored.delay().id).settle == "ack"
        refused = rejected.delay()
        assert end(worker, refused.id).settle == "reject"
        assert (refused.state, type(refused.result)) == ("FAILURE", Reject)
        result = once_more.delay()
        assert result.get(timeout=30) == "done"
        end(worker, result.id, 2)
    assert worker.counters == {"IGNORED": 1, "REJECTED": 2, "SUCCESS": 1}


def test_retries_run_out(app: Opsq) -> None:
    attempts: list[int] = []

    @app.task(bind=True, max_retries=2)
    def again(self: Any) -> None:
        attempts.append(self.request.retries)
        raise self.retry(countdown=0, exc=KeyError("k"))

    with running_worker(app, pool="threads", concurrency=2) as worker:
        result = again.delay()
        with pytest.raises(KeyError):
            result.get(timeout=30)
        end(worker, result.id, 3)
        assert result.state == "FAILURE"
    assert attempts == [0, 1, 2]
    assert worker.counters == {"RETRY": 2, "FAILURE": 1}


def test_autoretry_succeeds_in_the_end(app: Opsq) -> None:
    @app.task(bind=True, autoretry_for=(OSError,), retry_backoff=0.001, retry_jitter=False)
    def flaky(self: Any) -> int:
        if self.request.retries < 2:
            raise OSError("not yet")
        return int(self.request.retries)

    with running_worker(app, pool="threads", concurrency=1):
        assert flaky.delay().get(timeout=30) == 2


def test_hooks_and_signals_in_order(app: Opsq) -> None:
    seen: list[str] = []

    class Watched(app.Task):  # type: ignore[name-defined, misc]
        def before_start(self, *_: Any) -> None:
            seen.append("before_start")

        def on_success(self, *_: Any) -> None:
            seen.append("on_success")
            raise RuntimeError("a handler's error changes nothing")

        def on_failure(self, exc: BaseException, *rest: Any) -> None:
            seen.append(f"on_failure {exc!r} {type(rest[-1].traceback).__name__}")

        def after_return(self, status: str, *_: Any) -> None:
            seen.append(f"after_return {status}")

    @app.task(base=Watched, track_started=True)
    def work(fail: bool) -> int:
        assert work.AsyncResult(work.request.id).state == "STARTED"
        seen.append("run")
        if fail:
            raise ValueError
        return 1

    @signals.task_prerun.connect(weak=False)
    def pre(**_: Any) -> None:
        seen.append("prerun")

    @signals.task_postrun.connect(weak=False)
    def post(state: str, **_: Any) -> None:
        seen.append(f"postrun {state}")

    try:
        with running_worker(app, pool="threads", concurrency=1) as worker:
            end(worker, work.delay(False).id)
            end(worker, work.delay(True).id)
    finally:
        signals.task_prerun.disconnect(pre)
        signals.task_postrun.disconnect(post)
    assert seen == [
        "prerun", "before_start", "run", "on_success", "after_return SUCCESS", "postrun SUCCESS",
        "prerun", "before_start", "run", "on_failure ValueError() str", "after_return FAILURE", "postrun FAILURE",
    ]  # fmt: skip


def test_links_and_chain(app: Opsq) -> None:
    calls: list[tuple[str, Any, str | None]] = []

    @app.task(bind=True)
    def note(self: Any, value: Any, name: str) -> str:
        calls.append((name, value, self.request.parent_id))
        return name

    with running_worker(app, pool="threads", concurrency=1) as worker:
        first = note.s(0, "first")
        linked = first.apply_async(link=[note.s("one"), note.si("fixed", "two")])
        end(worker, child_id(linked.id, "link:0"))
        end(worker, child_id(linked.id, "link:1"))
        assert sorted(calls[1:]) == [("one", "first", linked.id), ("two", "fixed", linked.id)]
        calls.clear()
        last = (note.s(0, "a") | note.s("b") | note.s("c")).apply_async()
        assert last.get(timeout=30) == "c"
    assert [(name, value) for name, value, _ in calls] == [("a", 0), ("b", "a"), ("c", "b")]


def test_what_follows_a_failure(app: Opsq) -> None:
    seen: list[tuple[str, Any]] = []
    told = threading.Event()

    @app.task
    def bad() -> None:
        raise ValueError("boom")

    @app.task
    def never(value: Any) -> None:
        seen.append(("never", value))

    @app.task
    def errback(request: Context, exc: BaseException, traceback: str) -> None:
        seen.append(("in process", (request.id, repr(exc), "boom" in traceback)))

    @app.task(bind=True)
    def by_message(self: Any, failed_id: str) -> None:
        seen.append(("message", failed_id))
        told.set()

    with running_worker(app, pool="threads", concurrency=1):
        chain = (bad.s() | never.s()).apply_async(link_error=[errback.s(), by_message.s()])
        with pytest.raises(ValueError, match="boom"):
            chain.get(timeout=30)
        assert told.wait(30)
        failed = chain.parent
    assert failed is not None
    assert ("in process", (failed.id, "ValueError('boom')", True)) in seen
    assert ("message", failed.id) in seen
    assert not [name for name, _ in seen if name == "never"]


def test_a_follow_up_that_cannot_be_published(app: Opsq) -> None:
    @app.task
    def fine() -> object:
        return "fine"

    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = fine.apply_async(link={"task": "x", "args": [], "kwargs": {}, "options": {"priority": "high"}})
        assert end(worker, result.id).state == "SUCCESS"
        with pytest.raises(UsageError, match="priority"):
            app.AsyncResult(child_id(result.id, "link:0")).get(timeout=30)
