"""A worker as a process: signals, exit codes, and what children that die cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.errors import TimeLimitExceeded, WorkerLostError
from opsq.testing.harness import waiting

PATIENCE_S = 60.0
MODULE = """
import os, pathlib, signal, sys, time
from opsq import Opsq
from opsq.core.worker.worker import Worker

HERE = pathlib.Path(__file__).parent
app = Opsq("site_tasks", data_dir=str(HERE / "data"))


@app.task
def add(x, y):
    return x + y


@app.task
def gate(name):
    (HERE / f"{name}.entered").touch()
    while not (HERE / f"{name}.open").exists():
        time.sleep(0.005)
    return os.getpid()


@app.task
def die(times):
    marks = [n for n in range(times) if not (HERE / f"mark{n}").exists()]
    if not marks:
        return "lived"
    (HERE / f"mark{marks[0]}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


if sys.argv[1:] == ["prefork"]:  # other pools would refuse to start with it

    @app.task(time_limit=0.3)
    def endless():
        while True:
            time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(Worker(app, pool=sys.argv[1], concurrency=2).run())
"""


class Site:
    """A module with tasks, its app in this process, and a worker process of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = Opsq("site_tasks", data_dir=str(folder / "data"), set_as_current=False)
        self.worker: subprocess.Popen[str] | None = None
        (folder / "site_tasks.py").write_text(MODULE)

    def start(self, pool: str) -> subprocess.Popen[str]:
        self.worker = subprocess.Popen(
            [sys.executable, str(self.folder / "site_tasks.py"), pool], text=True, stderr=subprocess.PIPE
        )
        return self.worker

    def call(self, name: str, *args: Any) -> Any:
        return self.app.send_task(f"site_tasks.{name}", args)

    def entered(self, name: str) -> None:
        """Wait until the gate of this name has been entered."""
        mark, worker = self.folder / f"{name}.entered", self.worker
        assert worker is not None
        pause = threading.Event()
        while not mark.exists():
            assert worker.poll() is None
            pause.wait(0.01)

    def open(self, name: str) -> None:
        (self.folder / f"{name}.open").touch()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    if made.worker is not None:
        made.worker.kill()
        made.worker.communicate()
    made.app.close()


@pytest.mark.parametrize("pool", ["threads", "prefork", "asyncio"])
def test_term_finishes_what_runs(site: Site, pool: str) -> None:
    worker = site.start(pool)
    running = site.call("gate", "a")
    site.entered("a")
    worker.send_signal(signal.SIGTERM)
    site.open("a")
    assert worker.wait(PATIENCE_S) == 0
    assert running.get(timeout=PATIENCE_S) > 0


@pytest.mark.parametrize("pool", ["threads", "prefork", "asyncio"])
def test_a_second_interrupt_returns_what_runs(site: Site, pool: str) -> None:
    worker = site.start(pool)
    site.call("gate", "a")
    site.entered("a")
    worker.send_signal(signal.SIGINT)
    assert worker.stderr is not None
    while "waiting for running tasks" not in worker.stderr.readline():
        assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_S) == 1
    assert waiting(site.app).ready == 1


def test_quit_is_cold_at_once(site: Site) -> None:
    worker = site.start("threads")
    site.call("gate", "a")
    site.entered("a")
    worker.send_signal(signal.SIGQUIT)
    assert worker.wait(PATIENCE_S) == 1
    assert waiting(site.app).ready == 1


def test_prefork_kill_nine_costs_one_redelivery(site: Site) -> None:
    site.start("prefork")
    assert site.call("die", 2).get(timeout=PATIENCE_S) == "lived"
    assert site.call("add", 1, 2).get(timeout=PATIENCE_S) == 3


def test_prefork_sets_a_poisonous_message_aside(site: Site) -> None:
    site.start("prefork")
    poison = site.call("die", 100)
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        poison.get(timeout=PATIENCE_S)
    assert len([mark for mark in os.listdir(site.folder) if mark.startswith("mark")]) == 3
    assert waiting(site.app, "opsq.quarantine").ready == 1
    assert site.call("add", 1, 2).get(timeout=PATIENCE_S) == 3


def test_prefork_hard_limit(site: Site) -> None:
    site.start("prefork")
    with pytest.raises(TimeLimitExceeded):
        site.call("endless").get(timeout=PATIENCE_S)
    assert site.call("add", 1, 2).get(timeout=PATIENCE_S) == 3
