"""When the broker is told, and what becomes of work at a shutdown or a lost connection."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from opsq import Opsq
from opsq.clock import SystemClock
from opsq.core.pools.base import Outcome
from opsq.core.worker.ledger import Ledger, RevokedIds
from opsq.core.worker.settle import Settler
from opsq.core.worker.survivor import Survivor
from opsq.errors import BrokerUnavailable, ConfigError
from opsq.testing.harness import RunningWorker, running_worker, waiting
from tests.unit.worker.test_worker_ledger import entry

PATIENCE_S = 30.0


class Gate:
    """A task that waits until it is let go, and counts its runs."""

    def __init__(self, app: Opsq, **options: Any) -> None:
        self.open = threading.Event()
        self.runs: list[int] = []

        @app.task(name="shop.gate", ignore_result=True, **options)
        def gate(n: int = 0) -> None:
            self.runs.append(n)
            assert self.open.wait(PATIENCE_S)

        self.task = gate

    def open_when_back(self, app: Opsq, count: int) -> threading.Thread:
        """Let it go, from a thread, once so many messages are at the broker again."""

        def wait() -> None:
            until, pause = time.monotonic() + PATIENCE_S, threading.Event()
            while waiting(app).ready < count and time.monotonic() < until:
                pause.wait(0.01)
            self.open.set()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


def lose_connection(worker: RunningWorker) -> None:
    """Make the owner loop believe that the broker is gone."""
    owner = worker.worker.plan.owner
    assert owner is not None
    consumer = owner.consumer
    assert consumer is not None

    def fail() -> None:
        raise BrokerUnavailable("the test pulled the plug")

    consumer.call_soon(fail)
    worker.wait("disconnected")
    worker.wait("ready", times=2)


def test_late_ack_comes_after_the_run(app: Opsq) -> None:
    gate = Gate(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = gate.task.delay()
        worker.wait("started", result.id)
        assert waiting(app).unacked == 1
        gate.open.set()
        worker.wait("settled", result.id)
        assert waiting(app).unacked == 0


def test_early_ack_comes_before_the_run(app: Opsq) -> None:
    gate = Gate(app, acks_late=False)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = gate.task.delay()
        worker.wait("started", result.id)
        assert waiting(app).unacked == 0
        gate.open.set()
        worker.wait("settled", result.id)


def test_early_ack_takes_no_more_than_it_has_slots_for(app: Opsq) -> None:
    gate = Gate(app, acks_late=False)
    with running_worker(app, pool="threads", concurrency=2) as worker:
        for n in range(6):
            gate.task.delay(n)
        worker.wait("started", times=2)
        depth = waiting(app)
        assert depth.ready + int(depth.unacked or 0) == 4
        gate.open.set()
        worker.wait("settled", times=6)
    assert sorted(gate.runs) == list(range(6))


@pytest.mark.parametrize("late", [True, False])
def test_warm_shutdown_returns_what_has_not_begun(app: Opsq, late: bool) -> None:
    gate = Gate(app, acks_late=late)
    with running_worker(app, pool="threads", concurrency=1, stop_within_s=0.1) as worker:
        first = gate.task.delay(0)
        worker.wait("started", first.id)
        for n in range(1, 4):
            gate.task.delay(n)
        opener = gate.open_when_back(app, 3)
        worker.stop(PATIENCE_S)
        opener.join()
    assert gate.runs == [0]
    assert worker.counters["SUCCESS"] == 1
    assert (waiting(app).ready, waiting(app).unacked) == (3, 0)


def test_cold_shutdown_returns_what_runs(app: Opsq) -> None:
    gate = Gate(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        worker.wait("started", gate.task.delay().id)
        worker.worker.ask_to_stop(cold=True)
        opener = gate.open_when_back(app, 1)
        worker.stop(0.0)
        opener.join()
    assert waiting(app).ready == 1


def test_held_tasks_go_back_at_shutdown(app: Opsq) -> None:
    gate = Gate(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        worker.wait("received", gate.task.apply_async(countdown=3600).id)
    assert waiting(app).ready == 1
    assert gate.runs == []


def test_stop_twice(app: Opsq) -> None:
    with running_worker(app, pool="threads", concurrency=1) as worker:
        worker.stop()
        worker.stop()


def test_a_lost_connection_runs_nothing_twice(make_app: Any) -> None:
    app = make_app(worker_prefetch_multiplier=4)
    gate = Gate(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        running, queued = gate.task.delay(0), gate.task.delay(1)
        worker.wait("started", running.id)
        worker.wait("received", queued.id)
        lose_connection(worker)
        worker.wait("received", queued.id, times=2)
        gate.open.set()
        worker.wait("settled", running.id)
        worker.wait("settled", queued.id)
        worker.wait_for(lambda: not len(worker.worker.ledger))
    assert gate.runs == [0, 1]
    assert (waiting(app).ready, waiting(app).unacked) == (0, 0)


def test_a_run_that_ends_while_the_broker_is_away_is_not_repeated(app: Opsq) -> None:
    gate = Gate(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = gate.task.delay(0)
        worker.wait("started", result.id)
        owner = worker.worker.plan.owner
        assert owner is not None
        consumer = owner.consumer
        assert consumer is not None

        def away() -> None:
            gate.open.set()
            # The outcome must be there before the connection is lost, and unsettled.
            deadline = time.monotonic() + PATIENCE_S
            while worker.worker.plan.pool and worker.worker.plan.pool.running() and time.monotonic() < deadline:
                pass
            raise BrokerUnavailable("gone")

        consumer.call_soon(away)
        worker.wait("ready", times=2)
        after = gate.task.delay(1)
        worker.wait("settled", after.id)
    assert gate.runs == [0, 1]
    assert (waiting(app).ready, waiting(app).unacked) == (0, 0)


def test_eta_tasks_do_not_starve_the_slots(make_app: Any) -> None:
    app = make_app(worker_prefetch_multiplier=1)
    gate = Gate(app)
    gate.open.set()
    with running_worker(app, pool="threads", concurrency=1) as worker:
        held = [gate.task.apply_async((1,), countdown=3600) for _ in range(10)]
        worker.wait("received", times=10)
        worker.wait("settled", gate.task.delay(2).id)
        soon = gate.task.apply_async((3,), countdown=0.2)
        worker.wait("settled", soon.id)
        assert not [each for each in held if worker.seen("started", each.id)]
    assert gate.runs == [2, 3]


def test_rate_limit(app: Opsq) -> None:
    gate = Gate(app, rate_limit="20/s")
    gate.open.set()
    with running_worker(app, pool="threads", concurrency=4) as worker:
        begun = time.monotonic()
        for n in range(6):
            gate.task.delay(n)
        worker.wait("settled", times=6)
        took = time.monotonic() - begun
    assert took >= 0.2
    assert sorted(gate.runs) == list(range(6))


def test_the_pool_must_be_able(app: Opsq) -> None:
    Gate(app, time_limit=10)
    with pytest.raises(ConfigError, match="the threads pool cannot stop a running task, so it has no hard time limit"):
        running_worker(app, pool="threads").__enter__()


def test_prefork_needs_a_broker_that_others_see(make_app: Any) -> None:
    with pytest.raises(ConfigError, match="cannot work with the memory broker"):
        running_worker(make_app(broker_url="memory://"), pool="prefork").__enter__()


def test_memory_broker(make_app: Any, tmp_path: Path) -> None:
    app = make_app(broker_url="memory://", result_backend="cache+memory://")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    with running_worker(app, pool="threads", concurrency=1):
        assert add.delay(2, 3).get(timeout=30) == 5


class Door:
    """What a settler needs of a consumer whose connection is gone: nothing comes of it. Calls are kept."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def settle(self, items: Any) -> None:
        """As a consumer that has no source any more."""

    def call_soon(self, call: Any) -> None:
        self.calls.append(call)


class Cut(Survivor):
    """Has the connection go just when an outcome is on its way."""

    def __init__(self, folder: Path, settler: Settler) -> None:
        super().__init__(folder, "w@h", "sqlite")
        self._settler = settler

    def end(self, key: int) -> None:
        super().end(key)
        self._settler.detach()


def test_an_outcome_that_meets_the_end_of_its_connection_is_not_forgotten(tmp_path: Path) -> None:
    nothing: Any = None
    ledger = Ledger(RevokedIds(3, 60.0))
    settler = Settler(ledger, nothing, nothing, SystemClock(), "threads", None)
    ran = entry(ledger, "id", "tag", started=True)
    ran.policy = structs.replace(ran.policy, send_events=False)
    settler.attach(Door(), nothing)
    settler.survivor = Cut(tmp_path, settler)
    settler.on_outcomes([Outcome(ran.key, "id", "SUCCESS", "ack", 1.0, 2.0, 1.0)])
    ledger.disconnected()
    door = Door()
    settler.attach(door, nothing)
    for call in door.calls:
        call()
    assert len(ledger) == 0, "its redelivery would be given to a run that is over, and held for ever"
    assert ledger.already_ran("id", 0)
