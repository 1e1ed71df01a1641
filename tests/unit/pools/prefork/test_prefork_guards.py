"""What a child leaves behind, what it lacked when it died, and who is told."""

from __future__ import annotations

import resource

import psutil
import pytest

from opsq.core.pools.prefork_floor import how_it_ended
from opsq.core.pools.prefork_growth import COUNT_EVERY_S, WARN_AT, GrowthWatch
from opsq.core.pools.prefork_oom import OomWatch
from tests.promises import within

V1 = "5:cpu:/\n4:memory:/jobs/one\n0::/elsewhere\n"
V2 = "0::/jobs/one\n"


def counted(*numbers):
    """A watch that counts these numbers of files, one after the other, and no threads."""
    left = list(numbers)
    return GrowthWatch(lambda: {"files": left.pop(0), "threads": 1})


def runs(watch, *tasks):
    for number, task in enumerate(tasks, 1):
        watch.after(task, number * COUNT_EVERY_S * 1.5)


def test_a_task_that_leaves_files_open_is_named(caplog):
    runs(counted(10, 10 + WARN_AT["files"], 20 + WARN_AT["files"]), "shop.leak", "shop.leak", "shop.leak")
    (record,) = caplog.records
    assert "leaves files behind" in record.getMessage()
    assert (record.task, record.left_behind) == ("shop.leak", WARN_AT["files"])


def test_the_line_comes_again_when_it_has_doubled(caplog):
    first = WARN_AT["files"]
    runs(counted(0, first, 2 * first - 1, 2 * first), *["shop.leak"] * 4)
    assert [record.left_behind for record in caplog.records] == [first, 2 * first]


def test_what_is_closed_again_is_no_growth(caplog):
    runs(counted(*[10, 60] * 20), *["shop.pool"] * 40)
    assert not caplog.records


def test_nobody_is_blamed_when_two_types_ran_between_two_counts(caplog):
    watch = counted(10, 1000)
    watch.after("shop.one", 1.0)
    watch.after("shop.one", 1.01)
    watch.after("shop.two", 1.0 + 2 * COUNT_EVERY_S)
    assert not caplog.records


def test_counting_is_rare():
    calls = []
    watch = GrowthWatch(lambda: calls.append(1))
    for number in range(1000):
        watch.after("shop.tiny", 1.0 + number * COUNT_EVERY_S / 1000)
    assert len(calls) == 1


def test_a_child_near_its_limit_of_files_is_replaced(harness):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        pool = harness.pool(slots=1)
        pids = harness.full(pool, 1)
        job, after = harness.job("open_files", 220), harness.job("noop")
        pool.submit(job)
        assert harness.outcome(job).state == "SUCCESS"
        pool.submit(after)
        assert harness.outcome(after).pid != pids[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_programs_of_a_task_end_with_its_recycled_child(harness):
    pool = harness.pool(slots=1, worker_max_tasks_per_child=1)
    job = harness.job("leave_a_program")
    pool.submit(job)
    pid = int(harness.outcome(job).result_repr)
    harness.probe(lambda: not psutil.pid_exists(pid), "the end of the program, reaped by the fork server")


def test_a_program_with_a_session_of_its_own_lives_on(harness):
    pool = harness.pool(slots=1, worker_max_tasks_per_child=1)
    job, after = harness.job("leave_a_program", True), harness.job("noop")
    pool.submit(job)
    pid = int(harness.outcome(job).result_repr)
    pool.submit(after)
    assert harness.outcome(after).pid != harness.outcome(job).pid, "its child has gone"
    program = psutil.Process(pid)
    assert program.status() != psutil.STATUS_ZOMBIE
    program.kill()
    harness.probe(lambda: not psutil.pid_exists(pid), "the orphan's burial by the fork server")


def test_a_soft_limit_after_the_tasks_own_code_means_nothing(harness):
    """Storing and publishing would be left half done, or be done twice."""
    pool = harness.pool(slots=1)
    job = harness.job("slow_store", 0.4, soft=0.1)
    pool.submit(job)
    assert harness.outcome(job).state == "SUCCESS"
    assert harness.warned[job.key] < within(0.4)


def test_a_soft_limit_before_the_tasks_own_code_is_a_failure(harness):
    pool = harness.pool(slots=1)
    job, after = harness.job("slow_load", soft=0.2), harness.job("noop")
    pool.submit(job)
    outcome = harness.outcome(job)
    assert (outcome.state, outcome.settle, outcome.cause) == ("FAILURE", "ack", "soft_limit")
    pool.submit(after)
    assert harness.outcome(after).pid == outcome.pid


def test_spawn_loads_the_app_again_in_each_child(harness):
    pool = harness.pool(slots=2, worker_pool_start_method="spawn")
    pids = harness.full(pool, 2)
    job = harness.job("loaded_in")
    pool.submit(job)
    loaded_in, _, built_here = harness.outcome(job).result_repr.split()
    assert int(loaded_in) in pids
    assert built_here == "True"


@pytest.mark.parametrize(
    ("own", "folder", "counter", "limit"),
    [
        (V1, "memory/jobs/one", "memory.oom_control", "memory.limit_in_bytes"),
        (V2, "jobs/one", "memory.events", "memory.max"),
        (V2, "unified/jobs/one", "memory.events", "memory.max"),
    ],
    ids=["v1", "v2", "hybrid"],
)
def test_the_kernels_kills_are_known(tmp_path, own, folder, counter, limit):
    group = tmp_path / folder
    group.mkdir(parents=True)
    (group / counter).write_text("low 0\noom_kill 2\n")
    (group / limit).write_text("104857600\n")
    watch = OomWatch(tmp_path, own)
    assert watch.why() == "", "kills of before are no news"
    (group / counter).write_text("low 0\noom_kill 3\n")
    why = watch.why()
    assert why == "out of memory (the control group's limit is 102,400 KiB)"
    assert watch.why() == ""
    assert how_it_ended(5, -9, why).endswith("by signal 9 (SIGKILL): " + why)


@pytest.mark.parametrize("own", ["", "nonsense", "0::/gone\n", "4:memory:/gone\n"])
def test_without_a_control_group_nothing_is_said(tmp_path, own):
    assert OomWatch(tmp_path, own).why() == ""


def test_this_process_can_be_watched():
    assert OomWatch().why() == ""
