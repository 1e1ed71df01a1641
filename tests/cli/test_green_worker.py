"""Workers on greenlets, as people start them: patched first, limits kept, nothing lost at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from opsq.cli.relaunch import interpreter_options
from tests.cli.runner import PATIENCE_S, clean_environment, opsq, running

APP = """\
import os, socket, threading, time
import opsq
from opsq.errors import SoftTimeLimitExceeded

app = opsq.Opsq('green')

@app.task
def nap(seconds):
    time.sleep(seconds)
    return 'rested'

@app.task(soft_time_limit=0.2)
def softly():
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return 'cleaned up'

@app.task(time_limit=0.2)
def hardly():
    try:
        time.sleep(30)
    except Exception:
        return 'swallowed'

@app.task(bind=True)
def who(self):
    before = self.request.id
    time.sleep(0.05)
    return before == self.request.id == opsq.current_task.request.id and before

@app.task
def note(number):
    time.sleep(0.001 if os.path.exists('hurry') else 0.05)
    with open('notes', 'a') as file:
        print(number, file=file)

@app.task
def about():
    return [socket.socket.__module__, threading.current_thread().name != 'MainThread']
"""
ASK = """\
import time
from green import about, hardly, nap, softly, who
begun = time.monotonic()
naps = [nap.delay(0.5) for _ in range(20)]
limited = softly.delay(), hardly.delay()
print(about.delay().get(timeout=20))
print([nap.get(timeout=20) for nap in naps] == ['rested'] * 20, time.monotonic() - begun < 8)
print(all([each.get(timeout=20) == each.id for each in [who.delay() for _ in range(20)]]))
print(limited[0].get(timeout=20))
error = limited[1].get(timeout=20, propagate=False)
print(type(error).__name__, error.args)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "green.py").write_text(APP)
    return tmp_path


def ask(program: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=clean_environment(), capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_tasks_wait_beside_each_other_and_keep_their_limits(folder: Path, library: str) -> None:
    with running("worker", "-A", "green", "-P", library, "-c", "25", cwd=folder, ready="ready") as worker:
        told = ask(ASK, folder).splitlines()
    assert told[0].startswith(f"['{library}.")
    assert told[1:] == ["True True", "True", "cleaned up", "TimeLimitExceeded (0.2,)"]
    assert worker.returncode == 0
    assert f"{library} has patched the standard library" in (folder / "worker.log").read_text()


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_warm_stop_finishes_and_a_cold_one_gives_back(folder: Path, library: str) -> None:
    words = ("worker", "-A", "green", "-P", library, "-c", "2")
    with running(*words, "--prefetch-multiplier", "2", "--shutdown-timeout", "0.3", cwd=folder, ready="ready"):
        ask("from green import nap; [nap.delay(s) for s in (30, 30, 0.01)]", folder)
        with_both = "import time\nfrom green import app\nwhile app.queue_depths(['celery'])['celery']: time.sleep(0.02)"
        ask(with_both, folder)
    depth = ask("from green import app; print(app.queue_depths(['celery'])['celery'])", folder)
    assert depth == "3\n"


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_stopped_under_load_nothing_is_lost_or_done_twice(folder: Path, library: str) -> None:
    words, notes = ("worker", "-A", "green", "-P", library, "-c", "5"), folder / "notes"
    ask("from green import app, note; app.send_many([note.s(number) for number in range(400)])", folder)
    with running(*words, cwd=folder, ready="ready"):
        wait_until(lambda: notes.exists() and notes.read_text().count("\n") >= 50)
    first = notes.read_text().count("\n")
    assert 50 <= first < 400  # four seconds of work, so that there is some left when it hears of the end
    (folder / "hurry").touch()
    with running(*words, cwd=folder, ready="ready"):
        wait_until(lambda: notes.read_text().count("\n") >= 400)
    assert sorted(map(int, notes.read_text().split())) == list(range(400))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("origin", ["environment", "file", "app", "up"])
def test_whoever_chooses_the_pool_it_is_patched_first(folder: Path, origin: str) -> None:
    words, environment, name = ["worker", "-A", "green"], {}, "worker"
    if origin == "environment":
        environment["OPSQ_WORKER_POOL"] = "gevent"
    elif origin == "file":
        (folder / "opsq.toml").write_text('worker_pool = "gevent"\n')
    elif origin == "app":
        (folder / "green.py").write_text(APP + "app.conf.worker_pool = 'gevent'\n")
    else:
        words, name = ["up", "-A", "green", "-P", "gevent", "--port", "0"], "up"
    with running(*words, cwd=folder, ready="gevent has patched", **environment):
        assert ask("from green import about; print(about.delay().get(timeout=20)[0])", folder).startswith("gevent.")
    assert "ready" in (folder / f"{name}.log").read_text()


def test_the_folder_of_workdir_is_taken_from_where_the_command_was_typed(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "green.py").write_text(APP)
    done = opsq("worker", "--workdir", "below", "-A", "green", "-P", "gevent", "--explain", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_coroutines_are_refused_in_one_sentence(folder: Path) -> None:
    (folder / "green.py").write_text(APP + "@app.task\nasync def later(): ...\n")
    done = opsq("worker", "-A", "green", "-P", "gevent", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == (
        "opsq: the gevent pool has no event loop for coroutines, and green.later is async def (from worker_pool); "
        "choose -P asyncio, or write it as an ordinary function\n"
    )


def test_coroutines_that_another_package_shares_are_not_refused_but_named(folder: Path) -> None:
    shared = "from opsq import shared_task\n@shared_task\nasync def theirs(): ...\n"
    (folder / "green.py").write_text(APP + shared)
    with running("worker", "-A", "green", "-P", "gevent", cwd=folder, ready="ready"):
        pass
    assert "are coroutines and may fail: green.theirs" in (folder / "worker.log").read_text()


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_missing_library_is_one_sentence(folder: Path, library: str) -> None:
    blocked = folder / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {library!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    done = opsq("worker", "-A", "green", "-P", library, cwd=folder, PYTHONPATH=str(blocked))
    assert done.returncode == 2
    assert done.stderr == (
        f'opsq: the {library} pool needs the package {library}, which is not installed; pip install "opsq[{library}]"\n'
    )


def test_a_program_that_did_not_patch_is_told_how(folder: Path) -> None:
    program = "from green import app; app.worker_main(['-P', 'gevent'])"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "start the worker with opsq worker -P gevent, or patch in the first line" in done.stderr


@pytest.mark.parametrize(
    ("command", "words", "options"),
    [
        (["python", "-m", "opsq", "worker", "-P", "gevent"], 3, []),
        (["python", "-X", "dev", "-W", "error", "-m", "opsq", "worker"], 1, ["-X", "dev", "-W", "error"]),
        (["python", "/usr/bin/opsq", "worker"], 1, []),
        (["python", "-I", "/usr/bin/opsq"], 0, ["-I"]),
    ],
)
def test_options_of_python_itself_are_kept(command: list[str], words: int, options: list[str]) -> None:
    assert interpreter_options(command, words) == options


def test_in_the_background_it_is_patched_too_when_the_app_chose_the_pool(folder: Path) -> None:
    """Whoever typed the command waits for the process that was replaced meanwhile, and hears that it runs."""
    (folder / "green.py").write_text(APP + "app.conf.worker_pool = 'gevent'\n")
    done = opsq("worker", "-A", "green", "-D", "--pidfile", "w.pid", cwd=folder)
    assert (done.returncode, "runs in the background as process" in done.stdout) == (0, True), done
    pid = int((folder / "w.pid").read_text())
    try:
        assert f"process {pid}" in done.stdout
        assert ask("from green import about; print(about.delay().get(timeout=20)[0])", folder).startswith("gevent.")
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (folder / "w.pid").exists())
