"""Signals to ``opsq worker``: what docs/worker.md promises, seen from outside."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opsq.testing.harness import waiting
from tests.cli.runner import PATIENCE_S
from tests.cli.worker_site import WorkerSite, gone, until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WorkerSite]:
    made = WorkerSite(tmp_path)
    yield made
    made.close()


def test_term_is_warm_and_a_repeat_at_once_is_the_same_request(site: WorkerSite) -> None:
    worker = site.start("-P", "threads")
    result = site.busy()
    worker.send_signal(signal.SIGTERM)
    site.said("waiting for running tasks")
    worker.send_signal(signal.SIGTERM)
    site.said("still stopping")
    site.open()
    assert worker.wait(PATIENCE_S) == 0
    assert result.get(timeout=30) > 0


def test_soft_waits_and_the_next_signal_does_not(site: WorkerSite) -> None:
    worker = site.start("-P", "prefork", "-c", "1", "--set", "worker_soft_shutdown_timeout=3600")
    site.busy()
    worker.send_signal(signal.SIGQUIT)
    site.said("how=soft")
    worker.send_signal(signal.SIGQUIT)
    assert worker.wait(PATIENCE_S) == 1
    assert waiting(site.app).ready == 1


def test_a_third_interrupt_ends_what_will_not_stop(site: WorkerSite) -> None:
    (site.folder / "stubborn").touch()
    worker = site.start("-P", "prefork", "-c", "1")
    result = site.busy()
    for said in ("how=warm", "how=cold"):
        worker.send_signal(signal.SIGINT)
        site.said(said)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_S) == 1
    assert "ending at once" in site.log.read_text()
    (site.folder / "stubborn").unlink()
    site.open()
    second = site.start("-P", "prefork", "-c", "1")
    assert result.get(timeout=PATIENCE_S) > 0
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_S) == 0


def test_a_step_that_will_not_stop_is_ended_at_the_deadline_with_its_stack(site: WorkerSite) -> None:
    (site.folder / "stubborn").touch()
    worker = site.start("-P", "threads", "--shutdown-timeout", "1")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 1
    assert "shop.py" in site.log.read_text()


def test_remapped_term_is_cold(site: WorkerSite) -> None:
    worker = site.start("-P", "prefork", "-c", "1", REMAP_SIGTERM="SIGQUIT")
    site.busy()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 1
    assert waiting(site.app).ready == 1


def test_usr1_shows_the_stacks_of_main_process_and_children(site: WorkerSite) -> None:
    worker = site.start("-P", "prefork", "-c", "1")
    site.busy()
    worker.send_signal(signal.SIGUSR1)
    site.said("stacks of all threads were written")
    text = site.log.read_text()
    assert "owner.py" in text
    assert "in gate" in text
    site.open()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


def test_hup_starts_the_same_process_again(site: WorkerSite) -> None:
    worker = site.start("-P", "threads", "--pidfile", "w.pid")
    result = site.busy()
    worker.send_signal(signal.SIGHUP)
    site.said("waiting for running tasks")
    site.open()
    until(lambda: site.log.read_text().count("  ready") == 2, "it is ready again")
    assert result.get(timeout=30) == worker.pid
    assert int((site.folder / "w.pid").read_text()) == worker.pid
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert not (site.folder / "w.pid").exists()


def test_a_detached_worker_is_stopped_through_its_pid_file(site: WorkerSite) -> None:
    starter = site.start("-P", "prefork", "-D", "--pidfile", "w.pid", "--logfile", "%n.log", "-n", "one", ready="")
    assert starter.wait(PATIENCE_S) == 0, site.log.read_text()
    pid = int((site.folder / "w.pid").read_text())
    assert f"process {pid}" in site.log.read_text()
    assert os.getsid(pid) == pid
    # Nobody of its family holds on to the terminal: `opsq worker -D | cat`, or ssh, would never come back.
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert {os.readlink(f"/proc/{one.pid}/fd/{fd}") for one in family for fd in (1, 2)} == {"/dev/null"}
    assert {(site.folder / name).stat().st_mode & 0o777 for name in ("w.pid", "one.log")} == {0o600}
    again = site.start("-P", "threads", "-D", "--pidfile", "w.pid", ready="")
    assert again.wait(PATIENCE_S) == 73
    assert f"process {pid}" in site.log.read_text()
    os.kill(pid, signal.SIGTERM)
    until(lambda: gone(pid), "the detached worker ended")
    assert not (site.folder / "w.pid").exists()
