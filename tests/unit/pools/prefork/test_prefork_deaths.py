"""Children die: who is blamed, who is not, how fast they are replaced, and that nobody stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from opsq.core.pools.prefork_floor import how_it_ended
from tests.promises import within


@pytest.mark.parametrize(
    ("task", "arg", "words", "signum"),
    [
        ("die", signal.SIGKILL, "killed by signal 9 (SIGKILL)", 9),
        ("die", signal.SIGSEGV, "killed by signal 11 (SIGSEGV)", 11),
        ("exit", 0, "exited with code 0", 0),
        ("exit", 7, "exited with code 7", 7),
    ],
)
def test_the_death_of_a_child_is_blamed_on_the_job_it_ran(harness, task, arg, words, signum):
    pool = harness.pool(slots=1)
    job, after = harness.job(task, int(arg)), harness.job("noop")
    begun = time.monotonic()
    pool.submit(job)
    pool.submit(after)
    outcome = harness.outcome(job)
    assert (outcome.state, outcome.cause, outcome.signum) == ("FAILURE", "lost", signum)
    assert words in outcome.exception_repr
    assert str(outcome.pid) in outcome.exception_repr
    assert harness.outcome(after).state == "SUCCESS"
    assert time.monotonic() - begun < within(0.5), "a replacement comes within half a second"


def test_only_the_running_job_is_blamed_when_the_inbox_was_full(harness):
    pool = harness.pool(slots=1)
    warm = [harness.job("sometimes_long") for _ in range(200)]
    for job in warm:
        pool.submit(job)
    harness.until(lambda: len(harness.outcomes) == 200, "the warm-up")
    jobs = [harness.job("sometimes_long") for _ in range(500)]
    jobs.insert(250, harness.job("die", int(signal.SIGKILL)))
    for job in jobs:
        pool.submit(job)
    harness.until(lambda: len(harness.outcomes) == 701, "all outcomes")
    blamed = [outcome.key for outcome in harness.outcomes.values() if outcome.cause]
    assert blamed == [jobs[250].key]


def test_an_idle_child_that_dies_costs_nothing(harness):
    pool = harness.pool(slots=2)
    before = harness.full(pool, 2)
    os.kill(before[0], signal.SIGKILL)
    harness.probe(lambda: before[0] not in harness.pids(pool), "the burial")
    after = harness.full(pool, 2)
    assert before[1] in after
    assert before[0] not in after
    assert not harness.outcomes


def test_all_children_killed_ten_times_in_a_row(harness):
    """W4: the pool recovers, does not fork like mad, loses nothing, leaves no zombie."""
    pool = harness.pool(slots=3)
    seen: set[int] = set()
    for _ in range(10):
        pids = harness.full(pool, 3)
        seen.update(pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        harness.probe(lambda dead=pids: not set(dead) & set(harness.pids(pool)), "their burial")
    begun = time.monotonic()
    jobs = [harness.job("noop") for _ in range(50)]
    for job in jobs:
        pool.submit(job)
    for job in jobs:
        assert harness.outcome(job).state == "SUCCESS"
    assert time.monotonic() - begun < within(5)
    assert len(seen) == 30
    zombies = [p for p in harness.family() if p.status() == psutil.STATUS_ZOMBIE]
    assert not zombies


def test_term_lets_a_child_finish_its_job_first(harness, tmp_path):
    """A service manager that signals every process of the worker must not kill running tasks."""
    pool = harness.pool(slots=1)
    job, after = harness.job("when_told", str(tmp_path / "job")), harness.job("noop")
    pool.submit(job)
    pid = harness.begun(job)
    for process in harness.family():
        process.terminate()
        process.send_signal(signal.SIGINT)
    pool.submit(after)
    assert harness.go(job).state == "SUCCESS"
    assert harness.outcome(after).pid != pid


def test_term_ends_an_idle_child(harness):
    pool = harness.pool(slots=1)
    [pid] = harness.full(pool, 1)
    os.kill(pid, signal.SIGTERM)
    harness.probe(lambda: harness.gone(pid), "its end")
    job = harness.job("noop")
    pool.submit(job)
    assert harness.outcome(job).state == "SUCCESS"


def test_what_a_killed_task_had_started_goes_with_it(harness, tmp_path):
    pool = harness.pool(slots=1)
    job = harness.job("grandchild", str(tmp_path / "pid"))
    pool.submit(job)
    assert harness.outcome(job).cause == "lost"
    grandchild = int((tmp_path / "pid").read_text())
    harness.probe(lambda: harness.gone(grandchild), "the end of the grandchild")


def test_a_child_without_its_sockets_is_replaced(harness):
    pool = harness.pool(slots=1)
    job, after = harness.job("close_sockets"), harness.job("noop")
    pool.submit(job)
    pool.submit(after)
    assert harness.outcome(job).cause == "lost"
    assert harness.outcome(after).state == "SUCCESS"


def test_the_death_of_the_fork_server_is_survived(harness, tmp_path):
    pool = harness.pool(slots=2)
    before = harness.full(pool, 2)
    job, after = harness.job("when_told", str(tmp_path / "job")), harness.job("noop")
    pool.submit(job)
    pid = harness.begun(job)
    psutil.Process(pid).parent().kill()
    assert harness.outcome(job).cause == "lost"
    assert "fork server" in harness.outcome(job).exception_repr
    assert all(harness.gone(pid) for pid in before)
    pool.submit(after)
    assert harness.outcome(after).state == "SUCCESS"
    harness.full(pool, 2)


WORKER = """
import sys, threading
sys.path[:0] = {path!r}
from opsq.core.pools.base import Job, PoolConfig
from opsq.core.pools.prefork import PreforkPool
pool = PreforkPool(PoolConfig(slots=3, run=None, on_started=print, on_outcomes=print, child_setup="prefork_stub:build"))
pool.start()
pool.submit(Job(1, "1", "sleep", {{"arg": 60}}, b"", "", "", {{}}, {{}}))
while len(pool.stats()["writes"]) < 3 or not all(pool.stats()["processes"]): pass
print("up", flush=True)
threading.Event().wait()
"""


def _four_of(pid):
    family = psutil.Process(pid).children(recursive=True)
    return family if len(family) >= 4 else []


def test_nobody_outlives_a_killed_worker(harness):
    program = WORKER.format(path=[os.path.dirname(__file__), os.getcwd()])
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        while worker.stdout.readline().strip() != "up":
            assert worker.poll() is None
        try:
            family = harness.probe(lambda: _four_of(worker.pid), "the fork server and three children")
        finally:
            worker.kill()
        worker.wait()
        for process in family:
            harness.probe(lambda pid=process.pid: harness.gone(pid), "the end of all", within_s=2)


def test_nobody_outlives_a_worker_that_ends_without_stopping_its_pool(harness):
    program = WORKER.format(path=[os.path.dirname(__file__), os.getcwd()]).replace("threading.Event().wait()", "")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        while worker.stdout.readline().strip() != "up":
            assert worker.poll() is None
        family = psutil.Process(worker.pid).children(recursive=True)
        assert worker.wait(30) == 0
        for process in family:
            harness.probe(lambda pid=process.pid: harness.gone(pid), "the end of all", within_s=2)


def test_an_idle_child_that_takes_nothing_is_passed_over_then_trusted_again(harness):
    """Stopped before it took a thing: its jobs go to others, it is asked, and it answers once it can."""
    pool = harness.pool(slots=2)
    victim, _ = harness.full(pool, 2)
    warm = [harness.job("noop") for _ in range(200)]
    for job in warm:
        pool.submit(job)
    harness.until(lambda: len(harness.outcomes) == 200, "the warm-up")
    os.kill(victim, signal.SIGSTOP)
    harness.probe(lambda: psutil.Process(victim).status() == psutil.STATUS_STOPPED, "its standstill")
    jobs = [harness.job("sleep", 0.02, hard=0.5) for _ in range(20)]
    for job in jobs:
        pool.submit(job)
    harness.until(lambda: len(harness.outcomes) == 220, "all of them")
    assert {outcome.state for outcome in harness.outcomes.values()} == {"SUCCESS"}
    assert victim not in {harness.outcomes[job.key].pid for job in jobs}
    assert pool.stats()["counts"]["suspected"] == 1
    os.kill(victim, signal.SIGCONT)
    harness.full(pool, 2)


def test_how_it_ended_in_words():
    assert how_it_ended(5, -9) == "child process 5 was killed by signal 9 (SIGKILL)"
    assert how_it_ended(5, -63) == "child process 5 was killed by signal 63"
    assert how_it_ended(5, 3) == "child process 5 exited with code 3 while it ran the task"
    assert how_it_ended(5, None) == "child process 5 ended with its fork server"
