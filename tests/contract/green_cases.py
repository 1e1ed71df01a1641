"""What only the pools of greenlets promise; run in a patched process by ``test_pool_contract``.

Not collected by its name: elsewhere nothing here is patched.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq.broker.mailbox import Mailbox
from opsq.broker.message import Settle, Settlement
from opsq.broker.sqlite.doorbell import Doorbell, ring
from opsq.core.pools.base import Call, Job, Outcome, PoolConfig
from opsq.core.pools.greenlets import patched_by
from opsq.core.pools.registry import load_pool
from opsq.errors import SoftTimeLimitExceeded
from opsq.testing.contract_pool import Bench
from tests.promises import within

Body = Callable[[], Any]


class Stubborn:
    """A runner whose jobs run functions of the test, and that takes ``after`` to record an outcome."""

    def __init__(self) -> None:
        self.bodies: dict[str, Body] = {}
        self.after: Body = lambda: None

    def run(self, job: Job, call: Call | None = None) -> Outcome:
        assert call is not None
        at = time.time()
        try:
            call(self.bodies[job.task], (), {})
            text = "done"
        except SoftTimeLimitExceeded as exc:
            text = repr(exc)
        self.after()
        return Outcome(job.key, job.id, "SUCCESS", "ack", at, time.time(), time.time() - at, result_repr=text)

    async def arun(self, job: Job) -> Outcome:
        raise AssertionError("no event loop here")


class GreenBench(Bench):
    """A bench with a runner of its own."""

    def __init__(self, folder: Path, slots: int = 1) -> None:
        pool_class = load_pool(str(patched_by()))

        def with_runner(config: PoolConfig) -> Any:
            self.runner = Stubborn()
            return pool_class(
                PoolConfig(slots=slots, run=self.runner, on_started=config.on_started, on_outcomes=config.on_outcomes)
            )

        super().__init__(with_runner, slots, folder)
        self.pool.start()

    def go(self, body: Body, **limits: float) -> int:
        """Submit ``body``."""
        name = f"body-{len(self.runner.bodies)}"
        self.runner.bodies[name] = body
        return self.submit(name, **limits)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[GreenBench]:
    made = GreenBench(tmp_path)
    yield made
    made.pool.stop(time.monotonic() + 3.0)


def test_a_task_that_swallows_its_end_is_told_again(bench: GreenBench) -> None:
    told = []

    def swallow() -> None:
        while len(told) < 2:
            try:
                threading.Event().wait()
            except BaseException as exc:  # noqa: BLE001
                told.append(type(exc).__name__)

    outcome = bench.outcome(bench.go(swallow, hard_s=0.05))
    assert told == ["Stopped", "Stopped"]
    assert (outcome.state, outcome.cause) == ("FAILURE", "hard_limit")


def test_limits_come_in_time_during_a_sleep(bench: GreenBench) -> None:
    soft = bench.outcome(bench.go(lambda: time.sleep(30), soft_s=0.2))
    hard = bench.outcome(bench.go(lambda: time.sleep(30), soft_s=None, hard_s=0.2))
    assert "SoftTimeLimitExceeded(0.2" in str(soft.result_repr)
    assert hard.cause == "hard_limit"
    for outcome in (soft, hard):
        assert 0.2 <= outcome.finished_at - outcome.started_at < within(0.2 + 0.5)  # 0.1 on an idle machine


def test_recording_an_outcome_is_never_interrupted(bench: GreenBench) -> None:
    recording, finish = threading.Event(), threading.Event()

    def record() -> None:
        recording.set()
        finish.wait()

    bench.runner.after = record
    key = bench.go(lambda: None, soft_s=0.05, hard_s=0.05)
    assert recording.wait(30)
    assert not bench.pool.cancel(key)
    assert not finish.wait(0.1)  # both limits would have struck by now
    finish.set()
    assert bench.outcome(key).state == "SUCCESS"


def test_cancelled_between_its_slot_and_its_code_it_does_not_run(bench: GreenBench) -> None:
    ran: list[int] = []
    key = bench.go(lambda: ran.append(1))
    assert bench.pool.cancel(key)  # its greenlet exists, and has not had its turn
    assert bench.outcome(key).cause == "terminated"
    assert not ran


def test_what_is_given_up_is_stopped_and_has_no_outcome(bench: GreenBench) -> None:
    ended = threading.Event()

    def busy() -> None:
        try:
            threading.Event().wait()
        finally:
            ended.set()

    key = bench.go(busy)
    bench.wait_started(key)
    assert bench.pool.drain(time.monotonic() + 0.02) == [key]
    assert ended.is_set()
    assert not bench.pool.running()
    assert not bench.outcomes


def test_jobs_wait_beside_one_another(tmp_path: Path) -> None:
    bench = GreenBench(tmp_path, slots=50)
    meet = threading.Barrier(50)
    keys = [bench.go(meet.wait) for _ in range(50)]
    bench.wait(lambda: len(bench.outcomes) == 50, "fifty that wait for one another")
    assert sorted(bench.outcomes) == keys
    bench.pool.stop(time.monotonic() + 1.0)


def test_the_owner_sleeps_and_is_woken_while_others_go_on(tmp_path: Path) -> None:
    mailbox, turns = Mailbox(), []
    with_others = threading.Thread(target=lambda: [turns.append(time.sleep(0.005)) for _ in range(5)])
    with_others.start()
    assert not mailbox.wait((), 0.1, 1, lambda: False)
    assert turns
    waker = threading.Thread(target=lambda: mailbox.post([Settlement(1, Settle.ACK)]))
    begun = time.monotonic()
    waker.start()
    mailbox.wait((), 120.0, 1, lambda: False)
    assert time.monotonic() - begun < within(10)
    assert len(mailbox.take()) == 1


def test_a_doorbell_rung_by_another_process_wakes_and_never_blocks(tmp_path: Path) -> None:
    path = tmp_path / "broker.db"
    path.touch()
    doorbell = Doorbell(path, "queue:celery")
    assert doorbell.drain() is False
    program = f"from opsq.broker.sqlite.doorbell import ring; print(ring({str(path)!r}, 'queue:celery'))"
    ringer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert Mailbox().wait([doorbell.fileno()], 20.0, 1, lambda: False)
    assert doorbell.drain() is True
    assert ringer.communicate()[0] == "1\n"
    for _ in range(2_000):  # more than a socket holds: the ringer must not wait for the sleeper
        ring(path, "queue:celery")
    assert doorbell.wait(30.0) is True
    doorbell.close()
