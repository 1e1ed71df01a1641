"""``opsq worker --autoreload`` as people use it: what is said, what goes on, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cli.runner import opsq, running, wait_for

PATIENCE_S = 60.0
APP = """
import pathlib, time
from opsq import Opsq
import lessons

app = Opsq("site_app")
HERE = pathlib.Path(__file__).parent


@app.task
def say():
    return lessons.WORD


@app.task
def gate():
    (HERE / "entered").touch()
    while not (HERE / "open").exists():
        time.sleep(0.005)
    return lessons.WORD
"""
READY = "ready"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APP)
    (tmp_path / "lessons.py").write_text("WORD = 'one'\n")
    return tmp_path


@contextmanager
def reloading(folder: Path, *more: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    words = ("worker", "-A", "site_app", "-P", "threads", "-c", "1", "--autoreload", *more)
    with running(*words, cwd=folder, ready=READY, **environment) as process:
        yield process


def said(folder: Path) -> str:
    return (folder / "worker.log").read_text()


def eventually(true: Callable[[], bool], folder: Path) -> None:
    pause = threading.Event()
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, said(folder)
        pause.wait(0.02)


def call(folder: Path, name: str = "say") -> str:
    done = opsq("call", f"site_app.{name}", "--wait", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_module_that_the_app_imports_counts_and_a_running_task_keeps_its_code(folder: Path) -> None:
    with reloading(folder) as process:
        caller = subprocess.Popen(
            [*process.args[:3], "call", "site_app.gate", "--wait"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        eventually(lambda: (folder / "entered").exists(), folder)
        (folder / "lessons.py").write_text("WORD = 'two'\n")
        wait_for(folder / "worker.log", "new tasks run the new code", process)
        assert "two" in call(folder), "though an old task still occupies the only slot of the old code"
        (folder / "open").touch()
        answer, _ = caller.communicate(timeout=PATIENCE_S)
        assert "one" in answer, "what ran before the edit ends with the code it began with"


def test_an_edit_of_the_same_length_in_the_same_second_is_seen(folder: Path) -> None:
    # Python takes a compiled file for that of any source of the same length and the same second.
    with reloading(folder, PYTHONDONTWRITEBYTECODE=""):
        assert not list(folder.rglob("*.pyc"))


def test_code_that_does_not_import_never_replaces_code_that_works(folder: Path) -> None:
    with reloading(folder) as process:
        (folder / "site_app.py").write_text(APP.replace("import lessons", "import lessons, news"))
        (folder / "news.py").write_text("import lessons\nraise RuntimeError('no news')\n")
        log = folder / "worker.log"
        wait_for(log, "goes on", process)
        line = next(line for line in said(folder).splitlines() if "goes on" in line)
        assert f"RuntimeError: no news, {folder}/news.py:2" in line
        assert "one" in call(folder)
        # A file that was never loaded before, but had a part in the failure, counts as well.
        (folder / "news.py").write_text("import lessons\nlessons.WORD = 'news'\n")
        wait_for(log, "new tasks run the new code", process)
        assert "news" in call(folder)


def test_a_signal_ends_all_generations(folder: Path) -> None:
    with reloading(folder) as process:
        eventually(lambda: len(psutil.Process(process.pid).children()) == 2, folder)  # one works, one waits
        family = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_no_generation_outlives_its_keeper(folder: Path) -> None:
    with reloading(folder) as process:
        eventually(lambda: len(psutil.Process(process.pid).children()) == 2, folder)
        family = psutil.Process(process.pid).children()
        process.kill()
        eventually(lambda: not [each for each in family if each.is_running()], folder)


def test_it_ends_when_the_worker_ends_by_itself(folder: Path) -> None:
    with reloading(folder) as process:
        eventually(lambda: len(psutil.Process(process.pid).children()) == 2, folder)
        worker = min(psutil.Process(process.pid).children(), key=lambda child: child.create_time())
        os.kill(worker.pid, signal.SIGKILL)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGKILL


def test_a_first_start_that_fails_ends_with_the_workers_own_words(folder: Path) -> None:
    (folder / "lessons.py").write_text("WORD = \n")
    done = opsq("worker", "-A", "site_app", "--autoreload", cwd=folder)
    assert done.returncode == 2
    assert "lessons.py, line 1" in done.stderr


def test_only_the_first_generation_purges(folder: Path) -> None:
    with reloading(folder, "--purge") as process:
        eventually(lambda: len(psutil.Process(process.pid).children()) == 2, folder)
        family = sorted(psutil.Process(process.pid).children(), key=lambda child: child.create_time())
        assert ["--purge" in child.cmdline() for child in family] == [True, False]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--autoreload", "-b", "memory://"), "the memory broker keeps its messages in the worker's own process"),
        (("--autoreload", "--set", "worker_autoreload_paths=absent"), "there is no absent"),
        (("--standby-fd", "99"), "--standby-fd is for opsq's own use"),
    ],
)
def test_what_cannot_work_is_refused_at_once(folder: Path, words: tuple[str, ...], why: str) -> None:
    done = opsq("worker", "-A", "site_app", *words, cwd=folder)
    assert done.returncode != 0
    assert why in done.stderr


def test_the_keeper_holds_the_pid_file_and_a_new_generation_starts_on_hup(folder: Path) -> None:
    with reloading(folder, "--pidfile", "w.pid", "--health-port", "0") as process:
        assert (folder / "w.pid").read_text() == f"{process.pid}\n"
        eventually(lambda: len(psutil.Process(process.pid).children()) == 2, folder)  # the first one serves
        process.send_signal(signal.SIGHUP)
        wait_for(folder / "worker.log", "new tasks run the new code", process)
        assert (folder / "w.pid").read_text() == f"{process.pid}\n"
        assert "another worker of this name" not in said(folder)
    assert not (folder / "w.pid").exists()


@pytest.mark.parametrize("pool", ["solo", "asyncio", "gevent", "prefork"])
def test_other_pools_reload_as_well(folder: Path, pool: str) -> None:
    with reloading(folder, "-P", pool) as process:
        (folder / "lessons.py").write_text("WORD = 'two'\n")
        wait_for(folder / "worker.log", "new tasks run the new code", process)
        assert "two" in call(folder)
