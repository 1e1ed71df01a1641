"""A child that dies costs one attempt: run again within 2 s, replaced within 0.5 s, unnoticed by others.

Three deaths of one message put it into the quarantine with what killed it, and one command releases it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opsq.errors import WorkerLostError
from opsq.testing.harness import waiting
from tests.chaos.prefork_worker import PreforkWorker
from tests.promises import within

AGAIN_MAX_S = 2.0
BACK_MAX_S = 0.5
GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT_BYTES = 400 * 1024 * 1024
SAID = {
    "kill": "killed by signal 9 (SIGKILL)",
    "segfault": "killed by signal 11 (SIGSEGV)",
    "exit": "exited with code 3",
    "memory": "out of memory",
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreforkWorker]:
    made = PreforkWorker(tmp_path_factory.mktemp("deaths"), slots=3)
    made.until(lambda: len(made.children()) == 3, "three children")
    yield made
    made.close()


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group with a small memory limit, made by root. Source: v1/memory.rst."""
    own = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line), None)
    if os.geteuid() != 0 or own is None:
        pytest.skip("needs root and the memory controller of control groups v1")
    group = GROUPS / own.split(":", 2)[2].lstrip("/") / f"opsq-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    except OSError as exc:
        pytest.skip(f"no control group can be made here: {exc}")
    yield group
    deadline = time.monotonic() + 5
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel lists a process until it is reaped
    group.rmdir()


@pytest.mark.parametrize("how", ["kill", "segfault", "exit"])
def test_a_death_costs_one_attempt(worker: PreforkWorker, how: str) -> None:
    others = worker.call("gate", str(worker.folder / f"open-{how}"))
    worker.until(lambda: worker.lines("S", f"open-{how}"), "the other task")
    _dies_once(worker, how, 3)
    (worker.folder / f"open-{how}").touch()
    assert others.get(timeout=60) == worker.lines("S", f"open-{how}")[0][1]
    assert len(worker.lines("S", f"open-{how}")) == 1, "the other task must not notice"


def test_out_of_memory_is_named(tmp_path: Path, memory_group: Path) -> None:
    into_group = ["sh", "-c", f'echo $$ > {memory_group}/cgroup.procs; exec "$@"', "sh"]
    worker = PreforkWorker(tmp_path, wrap=into_group)
    try:
        worker.until(lambda: len(worker.children()) == 2, "two children")
        _dies_once(worker, "memory", 2)
        assert "out of memory (the control group's limit is 409,600 KiB)" in _last_death(worker)
    finally:
        worker.close()


def test_three_deaths_put_it_aside_and_one_command_releases_it(worker: PreforkWorker) -> None:
    cure = worker.folder / "cure"
    poison = worker.call("die", "segfault", "poison", 100, str(cure))
    with pytest.raises(WorkerLostError, match="SIGSEGV"):
        poison.get(timeout=60)
    assert waiting(worker.app, "opsq.quarantine").ready == 1
    assert len(worker.lines("S", "poison")) == 3
    (kept,) = worker.command("quarantine", "list")["quarantined"]
    assert (kept["id"], kept["kind"], kept["task"]) == (poison.id, "poison", "prefork_app.die")
    assert [death["signal"] for death in kept["deaths"]] == [11, 11, 11]
    assert {death["pid"] for death in kept["deaths"]} == {pid for _, pid, _ in worker.lines("S", "poison")}
    cure.touch()
    assert worker.command("quarantine", "release", poison.id[:8])["queue"] == "celery"
    worker.until(lambda: worker.lines("D", "poison"), "the released task")
    assert waiting(worker.app, "opsq.quarantine").ready == 0


def test_a_death_during_the_shutdown_gives_the_message_back(tmp_path: Path) -> None:
    worker = PreforkWorker(tmp_path)
    try:
        worker.call("die_when_told", str(tmp_path / "now"))
        worker.until(lambda: worker.lines("S", "now"), "the run")
        worker.process.send_signal(signal.SIGTERM)
        worker.until(lambda: "waiting for running tasks" in worker.log.read_text(), "the shutdown")
        (tmp_path / "now").touch()
        assert worker.process.wait(60) == 0
        assert waiting(worker.app).ready == 1
        assert len(worker.lines("S", "now")) == 1, "nothing is run again by a worker that is leaving"
    finally:
        worker.close()


def _dies_once(worker: PreforkWorker, how: str, slots: int) -> None:
    """Let one task die once and measure; raises AssertionError when it took too long."""
    dying = worker.call("die", how, f"dies-{how}", 1)
    worker.until(lambda: worker.lines("S", f"dies-{how}"), "the first run")
    pid = worker.lines("S", f"dies-{how}")[0][1]
    worker.until(lambda: not psutil.pid_exists(pid), "the death")
    died = time.monotonic()
    worker.until(lambda: len(worker.children()) == slots, "the replacement")
    back_s = time.monotonic() - died
    assert dying.get(timeout=60) == "lived"
    first, second = (at for _, _, at in worker.lines("S", f"dies-{how}"))
    print(f"{how}: again after {second - first:.3f} s, child back after {back_s:.3f} s")
    assert back_s <= within(BACK_MAX_S)
    eating_s = 10.0 if how == "memory" else 0.0
    assert second - first <= within(AGAIN_MAX_S + eating_s)
    assert SAID[how] in _last_death(worker)


def _last_death(worker: PreforkWorker) -> str:
    """What the worker logged about it."""
    return worker.log.read_text()
