"""Jobs reach children and come back: order, batching, taking back, sizes, recycling, resizing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.promises import within


def test_a_job_runs_in_a_child_and_its_start_is_told_first(harness):
    pool = harness.pool()
    job = harness.job("noop")
    pool.submit(job)
    outcome = harness.outcome(job)
    assert outcome.state == "SUCCESS"
    assert outcome.pid in harness.pids(pool)
    assert outcome.pid != os.getpid()
    assert harness.order == [("started", job.key), ("outcome", job.key)]


def test_the_app_is_loaded_once_in_the_fork_server_and_built_in_each_child(harness):
    pool = harness.pool(slots=2)
    jobs = [harness.job("loaded_in") for _ in range(20)]
    for job in jobs:
        pool.submit(job)
    loaders = {harness.outcome(job).result_repr.split()[0] for job in jobs}
    assert len(loaders) == 1, "one process loaded the app"
    loaded_in, parent, built_here = harness.outcome(jobs[0]).result_repr.split()
    assert loaded_in == parent, "the children's parent is the process that loaded it"
    assert built_here == "True"


def test_every_job_ends_exactly_once_and_starts_before_it_ends(harness):
    pool = harness.pool(slots=3)
    jobs = [harness.job("noop") for _ in range(3000)]
    for job in jobs:
        pool.submit(job)
    harness.until(lambda: len(harness.outcomes) == len(jobs), "all outcomes")
    started = [key for what, key in harness.order if what == "started"]
    assert sorted(started) == [job.key for job in jobs]
    place = {step: n for n, step in enumerate(harness.order)}
    assert all(place["started", job.key] < place["outcome", job.key] for job in jobs)
    assert pool.stats()["counts"]["ahead"] > 1000, "tiny jobs are sent several at a time"


def test_a_long_job_gets_a_child_of_its_own_and_never_one_ahead(harness, tmp_path):
    pool = harness.pool(slots=2)
    harness.full(pool, 2)
    told = [harness.job("when_told", str(tmp_path / str(n))) for n in range(3)]
    for job in told:
        pool.submit(job)
    pids = {harness.begun(told[0]), harness.begun(told[1])}
    assert len(pids) == 2
    assert {job.key for job in pool.running()} == {told[0].key, told[1].key}
    assert {job.pid for job in pool.running()} == pids
    assert pool.stats()["counts"]["ahead"] == 0
    for job in told:
        harness.go(job)


def test_what_lies_behind_a_job_that_turns_out_long_is_taken_back(harness, tmp_path):
    """A task type that took microseconds a thousand times suddenly hangs."""
    pool = harness.pool(slots=2, setup="prefork_stub:build")
    harness.full(pool, 2)
    warm = [harness.job("sometimes_long") for _ in range(200)]
    for job in warm:
        pool.submit(job)
    harness.until(lambda: len(harness.outcomes) == 200, "the warm-up")
    hang = harness.job("sometimes_long", str(tmp_path / "hang"))
    jobs = [harness.job("sometimes_long") for _ in range(400)]
    jobs.insert(50, hang)
    for job in jobs:
        pool.submit(job)
    harness.begun(hang)
    harness.until(lambda: len(harness.outcomes) == 600, "all but the long one")
    assert hang.key not in harness.outcomes
    assert [job.key for job in pool.running()] == [hang.key]
    assert harness.go(hang).state == "SUCCESS"


def signalled(children, signum):
    for child in children:
        os.kill(child, signum)


def test_jobs_can_be_taken_back_while_their_child_takes_them(harness):
    """Two readers of one socket interleave: what came back is known by its key, not by its place."""
    pool = harness.pool(slots=2)
    jobs = [harness.job("noop") for _ in range(6000)]
    floor = pool._floor
    harness.full(pool, 2)
    children = harness.pids(pool)

    def taken_back() -> int:
        with floor.lock:
            for slot in floor.slots.values():
                floor.take_back(slot)
            pool._ears.wake()
        return pool.stats()["counts"]["taken_back"]

    for n, job in enumerate(jobs):
        if n == 3000:
            signalled(children, signal.SIGSTOP)
        elif n == 3100:
            # While all of them stand still there is something to take back, however fast the machine is.
            harness.until(lambda: taken_back() > 0, "something to take back")
            signalled(children, signal.SIGCONT)
        pool.submit(job)
        if n % 20 == 19:
            taken_back()
    harness.until(lambda: len(harness.outcomes) == len(jobs), "all outcomes")
    assert {(outcome.state, outcome.cause) for outcome in harness.outcomes.values()} == {("SUCCESS", "")}


def test_a_stopped_child_does_not_hold_up_the_jobs_in_its_inbox(harness):
    """Not even SIGSTOP: what a child has not taken is in the kernel, for anybody to read."""
    pool = harness.pool(slots=2)
    harness.full(pool, 2)
    warm = [harness.job("noop") for _ in range(200)]
    for job in warm:
        pool.submit(job)
    harness.until(lambda: len(harness.outcomes) == 200, "the warm-up")
    victim = harness.pids(pool)[0]
    jobs = [harness.job("sleep", 0.0002) for _ in range(1000)]
    for n, job in enumerate(jobs):
        if n == 300:
            os.kill(victim, signal.SIGSTOP)
        pool.submit(job)
    try:
        harness.until(lambda: len(harness.outcomes) >= 1199, "all but the one in the stopped child")
    finally:
        os.kill(victim, signal.SIGCONT)
    harness.until(lambda: len(harness.outcomes) == 1200, "the last one")


@pytest.mark.parametrize("size", [0, 60_000, 70_000, 5_000_000])
def test_bodies_of_every_size_arrive_whole(harness, size):
    pool = harness.pool(slots=1)
    job = harness.job("size", body=os.urandom(size))
    pool.submit(job)
    assert harness.outcome(job).result_repr == str(size)


def test_large_bodies_leave_no_descriptor_behind(harness):
    pool = harness.pool(slots=1)
    counts = []
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        job = harness.job("size", body=bytes(200_000))
        pool.submit(job)
        harness.outcome(job)
        job = harness.job("fds")
        pool.submit(job)
        counts.append(harness.outcome(job).result_repr)
    assert len(set(counts)) == 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_job_that_cannot_be_encoded_fails_alone(harness):
    pool = harness.pool(slots=1)
    bad, good = harness.job("noop", "\ud800"), harness.job("noop", "fine")
    pool.submit(bad)
    pool.submit(good)
    assert harness.outcome(bad).cause == "internal"
    assert harness.outcome(good).state == "SUCCESS"


def test_text_that_cannot_be_encoded_does_not_lose_an_outcome(harness):
    pool = harness.pool(slots=1)
    job = harness.job("surrogate")
    pool.submit(job)
    assert harness.outcome(job).result_repr == "\\ud800"


def test_a_runner_that_raises_does_not_cost_the_child(harness):
    pool = harness.pool(slots=1)
    before = harness.full(pool, 1)
    job, after = harness.job("raise"), harness.job("noop")
    pool.submit(job)
    pool.submit(after)
    assert harness.outcome(job).cause == "internal"
    assert "SystemExit" in harness.outcome(job).exception_repr
    assert harness.outcome(after).pid == before[0]


def test_children_read_nothing_and_have_one_thread(harness):
    pool = harness.pool(slots=1)
    stdin, threads = harness.job("stdin"), harness.job("threads")
    pool.submit(stdin)
    pool.submit(threads)
    assert harness.outcome(stdin).result_repr == "''"
    assert harness.outcome(threads).result_repr == "1"


def test_a_child_retires_after_so_many_tasks(harness):
    pool = harness.pool(slots=1, worker_max_tasks_per_child=10)
    jobs = [harness.job("noop") for _ in range(100)]
    for job in jobs:
        pool.submit(job)
    pids = [harness.outcome(job).pid for job in jobs]
    assert all(pids.count(pid) == 10 for pid in set(pids))
    assert pool.stats()["counts"]["lost"] == 0
    assert pool.stats()["counts"]["recycled"] >= 9


def test_a_child_that_has_grown_too_large_retires(harness):
    pool = harness.pool(slots=1, worker_max_memory_per_child=150_000)
    small, large, after = harness.job("hoard", 1), harness.job("hoard", 200), harness.job("noop")
    for job in (small, large, after):
        pool.submit(job)
    assert harness.outcome(small).pid == harness.outcome(large).pid
    assert harness.outcome(after).pid != harness.outcome(large).pid
    assert harness.outcome(after).state == "SUCCESS"


def test_grow_and_shrink(harness, tmp_path):
    pool = harness.pool(slots=1)
    busy = harness.job("when_told", str(tmp_path / "busy"))
    pool.submit(busy)
    busy_pid = harness.begun(busy)
    pool.grow(3)
    assert pool.slots == 4
    harness.full(pool, 4)
    pool.shrink(3)
    assert pool.slots == 1
    assert harness.full(pool, 1) == [busy_pid], "the idle ones end first"
    pool.grow(1)
    harness.full(pool, 2)
    pool.shrink(9)
    assert pool.slots == 1
    assert harness.full(pool, 1) == [busy_pid]
    assert harness.go(busy).state == "SUCCESS"


def test_drain_waits_for_running_jobs_and_returns_the_rest(harness, tmp_path):
    pool = harness.pool(slots=1)
    runs = harness.job("when_told", str(tmp_path / "runs"))
    waits = [harness.job("noop") for _ in range(5)]
    for job in (runs, *waits):
        pool.submit(job)
    harness.begun(runs)
    (tmp_path / "runs.go").touch()
    left = pool.drain(time.monotonic() + 5)
    assert sorted(left) == [job.key for job in waits]
    assert harness.outcome(runs).state == "SUCCESS"
    late = harness.job("noop")
    pool.submit(late)
    pool.stop(time.monotonic() + 30)
    assert not {job.key for job in (*waits, late)} & harness.outcomes.keys()


def test_drain_kills_what_outlasts_the_deadline_and_returns_it(harness, tmp_path):
    pool = harness.pool(slots=1)
    job = harness.job("when_told", str(tmp_path / "long"))
    pool.submit(job)
    pid = harness.begun(job)
    assert pool.drain(time.monotonic() + 0.2) == [job.key]
    assert harness.gone(pid), "it must not run on beside its redelivery"
    assert job.key not in harness.outcomes


def test_stop_ends_everything_within_the_deadline(harness, tmp_path):
    pool = harness.pool(slots=3)
    family = harness.family()
    job = harness.job("when_told", str(tmp_path / "stuck"))
    pool.submit(job)
    harness.begun(job)
    begun = time.monotonic()
    pool.stop(begun + 1.0)
    assert time.monotonic() - begun < within(1.3)
    assert all(harness.gone(process.pid) for process in family)
    pool.stop(time.monotonic() + 1)


def test_idle_children_close_their_runner_at_the_end(harness, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFORK_STUB_CLOSED", str(tmp_path / "closed"))
    pool = harness.pool(slots=2)
    pids = harness.full(pool, 2)
    pool.stop(time.monotonic() + 30)
    assert sorted(map(int, (tmp_path / "closed").read_text().split())) == sorted(pids)


def test_stop_without_start_and_twice(harness):
    pool = harness.pool(start=False)
    pool.stop(time.monotonic() + 1)
    pool.stop(time.monotonic() + 1)


def test_an_idle_pool_does_nothing(harness):
    pool = harness.pool(slots=2)
    harness.full(pool, 2)
    family = harness.family()
    turns = harness.probe(lambda: [process.num_ctx_switches().voluntary for process in family], "figures")
    job = harness.job("sleep", 0.5)
    pool.submit(job)
    harness.outcome(job)
    after = [process.num_ctx_switches().voluntary for process in family]
    assert sum(after) - sum(turns) < 20
