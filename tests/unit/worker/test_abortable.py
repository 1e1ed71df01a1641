"""A task that is asked to stop sees it, and stops."""

from __future__ import annotations

import threading
from typing import Any

from opsq import Opsq
from opsq.contrib.abortable import ABORTED, AbortableAsyncResult, AbortableTask
from opsq.testing.harness import running_worker


def test_an_abortable_task_is_stopped(app: Opsq) -> None:
    begun, pause = threading.Event(), threading.Event()

    def work(self: Any) -> str:
        begun.set()
        for _ in range(1000):
            if self.is_aborted():
                return "cleaned up"
            pause.wait(0.01)
        return "never asked"

    task = app.task(name="shop.work", base=AbortableTask, bind=True)(work)
    with running_worker(app, pool="threads", concurrency=1):
        result: Any = task.delay()
        assert begun.wait(30)
        assert result.abort()
        assert result.get(timeout=30) == "cleaned up"
        assert not result.abort(), "it has ended"
    assert ABORTED == "ABORTED"


def test_every_way_of_calling_gives_a_handle_that_can_abort(app: Opsq) -> None:
    task = app.task(name="shop.work", base=AbortableTask)(lambda: None)
    calls: list[Any] = [task.delay(), task.s().apply_async(), app.send_task("shop.work"), task.AsyncResult("x")]
    assert {type(call) for call in calls} == {AbortableAsyncResult}
    assert calls[0].task_name == "shop.work"
