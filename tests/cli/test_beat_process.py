"""``opsq beat`` and ``worker -B`` as processes: in the background, beside greenlets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq import Opsq
from opsq.core.schedules.state import read_book
from opsq.core.schedules.store import open_store
from tests.cli.runner import PATIENCE_S, clean_environment
from tests.cli.worker_site import gone, until

FULL = os.environ.get("CHAOS") == "full"
MODULE = """
import pathlib, socket
from opsq import Opsq

HERE = pathlib.Path(__file__).parent
app = Opsq("ticks", data_dir=str(HERE / "data"), set_as_current=False, beat_lease_seconds=2)
app.conf.beat_schedule = {"often": {"task": "ticks.note", "schedule": 0.2}}


@app.task
def note():
    with (HERE / "notes").open("a") as file:
        print(socket.socket.__module__, file=file)
"""


class Site:
    """A folder with an app whose schedule ticks often. pids: ended with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pids: list[int] = []
        (folder / "ticks.py").write_text(MODULE)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command; what it says goes to ``out.log``."""
        with (self.folder / "out.log").open("w") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "opsq", *words],
                cwd=self.folder,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.pids.append(process.pid)
        return process

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command to its end: exit code, and what it said."""
        code = self.start(*words).wait(PATIENCE_S)
        return code, (self.folder / "out.log").read_text()

    def sent(self) -> int:
        """How many ticks the store knows."""
        app = Opsq("ticks", data_dir=str(self.folder / "data"), set_as_current=False)
        store = open_store(app.settings)
        try:
            return sum(line.state.total for line in read_book(store).lines if line.state)
        finally:
            store.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for pid in made.pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_a_beat_goes_to_the_background_and_is_stopped_through_its_pid_file(site: Site) -> None:
    code, said = site.run("beat", "-A", "ticks", "--detach", "--pidfile", "b.pid", "--logfile", "%n.log", "-n", "one")
    assert code == 0, said
    pid = int((site.folder / "b.pid").read_text())
    site.pids.append(pid)
    assert f"the beat runs in the background as process {pid}" in said
    assert os.getsid(pid) == pid
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)} == {"/dev/null"}
    until(lambda: site.sent() >= 2, "it sends")
    log = next(site.folder.glob("beat*.log"))
    assert log.stat().st_mode & 0o777 == 0o600
    assert "leads the schedule" in log.read_text()
    code, said = site.run("beat", "-A", "ticks", "-D", "--pidfile", "b.pid")
    assert code == 73
    assert f"process {pid}" in said
    os.kill(pid, signal.SIGTERM)
    until(lambda: gone(pid), "the beat ended")
    assert not (site.folder / "b.pid").exists()


def test_what_keeps_a_beat_from_starting_is_told_before_it_leaves(site: Site) -> None:
    code, said = site.run("beat", "-A", "ticks", "-D", "--store", "nowhere://")
    assert (code, "Traceback" in said) == (2, False), said
    assert "nowhere" in said


@pytest.mark.parametrize("library", ["gevent", "eventlet"] if FULL else ["gevent"])
def test_a_worker_on_greenlets_runs_the_beat_too(site: Site, library: str) -> None:
    pytest.importorskip(library)
    worker = site.start("worker", "-A", "ticks", "-P", library, "-c", "4", "-B")
    notes = site.folder / "notes"
    until(lambda: notes.exists() and len(notes.read_text().splitlines()) >= 3, "the schedule's calls ran")
    assert set(notes.read_text().split()) != {"socket"}, "the process is patched"
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
