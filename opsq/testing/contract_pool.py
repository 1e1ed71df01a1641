"""What every pool must do, as one test suite.

A test module derives a class from ``PoolContract`` and parametrises ``pool_class``. What a pool says
it can do must work, and what it says it cannot must be refused, not pretended. Jobs do what their
task name says; ``gate`` waits for a file to appear, so nothing here depends on how long things take.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from opsq.core.pools.base import Call, Job, Outcome, Pool, PoolConfig
from opsq.core.pools.limits import limited
from opsq.errors import SoftTimeLimitExceeded, TimeLimitExceeded
from opsq.settings import Settings

PATIENCE_S = 60.0


class ScriptRunner:
    """Runs jobs whose task name is what to do, with an argument after a colon."""

    def run(self, job: Job, call: Call | None = None) -> Outcome:
        """Do it in this thread."""
        at = time.time()
        try:
            text = _act(job) if call is None else call(_act, (job,), {})
        except (SoftTimeLimitExceeded, ValueError) as exc:
            return _outcome(job, at, "FAILURE", exception_repr=repr(exc))
        return _outcome(job, at, "SUCCESS", result_repr=text)

    async def arun(self, job: Job) -> Outcome:
        """Do it on this event loop."""
        at = time.time()
        try:
            text = await limited(_act_async(job), job.soft_limit_s, job.hard_limit_s)
        except (SoftTimeLimitExceeded, TimeLimitExceeded, ValueError) as exc:
            return _outcome(job, at, "FAILURE", exception_repr=repr(exc))
        return _outcome(job, at, "SUCCESS", result_repr=text)


def make_runner() -> ScriptRunner:
    """Build the runner; named by path, so that child processes find it."""
    return ScriptRunner()


def _act(job: Job) -> str:
    verb, _, argument = job.task.partition(":")
    if verb == "gate":
        while not os.path.exists(argument):
            time.sleep(0.002)
    elif verb == "exit":
        os._exit(int(argument))
    elif verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return _at_once(verb, job)


async def _act_async(job: Job) -> str:
    verb, _, argument = job.task.partition(":")
    if verb == "gate":
        while not os.path.exists(argument):  # noqa: ASYNC110, ASYNC240 what opens the gate is another process
            await asyncio.sleep(0.002)
    return _at_once(verb, job)


def _at_once(verb: str, job: Job) -> str:
    if verb == "raise":
        raise ValueError("wanted")
    if verb == "break":
        raise RuntimeError("a runner that breaks its promise")
    if verb == "loop":
        return str(asyncio._get_running_loop() is not None)
    if verb == "size":
        return str(len(job.body))
    return "done"


def _outcome(job: Job, at: float, state: str, **fields: Any) -> Outcome:
    now = time.time()
    return Outcome(
        key=job.key, id=job.id, state=state, settle="ack", started_at=at, finished_at=now, runtime_s=now - at,
        pid=os.getpid(), **fields,
    )  # fmt: skip


class Bench:
    """One pool under test and everything it reported. Thread: the test's."""

    def __init__(self, pool_class: Callable[[PoolConfig], Pool], slots: int, folder: Path, **settings: Any) -> None:
        self.outcomes: dict[int, list[Outcome]] = {}
        self.started: dict[int, int] = {}
        self.jobs: dict[int, Job] = {}
        self._changed = threading.Condition()
        self._folder = folder
        self._next = 0
        self.pool = pool_class(
            PoolConfig(
                slots=slots,
                run=ScriptRunner(),
                on_started=self._on_started,
                on_outcomes=self._on_outcomes,
                settings=Settings(**settings),
                child_setup="opsq.testing.contract_pool:make_runner",
            )
        )

    def submit(self, task: str, body: bytes = b"", soft_s: float | None = None, hard_s: float | None = None) -> int:
        """Submit one job; its key."""
        self._next += 1
        job = self.jobs[self._next] = Job(
            key=self._next, id=f"id-{self._next}", task=task, headers={"task": task}, body=body,
            content_type="application/json", content_encoding="utf-8", properties={}, delivery_info={},
            soft_limit_s=soft_s, hard_limit_s=hard_s, received_at=time.time(),
        )  # fmt: skip
        self.pool.submit(job)
        return self._next

    def gate(self, name: str) -> Path:
        """A gate that is closed until its file exists."""
        return self._folder / name

    def wait(self, true: Callable[[], Any], what: str) -> None:
        """Wait until ``true()``, looked at whenever the pool reports something."""
        with self._changed:
            assert self._changed.wait_for(true, PATIENCE_S), f"waited {PATIENCE_S} s for {what}; {self.pool.stats()}"

    def outcome(self, key: int) -> Outcome:
        """Wait for the one outcome of ``key``."""
        self.wait(lambda: key in self.outcomes, f"the outcome of {key}")
        return self.outcomes[key][0]

    def wait_started(self, *keys: int) -> None:
        """Wait until all of ``keys`` are in slots."""
        self.wait(lambda: all(key in self.started for key in keys), f"the start of {keys}")

    def _on_started(self, key: int, pid: int, at: float) -> None:
        with self._changed:
            self.started[key] = pid
            self._changed.notify_all()

    def _on_outcomes(self, outcomes: list[Outcome]) -> None:
        with self._changed:
            for outcome in outcomes:
                self.outcomes.setdefault(outcome.key, []).append(outcome)
            self._changed.notify_all()


MakeBench = Callable[..., Bench]


class PoolContract:
    """Derive, parametrise ``pool_class``, run."""

    @pytest.fixture
    def bench(self, pool_class: type[Any], tmp_path: Path) -> Iterator[MakeBench]:
        """Makes started benches; stops their pools afterwards."""
        made: list[Bench] = []

        def make(slots: int = 2, start: bool = True, **settings: Any) -> Bench:
            bench = Bench(pool_class, slots, tmp_path, **settings)
            made.append(bench)
            if start:
                bench.pool.start()
            return bench

        yield make
        for path in ("gate", "other"):
            (tmp_path / path).touch()
        for bench in made:
            bench.pool.stop(time.monotonic() + 5.0)

    def test_names_itself(self, pool_class: type[Any]) -> None:
        """The name and capabilities are on the class."""
        assert pool_class.name
        assert pool_class.capabilities.max_slots is None or pool_class.capabilities.max_slots >= 1

    def test_runs_each_job_once(self, bench: MakeBench) -> None:
        """Every job has exactly one outcome."""
        b = bench()
        keys = [b.submit("noop") for _ in range(500)]
        b.wait(lambda: len(b.outcomes) == 500, "500 outcomes")
        assert sorted(b.outcomes) == keys
        assert all(len(found) == 1 and found[0].state == "SUCCESS" for found in b.outcomes.values())

    def test_says_when_a_job_starts(self, bench: MakeBench) -> None:
        """``on_started`` comes with the process id, and ``running`` shows the job meanwhile."""
        b = bench()
        key = b.submit(f"gate:{b.gate('gate')}")
        b.wait_started(key)
        running = b.pool.running()
        assert [job.key for job in running] == [key]
        assert running[0].pid == b.started[key] > 0
        b.gate("gate").touch()
        assert b.outcome(key).pid == b.started[key]
        b.wait(lambda: not b.pool.running(), "an empty pool") if b.pool.running() else None

    def test_runs_as_many_as_it_has_slots(self, bench: MakeBench) -> None:
        """With more jobs than slots all slots are busy and the rest waits; submitting never blocks."""
        b = bench(slots=3)
        slots = b.pool.slots
        keys = [b.submit(f"gate:{b.gate('gate')}") for _ in range(slots + 2)]
        b.wait_started(*keys[:slots])
        assert len(b.pool.running()) == slots
        b.gate("gate").touch()
        b.wait(lambda: len(b.outcomes) == len(keys), "all outcomes")

    def test_a_failing_task_is_an_outcome(self, bench: MakeBench) -> None:
        """What the runner reports comes through unchanged."""
        b = bench()
        outcome = b.outcome(b.submit("raise"))
        assert (outcome.state, outcome.exception_repr, outcome.cause) == ("FAILURE", "ValueError('wanted')", "")

    def test_a_broken_runner_costs_no_slot(self, bench: MakeBench) -> None:
        """A runner that raises gives an outcome of cause ``internal``, and the slot works on."""
        b = bench(slots=1)
        outcome = b.outcome(b.submit("break"))
        assert (outcome.state, outcome.cause) == ("FAILURE", "internal")
        assert b.outcome(b.submit("noop")).state == "SUCCESS"

    def test_large_bodies(self, bench: MakeBench) -> None:
        """A body of three megabytes arrives whole."""
        b = bench()
        assert b.outcome(b.submit("size", body=b"x" * 3_000_000)).result_repr == "3000000"

    def test_cancel_queued(self, bench: MakeBench) -> None:
        """A job that waits can be taken back; it does not run and has an outcome."""
        b = bench(slots=1)
        first = b.submit(f"gate:{b.gate('gate')}")
        b.wait_started(first)
        second = b.submit("noop")
        assert b.pool.cancel(second)
        b.gate("gate").touch()
        outcome = b.outcome(second)
        # The slot may have become free in between; then it was stopped while it ran.
        assert (outcome.state, outcome.cause) in (("REVOKED", "cancelled"), ("REVOKED", "terminated"))
        assert second not in b.started

    def test_cancel_running(self, bench: MakeBench, pool_class: type[Any]) -> None:
        """A running job is stopped where the pool can, and refused where it cannot."""
        b = bench(slots=1)
        key = b.submit(f"gate:{b.gate('never')}" if pool_class.capabilities.terminate else f"gate:{b.gate('gate')}")
        b.wait_started(key)
        assert b.pool.cancel(key) is pool_class.capabilities.terminate
        if pool_class.capabilities.terminate:
            outcome = b.outcome(key)
            assert outcome.state == "REVOKED"
            assert outcome.cause in ("terminated", "cancelled")  # the latter when a child had not taken it yet
            assert b.outcome(b.submit("noop")).state == "SUCCESS"

    def test_cancel_unknown(self, bench: MakeBench) -> None:
        """A key that is not here is refused."""
        b = bench()
        key = b.submit("noop")
        b.outcome(key)
        assert not b.pool.cancel(999)

    def test_replace_what_has_not_begun(self, bench: MakeBench) -> None:
        """A job that waits is run as it is now; the others stay what they were."""
        b = bench(slots=1)
        first = b.submit(f"gate:{b.gate('gate')}")
        b.wait_started(first)
        second, third = b.submit("noop"), b.submit("noop")
        b.pool.replace([msgspec.structs.replace(b.jobs[second], task="raise")])
        b.gate("gate").touch()
        assert [b.outcome(key).state for key in (first, second, third)] == ["SUCCESS", "FAILURE", "SUCCESS"]

    def test_hard_limit(self, bench: MakeBench, pool_class: type[Any]) -> None:
        """Past its hard limit a job is stopped, its outcome says so, and the slot works on."""
        if not pool_class.capabilities.hard_limit:
            pytest.skip(f"the {pool_class.name} pool has no hard limit; the worker refuses one at boot")
        b = bench(slots=1)
        outcome = b.outcome(b.submit(f"gate:{b.gate('never')}", hard_s=0.2))
        assert outcome.state == "FAILURE"
        assert "TimeLimitExceeded" in str(outcome.exception_repr)
        assert b.outcome(b.submit("noop")).state == "SUCCESS"

    def test_soft_limit(self, bench: MakeBench, pool_class: type[Any]) -> None:
        """Past its soft limit a job is told so by an exception inside it."""
        if not pool_class.capabilities.soft_limit:
            pytest.skip(f"the {pool_class.name} pool has no soft limit; the worker refuses one at boot")
        b = bench(slots=1)
        outcome = b.outcome(b.submit(f"gate:{b.gate('never')}", soft_s=0.2))
        assert (outcome.state, outcome.cause) == ("FAILURE", "")
        assert "SoftTimeLimitExceeded" in str(outcome.exception_repr)
        assert b.outcome(b.submit("noop", soft_s=5.0)).state == "SUCCESS"

    @pytest.mark.parametrize("task", ["exit:0", "exit:3", "kill"])
    def test_death_of_a_slot(self, bench: MakeBench, pool_class: type[Any], task: str) -> None:
        """A process that dies under its job costs that job only, and is replaced."""
        if not pool_class.capabilities.isolates_crash:
            pytest.skip(f"the {pool_class.name} pool runs in the worker's own process")
        b = bench(slots=2)
        other = b.submit(f"gate:{b.gate('gate')}")
        b.wait_started(other)
        outcome = b.outcome(b.submit(task))
        assert (outcome.state, outcome.cause) == ("FAILURE", "lost")
        b.gate("gate").touch()
        assert b.outcome(other).state == "SUCCESS"
        keys = [b.submit("noop") for _ in range(20)]
        assert all(b.outcome(key).state == "SUCCESS" for key in keys)

    def test_grow_and_shrink(self, bench: MakeBench, pool_class: type[Any]) -> None:
        """More slots run more at once; fewer slots end as they become free; one always stays."""
        b = bench(slots=1)
        if not pool_class.capabilities.resize:
            b.pool.grow(2)
            assert b.pool.slots == 1
            return
        b.pool.grow(2)
        assert b.pool.slots == 3
        keys = [b.submit(f"gate:{b.gate('gate')}") for _ in range(3)]
        b.wait_started(*keys)
        b.pool.shrink(5)
        assert b.pool.slots == 1
        b.gate("gate").touch()
        b.wait(lambda: len(b.outcomes) == 3, "three outcomes")
        more = [b.submit(f"gate:{b.gate('other')}") for _ in range(3)]
        b.wait_started(more[0])
        b.gate("other").touch()
        b.wait(lambda: len(b.outcomes) == 6, "six outcomes")

    def test_recall_then_drain(self, bench: MakeBench) -> None:
        """Queued jobs are given up at once, running ones are waited for."""
        b = bench(slots=1)
        running = b.submit(f"gate:{b.gate('gate')}")
        b.wait_started(running)
        queued = [b.submit("noop") for _ in range(5)]
        recalled = b.pool.recall()
        assert set(queued) <= set(recalled) <= {running, *queued}
        b.gate("gate").touch()
        assert b.pool.drain(time.monotonic() + PATIENCE_S) == []
        # A child may not have taken what was written to it; then it never ran and never will.
        assert running in recalled or b.outcome(running).state == "SUCCESS"
        assert not set(recalled) & set(b.outcomes)

    def test_drain_gives_up_at_the_deadline(self, bench: MakeBench) -> None:
        """What still runs at the deadline is named."""
        b = bench(slots=1)
        key = b.submit(f"gate:{b.gate('gate')}")
        b.wait_started(key)
        assert b.pool.drain(time.monotonic() + 0.05) == [key]

    def test_drain_when_idle(self, bench: MakeBench) -> None:
        """Nothing to wait for, nothing to give back."""
        b = bench()
        b.outcome(b.submit("noop"))
        assert b.pool.drain(time.monotonic() + PATIENCE_S) == []

    def test_stop_twice(self, bench: MakeBench) -> None:
        """Stopping again does no harm."""
        b = bench()
        b.pool.stop(time.monotonic() + 5.0)
        b.pool.stop(time.monotonic() + 5.0)

    def test_stop_before_start(self, bench: MakeBench) -> None:
        """A pool that never started can be stopped."""
        b = bench(start=False)
        b.pool.stop(time.monotonic() + 1.0)

    def test_stop_while_busy_keeps_its_deadline(self, bench: MakeBench) -> None:
        """A slot that does not come back does not hold up the stop."""
        b = bench(slots=1)
        b.wait_started(b.submit(f"gate:{b.gate('gate')}"))
        begun = time.monotonic()
        b.pool.stop(begun + 0.3)
        assert time.monotonic() - begun < 5.0

    def test_stats(self, bench: MakeBench) -> None:
        """Facts for ``inspect stats`` are plain values."""
        b = bench()
        b.outcome(b.submit("noop"))
        stats = b.pool.stats()
        assert stats["max-concurrency"] == b.pool.slots
