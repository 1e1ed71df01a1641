"""``opsq events``, ``opsq top`` and ``opsq control``, as typed, against a running worker."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq import Opsq
from opsq.testing.harness import RunningWorker, running_worker, waiting
from tests.cli.runner import clean_environment, opsq
from tests.control.conftest import NODE, PATIENCE_S, until

HERE = Path(__file__).parent


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Opsq]:
    made = Opsq("shop", data_dir=str(tmp_path), set_as_current=False, worker_mingle=False)
    gate = threading.Event()

    @made.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    @made.task(name="shop.hold")
    def hold() -> None:
        gate.wait(PATIENCE_S)

    yield made
    gate.set()
    made.close()


@pytest.fixture
def worker(app: Opsq) -> Iterator[RunningWorker]:
    with running_worker(app, pool="asyncio", concurrency=2, hostname=NODE) as running:
        running.wait("listening")
        yield running


class Typed:
    """A command that goes on, and what it has printed."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = folder / "typed.log"
        with self._log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "opsq", *words, "--data-dir", str(folder)],
                stdout=sink,
                stderr=subprocess.PIPE,
                env=clean_environment() | {"PYTHONPATH": str(HERE)},
                cwd=folder,
            )
        assert self.process.stderr is not None
        assert b"broker: sqlite:///" in self.process.stderr.readline()

    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait(PATIENCE_S)


def test_events_are_printed_as_they_come(app: Opsq, worker: RunningWorker, tmp_path: Path) -> None:
    typed = Typed(tmp_path, "events", "--json", "-k", "task-*", "--task", "shop.a*")

    def heard() -> list[str]:
        app.tasks["shop.add"].delay(1, 2).get(timeout=PATIENCE_S)
        return typed.lines()

    until(heard, "events")
    app.tasks["shop.hold"].apply_async(countdown=3600)
    until(lambda: any('"task-succeeded"' in line for line in typed.lines()))
    assert typed.end() == 0
    events = [json.loads(line) for line in typed.lines()]
    assert {each["type"] for each in events} <= {"task-sent", "task-received", "task-started", "task-succeeded"}
    assert {each.get("name", "shop.add") for each in events} == {"shop.add"}
    assert {"uuid", "hostname", "timestamp", "seq", "emitter"} <= events[-1].keys()


def test_events_end_by_number_and_by_time(app: Opsq, worker: RunningWorker, tmp_path: Path) -> None:
    typed = Typed(tmp_path, "events", "-k", "worker-heartbeat", "--worker", NODE, "--count", "1")
    until(lambda: app.control.heartbeat() or typed.process.poll() is not None)
    assert typed.end() == 0
    (line,) = typed.lines()
    assert re.match(rf"\d\d:\d\d:\d\d\.\d\d\d worker-heartbeat {NODE} .*queues=\[\"celery\"\]", line)
    done = opsq("events", "--for", "0.3s", "-k", "nothing", "--data-dir", str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_camera_looks(app: Opsq, worker: RunningWorker, tmp_path: Path) -> None:
    typed = Typed(tmp_path, "events", "--camera", "camera:Counts", "-F", "0.1")

    def seen() -> bool:
        app.tasks["shop.add"].delay(1, 2).get(timeout=PATIENCE_S)
        return any("SUCCESS" in line and NODE in line for line in typed.lines())

    until(seen, "a picture")
    assert typed.end() == 0
    done = opsq("events", "--camera", "json:JSONDecoder", "--data-dir", str(tmp_path), cwd=tmp_path)
    assert "expected a subclass of opsq.events.snapshot.Polaroid" in done.stderr


def test_top_without_a_terminal_prints_once(app: Opsq, worker: RunningWorker, tmp_path: Path) -> None:
    app.tasks["shop.hold"].apply_async(queue="slow")
    done = opsq("top", "--data-dir", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0
    assert "1 workers" in done.stdout
    assert re.search(rf"{NODE} +ONLINE +0/2", done.stdout), done.stdout
    found = json.loads(opsq("top", "--json", "--data-dir", str(tmp_path), cwd=tmp_path).stdout)
    assert [each["worker"] for each in found["workers"]] == [NODE]
    assert found["queues"] == {"celery": 0}


class Terminal:
    """``opsq top`` in a terminal of its own."""

    def __init__(self, folder: Path) -> None:
        self.screen = b""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:  # the child; its environment is the test's
            os.environ.update({"TERM": "xterm-256color", "COLUMNS": "140", "LINES": "40"})
            os.execv(sys.executable, [sys.executable, "-m", "opsq", "top", "--data-dir", str(folder)])
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                return
            if not data:
                return
            self.screen = (self.screen + data)[-200_000:]

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def shows(self, text: str, since: int = 0) -> bool:
        return text in self.screen.decode(errors="replace")[since:]

    def end(self) -> int:
        self.press("q")
        _, status = os.waitpid(self._pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


def test_top_in_a_terminal_steers(app: Opsq, worker: RunningWorker, tmp_path: Path) -> None:
    later = app.tasks["shop.add"].apply_async((1, 2), countdown=3600)
    worker.wait("received", later.id)
    top = Terminal(tmp_path)
    pool = worker.worker.plan.pool
    assert pool is not None
    until(lambda: top.shows(NODE) and top.shows("ONLINE"), "the worker on the screen")
    top.press("+")
    until(lambda: pool.slots == 3, "a slot more")
    top.press("-")
    until(lambda: pool.slots == 2)
    another = app.tasks["shop.add"].apply_async((1, 2), countdown=3600)
    until(lambda: top.shows(another.id), "the task on the screen")
    top.press("\t")
    top.press("l10/m\r")
    until(lambda: app.tasks["shop.add"].rate_limit == "10/m", "the rate limit")
    top.press("r")
    until(lambda: another.state == "REVOKED", "the revocation")
    top.press("\tp")
    until(lambda: worker.worker.plan.standing.pauses(), "the pause")
    app.tasks["shop.add"].delay(1, 2)
    until(lambda: waiting(app).ready == 1)
    until(lambda: top.shows("paused"))
    top.press("p")
    until(lambda: not worker.worker.plan.standing.pauses())
    assert top.end() == 0


def test_control_keeps_an_order_though_nobody_is_there(app: Opsq, tmp_path: Path) -> None:
    def control(*words: str) -> subprocess.CompletedProcess[str]:
        return opsq("control", *words, "-t", "0.2", "--data-dir", str(tmp_path), cwd=tmp_path)

    done = control("revoke", "a-task")
    assert (done.returncode, done.stdout) == (0, "")
    assert "kept in the broker" in done.stderr
    assert control("revoke", "a-task", "-d", "w9@there").returncode == 69
    assert control("enable_events").returncode == 69
    assert control("pause", "queue=celery", "--for", "2h").returncode == 0
    sent = app.tasks["shop.add"].apply_async((1, 2), task_id="a-task")
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as running:
        running.wait("listening")
        done = opsq("inspect", "overrides", "-d", NODE, "--json", "--data-dir", str(tmp_path), cwd=tmp_path)
        (row,) = json.loads(done.stdout)[NODE]
        assert (row["what"], row["now"]) == ("queue celery", "paused")
        done = opsq("control", "resume", "queue=celery", "-d", NODE, "--data-dir", str(tmp_path), cwd=tmp_path)
        assert done.stdout == f"{NODE}: queue celery resumed\n"
        until(lambda: sent.state == "REVOKED")


def test_an_end_is_shown_and_refused_where_it_means_nothing(app: Opsq, worker: RunningWorker, tmp_path: Path) -> None:
    def control(*words: str) -> subprocess.CompletedProcess[str]:
        return opsq("control", *words, "-d", NODE, "--data-dir", str(tmp_path), cwd=tmp_path)

    done = control("rate_limit", "shop.add", "10/m", "--for", "2h")
    assert re.match(rf"{NODE}: new rate limit set successfully, until \d{{4}}-", done.stdout)
    assert "--for means nothing with it" in control("heartbeat", "--for", "2h").stderr
    assert "expected a time such as" in control("pool_grow", "--for", "soon").stderr
    shown = opsq(
        "inspect", "active_queues", "-d", NODE, "--data-dir", str(tmp_path), cwd=tmp_path, COLUMNS="140"
    ).stdout
    assert shown.splitlines()[0].split()[:3] == ["worker", "name", "exchange"]
    assert shown.splitlines()[1].split()[:2] == [NODE, "celery"]
