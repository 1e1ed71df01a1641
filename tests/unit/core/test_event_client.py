"""``app.events``: Celery's receiver, dispatcher and state, over a real worker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.events.state import State
from opsq.testing.harness import running_worker


@pytest.fixture
def app(tmp_path: Path) -> Opsq:
    return Opsq("events", set_as_current=False, data_dir=str(tmp_path), worker_heartbeat_interval=0.2)


def test_a_receiver_hears_a_worker_and_custom_events(app: Opsq) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    state = app.events.State()
    kinds: list[str] = []
    listening, done = threading.Event(), threading.Event()

    def on_event(event: dict[str, Any]) -> None:
        kinds.append(event["type"])
        state.event(event)
        if event["type"] == "worker-heartbeat":
            listening.set()
        if event["type"] == "task-succeeded":
            done.set()

    custom: list[dict[str, Any]] = []
    receiver = app.events.Receiver(handlers={"*": on_event, "order-paid": custom.append})
    thread = threading.Thread(target=receiver.capture)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        thread.start()
        assert listening.wait(15)
        result = add.delay(2, 3)
        assert done.wait(15)
        with app.events.default_dispatcher() as dispatcher:
            dispatcher.send("order-paid", amount=5)
            dispatcher.disable()
            dispatcher.send("order-paid", amount=6)
        for _ in range(1000):
            if custom:
                break
            threading.Event().wait(0.01)
        (alive,) = state.alive_workers()
        assert alive.hostname == worker.worker.hostname
    receiver.stop()
    thread.join(15)
    assert not thread.is_alive()
    assert [event["amount"] for event in custom] == [5]
    task = state.tasks[result.id]
    assert (task.state, task.as_dict()["result"], task.ready) == ("SUCCESS", "5", True)
    assert task.worker.hostname == worker.worker.hostname
    assert task.info()["args"] == "(2, 3)"
    assert "retries" not in task.info(("runtime",))
    assert [id for id, _ in state.tasks_by_type(add.name or "")] == [result.id]
    assert state.task_types() == [add.name]
    assert "order-paid" not in kinds
    app.close()


def test_limit_and_silence(app: Opsq) -> None:
    receiver = app.events.Receiver()
    with pytest.raises(TimeoutError):
        receiver.capture(timeout=0.1, wakeup=False)
    app.close()


def test_late_events_take_nothing_back() -> None:
    state = State(max_tasks_in_memory=2)
    base = {"hostname": "w@h", "uuid": "t1", "timestamp": 5.0}
    for kind in ("task-succeeded", "task-started", "task-received"):
        state.event({**base, "type": kind, "name": "shop.add", "result": "1"})
    assert state.tasks["t1"].state == "SUCCESS"
    assert state.tasks["t1"].as_dict()["name"] == "shop.add"
    for other in ("t2", "t3"):
        state.event({**base, "uuid": other, "type": "task-sent", "hostname": "gen1@h"})
    assert list(state.tasks) == ["t2", "t3"]
    assert state.tasks["t3"].client == "gen1@h"
    state.event({"type": "worker-heartbeat", "hostname": "w@h", "timestamp": 1.0, "freq": 5})
    assert state.workers["w@h"].freq == 2.0, "the answer to a command tells no rate"
    assert not state.workers["w@h"].alive
    state.event({"type": "worker-offline", "hostname": "w@h", "timestamp": 9e9})
    assert not state.workers["w@h"].alive
    state.event({**base, "uuid": "t3", "type": "task-failed", "exception": "Oops()"})
    assert state.tasks["t3"].info() == {"exception": "Oops()"}
    state.clear()
    assert (list(state.tasks), list(state.workers), state.event_count) == (["t2"], [], 0)
    state.clear(ready=False)
    assert not state.tasks


def test_what_is_no_event_changes_nothing_and_callbacks_hear_the_rest() -> None:
    heard: list[Any] = []
    state = State(lambda _, event: heard.append(event["type"]))
    state.event({"type": "task-started"})
    state.event({"type": "task-started", "hostname": "w@h", "uuid": "t1", "timestamp": 5.0, "local_received": 9e9})
    assert heard == ["task-started"]
    assert [worker.hostname for worker in state.alive_workers()] == ["w@h"]
    assert [id for id, _ in state.tasks_by_worker("w@h")] == ["t1"]
