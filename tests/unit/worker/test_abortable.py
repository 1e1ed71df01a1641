"""A task that is asked to stop sees it, and stops."""

from __future__ import annotations

import threading
from typing import Any

from opsq import Opsq
from opsq.contrib.abortable import ABORTED, AbortableTask
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
        result = task.delay()
        assert begun.wait(10)
        handle: Any = task.AsyncResult(result.id)
        assert handle.abort()
        assert result.get(timeout=10) == "cleaned up"
    assert ABORTED == "ABORTED"
