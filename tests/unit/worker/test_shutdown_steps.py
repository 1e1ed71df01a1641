"""A worker inside this process winds down: what goes back, what is waited for, in which order."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

import pytest

from opsq import Opsq
from opsq.bootsteps import Bootstep, Provided
from opsq.core.worker.owner import Owner
from opsq.core.worker.stopping import Phase
from opsq.core.worker.worker import Worker
from opsq.testing.harness import running_worker, waiting
from tests.conftest import MakeApp

PATIENCE_S = 30.0


class Gate:
    """A task's door: says when somebody is inside, and lets them out."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def pass_through(self) -> str:
        self.entered.set()
        self.open.wait(PATIENCE_S)
        return "out"


def _stopped(worker: Worker, **how: Any) -> threading.Thread:
    thread = threading.Thread(target=lambda: worker.stop(**how))
    thread.start()
    return thread


def _until_back(app: Opsq, count: int) -> None:
    """Wait until so many messages are at the broker."""
    limit, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while waiting(app).ready < count:
        assert time.monotonic() < limit, f"{waiting(app).ready} of {count} came back"
        pause.wait(0.01)


def test_what_waits_is_back_at_the_broker_while_a_task_still_runs(make_app: MakeApp) -> None:
    app, gate = make_app(worker_prefetch_multiplier=4), Gate()
    task = app.task(name="gate")(gate.pass_through)
    later = app.task(name="later")(lambda: None)
    with running_worker(app, pool="threads", concurrency=1) as running:
        running_result = task.delay()
        assert gate.entered.wait(PATIENCE_S)
        sent = [later.delay(), later.delay(), later.apply_async(countdown=3600)]
        for each in sent:
            running.wait("received", each.id)
        stopping = _stopped(running.worker)
        _until_back(app, 3)
        assert stopping.is_alive()
        gate.open.set()
        stopping.join(PATIENCE_S)
        assert running_result.get(timeout=PATIENCE_S) == "out"
    assert waiting(app).ready == 3


def test_a_users_step_that_stops_slowly_lets_no_task_begin(make_app: MakeApp) -> None:
    app, gate, let_go = make_app(worker_prefetch_multiplier=2), Gate(), threading.Event()
    seen: list[int] = []

    class Slow(Bootstep[None]):
        name: ClassVar[str] = "slow"
        requires: ClassVar[tuple[type[Any], ...]] = (Owner,)  # so it stops before what runs tasks

        def start(self, up: Provided) -> None:
            return None

        def stop(self, deadline: float) -> None:
            _until_back(app, 1)  # perhaps not committed yet
            seen.append(waiting(app).ready)
            gate.open.set()
            let_go.wait(PATIENCE_S)

    app.steps["worker"].add(Slow)
    task = app.task(name="gate")(gate.pass_through)
    behind = app.task(name="behind")(lambda: None)
    with running_worker(app, pool="threads", concurrency=1) as running:
        first = task.delay()
        assert gate.entered.wait(PATIENCE_S)
        running.wait("received", behind.delay().id)
        stopping = _stopped(running.worker)
        assert first.get(timeout=PATIENCE_S) == "out"
        let_go.set()
        stopping.join(PATIENCE_S)
    assert seen == [1]
    assert waiting(app).ready == 1


def test_the_soft_wait_keeps_what_finishes_in_it(make_app: MakeApp) -> None:
    app, gate = make_app(worker_soft_shutdown_timeout=PATIENCE_S), Gate()
    task = app.task(name="gate")(gate.pass_through)
    with running_worker(app, pool="threads", concurrency=1) as running:
        result = task.delay()
        assert gate.entered.wait(PATIENCE_S)
        running.worker.plan.haste.hurry.set()
        stopping = _stopped(running.worker)
        gate.open.set()
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()
        assert result.get(timeout=PATIENCE_S) == "out"
    assert waiting(app).ready == 0


@pytest.mark.parametrize("on_idle", [True, False])
def test_an_idle_worker_waits_softly_only_when_told_to(make_app: MakeApp, on_idle: bool) -> None:
    soft_s = 0.4
    app = make_app(worker_soft_shutdown_timeout=soft_s, worker_enable_soft_shutdown_on_idle=on_idle)
    with running_worker(app, pool="threads", concurrency=1) as running:
        running.worker.plan.haste.hurry.set()
        began = time.monotonic()
        running.worker.stop()
        took_s = time.monotonic() - began
    assert took_s >= soft_s if on_idle else not running.worker.plan.haste.soft_when_idle


def test_an_insistent_signal_cuts_the_soft_wait(make_app: MakeApp) -> None:
    app, gate = make_app(worker_soft_shutdown_timeout=3600.0), Gate()
    task = app.task(name="gate")(gate.pass_through)
    with running_worker(app, pool="threads", concurrency=1) as running:
        task.delay()
        assert gate.entered.wait(PATIENCE_S)
        running.worker.plan.haste.hurry.set()
        stopping = _stopped(running.worker)
        running.worker.ask_to_stop(1, cold=True)
        _until_back(app, 1)
        gate.open.set()
        stopping.join(PATIENCE_S)
        assert running.worker.phase == Phase.COLD
    assert waiting(app).ready == 1
