from __future__ import annotations

import logging
import pickle
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from opsq import Opsq
from opsq.core.backends.base import ResultsDisabled
from opsq.core.backends.memory import MemoryBackend
from opsq.core.result_store import ResultStore
from opsq.errors import (
    BackendUnavailable,
    ResultTimeout,
    TaskRevokedError,
    UsageError,
)
from opsq.exceptions import IncompleteStream
from opsq.result import AsyncResult, GroupResult, ResultSet, result_from_tuple
from opsq.settings import Settings
from opsq.testing.contract_backend import eventually
from opsq.wire.result import ResultMeta

DONE = "2026-11-21T02:44:34.169935+00:00"


def store(app: Opsq, id: str, state: str = "SUCCESS", result: Any = None, **more: Any) -> None:
    done = DONE if state in ("SUCCESS", "FAILURE", "REVOKED") else None
    app.backend.store(ResultMeta(task_id=id, status=state, result=result, date_done=done, **more))


def test_nothing_stored_is_pending(app: Opsq) -> None:
    result = app.AsyncResult("x")
    assert (result.state, result.status, result.result, result.info, result.traceback) == (
        *("PENDING", "PENDING", None, None, None),
    )
    assert not result.ready()
    assert not result.exists()
    assert (result.children, result.date_done, str(result)) == (None, None, "x")


def test_a_success(app: Opsq) -> None:
    store(app, "x", result={"a": [1]}, children=[])
    result = app.AsyncResult("x")
    assert (result.get(), result.state, result.children) == ({"a": [1]}, "SUCCESS", [])
    assert result.successful()
    assert result.exists()
    assert not result.failed()
    assert result.date_done == datetime(2026, 11, 21, 2, 44, 34, 169935, tzinfo=UTC)


def test_a_failure_raises_what_the_task_raised(app: Opsq) -> None:
    store(app, "x", "FAILURE", ValueError("boom", 42), traceback="Traceback: boom")
    result = app.AsyncResult("x")
    with pytest.raises(ValueError) as caught:
        result.get()
    assert caught.value.args == ("boom", 42)
    assert repr(result.get(propagate=False)) == "ValueError('boom', 42)"
    assert (result.failed(), result.traceback) == (True, "Traceback: boom")
    with pytest.raises(ValueError):
        result.maybe_throw()


def test_a_revoked_task_raises(app: Opsq) -> None:
    store(app, "x", "REVOKED", TaskRevokedError("expired"))
    with pytest.raises(TaskRevokedError, match="expired"):
        app.AsyncResult("x").get()


def test_a_custom_state_is_not_ready(app: Opsq) -> None:
    store(app, "x", "PROGRESS", {"done": 3})
    result = app.AsyncResult("x")
    assert (result.state, result.info, result.ready()) == ("PROGRESS", {"done": 3}, False)
    store(app, "x", result=1)
    assert result.get(timeout=30) == 1, "states are read anew until one is final"


def test_get_waits_and_is_woken(app: Opsq) -> None:
    result = app.AsyncResult("x")
    seen: list[Any] = []
    thread = threading.Thread(target=store, args=(app, "x"), kwargs={"result": 7})
    thread.start()
    assert result.get(timeout=10, callback=lambda id, value: seen.append((id, value)), on_message=seen.append) == 7
    thread.join()
    assert seen[-1] == ("x", 7)
    assert seen[0]["status"] == "SUCCESS"


def test_get_gives_up_in_time(app: Opsq) -> None:
    ticks: list[int] = []
    with pytest.raises(ResultTimeout, match=r"task x has no result after 0\.5 s"):
        app.AsyncResult("x").get(timeout=0.5, interval=0.01, on_interval=lambda: ticks.append(1))
    assert ticks
    with pytest.raises(TimeoutError):
        app.AsyncResult("x").get(timeout=0)


def test_extended_fields(app: Opsq) -> None:
    store(app, "x", extended=True, name="add", args=[1], kwargs={"y": 2}, worker="w@h", retries=2, queue="q")
    result = app.AsyncResult("x")
    assert (result.name, result.args, result.kwargs, result.worker, result.retries, result.queue) == (
        *("add", [1], {"y": 2}, "w@h", 2, "q"),
    )


def test_parents_failure_is_raised_first(app: Opsq) -> None:
    store(app, "p", "FAILURE", KeyError("parent"))
    child = app.AsyncResult("c", parent=app.AsyncResult("p"))
    with pytest.raises(KeyError):
        child.get(timeout=0)
    with pytest.raises(ResultTimeout):
        child.get(timeout=0, follow_parents=False)


def test_forget_takes_the_parents_too(app: Opsq) -> None:
    for id in ("a", "b"):
        store(app, id, result=1)
    result = app.AsyncResult("b", parent=app.AsyncResult("a"))
    assert result.get() == 1
    result.forget()
    assert [app.AsyncResult(id).state for id in ("a", "b")] == ["PENDING", "PENDING"]


def test_then(app: Opsq) -> None:
    seen: list[Any] = []
    waiting, failing = app.AsyncResult("x"), app.AsyncResult("y")
    waiting.then(lambda result: seen.append(("good", result.id)))
    failing.then(seen.append, on_error=lambda result: seen.append(("bad", result.id)))
    assert seen == []
    store(app, "x", result=1)
    store(app, "y", "FAILURE", ValueError())
    waiting.get(timeout=30)
    assert failing.failed()
    waiting.then(lambda result: seen.append(("late", result.id)))
    assert seen == [("good", "x"), ("bad", "y"), ("late", "x")]


def test_trees_and_cycles(app: Opsq) -> None:
    store(app, "a", result=1, children=[[["b", None], None], [["a", None], None]])
    store(app, "b", result=2, children=[[["g", None], [[["c", None], None]]]])
    store(app, "c", result=3, children=[], parent_id="b")
    root = app.AsyncResult("a")
    assert [type(child).__name__ for child in root.children or ()] == ["AsyncResult", "AsyncResult"]
    assert [(str(node), value) for node, value in root.collect()] == [("a", 1), ("b", 2), ("g", [3]), ("c", 3)]
    assert root.get_leaf() == 3
    assert {str(node): [str(child) for child in children] for node, children in root.graph.items()} == {
        "a": ["b"],
        "b": ["g"],
        "g": ["c"],
        "c": [],
    }
    leaf = app.AsyncResult("c")
    assert leaf.get() == 3
    assert leaf.parent.id == "b"
    app.AsyncResult("b").forget()
    with pytest.raises(IncompleteStream, match="task b has not ended"):
        list(app.AsyncResult("a").iterdeps())


def test_tuples(app: Opsq) -> None:
    result = AsyncResult("b", app=app, parent=AsyncResult("a", app=app))
    assert result.as_tuple() == (("b", (("a", None), None)), None)
    assert result.as_list() == ["b", "a"]
    back = result_from_tuple(result.as_tuple(), app)
    assert back == result
    assert back.parent.id == "a"
    both = GroupResult("g", [result], app=app)
    again = result_from_tuple(both.as_tuple(), app)
    assert isinstance(again, GroupResult)
    assert again == both
    assert pickle.loads(pickle.dumps(result)) == result


def test_groups_are_saved_and_restored(app: Opsq) -> None:
    made = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])
    made.save()
    restored = GroupResult.restore("g", app=app)
    assert restored == made
    made.delete()
    assert GroupResult.restore("g", app=app) is None


def test_sets_wait_for_all(app: Opsq) -> None:
    results = ResultSet([app.AsyncResult(id) for id in ("a", "b", "c")], app=app)
    results.add(app.AsyncResult("a"))
    assert len(results) == 3
    for id, value in (("c", 3), ("a", 1)):
        store(app, id, result=value)
    assert (results.ready(), results.completed_count(), results.waiting()) == (False, 2, True)
    with pytest.raises(ResultTimeout, match="task b has no result"):
        results.get(timeout=0.01)
    threading.Thread(target=store, args=(app, "b"), kwargs={"result": 2}).start()
    assert results.get(timeout=30) == [1, 2, 3]
    assert results.successful()
    assert sorted(results.iterate(timeout=30)) == [1, 2, 3]
    seen: list[Any] = []
    results.then(seen.append)
    assert seen == [results]


def test_sets_raise_the_first_error(app: Opsq) -> None:
    store(app, "a", result=1)
    store(app, "b", "FAILURE", KeyError("b"))
    results = app.GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")])
    with pytest.raises(KeyError):
        results.get(timeout=30)
    assert [type(value) for value in results.get(timeout=5, propagate=False)] == [int, KeyError]
    assert results.failed()


def test_sets_as_collections(app: Opsq) -> None:
    results = ResultSet([app.AsyncResult("a")], app=app)
    results.remove("a")
    with pytest.raises(KeyError):
        results.remove("a")
    results.discard("a")
    results.update([app.AsyncResult("b"), app.AsyncResult("b")])
    assert [str(each) for each in results] == ["b"]
    results.clear()
    assert results.get() == []


def test_disabled_results_say_what_to_set() -> None:
    made = Opsq(broker="memory://", set_as_current=False)
    assert not made.backend.enabled
    assert made.backend.store(ResultMeta(task_id="x", status="SUCCESS")) is False
    for ask in (lambda: made.AsyncResult("x").get(), lambda: made.AsyncResult("x").state):
        with pytest.raises(ResultsDisabled, match="no result store is configured; set result_backend, for example"):
            ask()
    with pytest.raises(NotImplementedError):
        made.AsyncResult("x").get()


def test_lifetimes(clock: Any) -> None:
    backend = MemoryBackend(clock)
    results = ResultStore(backend, Settings(result_expires=100.0, result_failure_expires=10.0))
    results.store(ResultMeta(task_id="good", status="SUCCESS"))
    results.store(ResultMeta(task_id="bad", status="FAILURE", result=ValueError()))
    clock.advance(11)
    assert (results.load("good").status, results.load("bad").status) == ("SUCCESS", "PENDING")
    clock.advance(100)
    assert results.load("good").status == "PENDING"


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_serializers(serializer: str, compression: str | None) -> None:
    results = ResultStore(MemoryBackend(), Settings(result_serializer=serializer, result_compression=compression))
    results.store(ResultMeta(task_id="x", status="SUCCESS", result={"a": [1, "é"]}))
    assert results.load("x").result == {"a": [1, "é"]}


def test_what_cannot_be_read_counts_as_pending(caplog: pytest.LogCaptureFixture) -> None:
    backend = MemoryBackend()
    results = ResultStore(backend, Settings())
    backend.put("task", "x", b"\xff not json", state="SUCCESS", ttl_s=None)
    with caplog.at_level(logging.WARNING):
        assert results.load("x").status == "PENDING"
    assert results.unreadable == 1
    assert "Stored result cannot be read" in caplog.text


def test_results_that_cannot_be_written_are_refused() -> None:
    results = ResultStore(MemoryBackend(), Settings())
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        results.store(ResultMeta(task_id="x", status="SUCCESS", result=object()))


class Moody(MemoryBackend):
    """Fails a number of times, then works."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def get(self, kind: Any, id: str) -> bytes | None:
        self.failures -= 1
        if self.failures >= 0:
            raise BackendUnavailable("not now")
        return super().get(kind, id)


def test_operations_are_tried_again_when_asked_to() -> None:
    patient = Settings(
        result_backend_always_retry=True,
        result_backend_base_sleep_between_retries_ms=0.01,
        result_backend_max_sleep_between_retries_ms=0.1,
        result_backend_max_retries=3,
    )
    assert ResultStore(Moody(3), patient).load("x").status == "PENDING"
    with pytest.raises(BackendUnavailable):
        ResultStore(Moody(4), patient).load("x")
    with pytest.raises(BackendUnavailable):
        ResultStore(Moody(1), Settings()).load("x")


def test_an_unreachable_store_says_where(tmp_path: Any) -> None:
    made = Opsq(broker="memory://", backend="redis://:secret@127.0.0.1:1/0", set_as_current=False)
    with pytest.raises(BackendUnavailable, match=r"result store redis://:\*\*\*@127.0.0.1:1/0") as caught:
        _ = made.AsyncResult("x").state
    assert "secret" not in str(caught.value)
    (tmp_path / "file").write_text("")
    broken = Opsq(broker="memory://", backend=f"sqlite:///{tmp_path}/file/x.db", set_as_current=False)
    with pytest.raises(BackendUnavailable, match=r"result store .*x\.db"):
        _ = broken.AsyncResult("x").state


def test_callbacks_of_then_are_called_once(app: Opsq) -> None:
    seen: list[Any] = []
    result = app.AsyncResult("x")
    result.then(seen.append)
    threading.Thread(target=store, args=(app, "x"), kwargs={"result": 1}).start()
    assert eventually(result.ready)
    assert result.ready()
    assert seen == [result]


def test_an_ignored_result_is_not_waited_for(app: Opsq, kept: Any) -> None:
    quiet = app.task(name="quiet", ignore_result=True)(lambda: None)
    result = quiet.delay()
    assert result.ignored
    assert result.get() is None
    assert app.ResultSet([result]).get() == [None]
    assert app.ResultSet(app.send_many([quiet.s()])).get() == [None]
    loud = quiet.apply_async(ignore_result=False)
    assert not loud.ignored
