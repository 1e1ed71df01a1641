"""Deaths of the worker itself, with pools whose tasks share its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from opsq import Opsq
from opsq.core.worker.survivor import ROWS, Survivor
from opsq.testing.harness import running_worker, waiting

APP = """
import os, signal
from opsq import Opsq
app = Opsq("shop", data_dir={folder!r}, lease_seconds=3)

@app.task(name="shop.poison")
def poison():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def made(folder: Path) -> Survivor:
    record = Survivor(folder, "opsq@here", "sqlite")
    record.open()
    return record


def crash(record: Survivor) -> None:
    """Let go of the file as a process does that is killed."""
    os.close(record._file)
    record._map = None


def test_what_ran_when_the_process_died_is_counted_once(tmp_path: Path) -> None:
    first = made(tmp_path)
    for key, task_id in enumerate(("a", "b", "c")):
        first.begin(key, task_id)
    first.end(1)
    crash(first)
    second = made(tmp_path)
    assert [second.deaths(each) for each in ("a", "b", "c", "a")] == [1, 0, 1, 0]
    second.begin(0, "a")
    crash(second)
    third = made(tmp_path)
    assert [third.deaths(each) for each in ("a", "b", "c")] == [2, 0, 1]
    third.close()


def test_an_orderly_end_leaves_nothing_behind(tmp_path: Path) -> None:
    first = made(tmp_path)
    first.begin(1, "a")
    first.close()
    first.close()
    assert made(tmp_path).deaths("a") == 0


def test_it_is_bounded_and_believes_nothing(tmp_path: Path) -> None:
    first = made(tmp_path)
    for key in range(ROWS + 5):
        first.begin(key, f"id-{key}")
    first.begin(-1, "x" * 65)
    crash(first)
    [file] = tmp_path.glob("*.deaths")
    file.write_text("[1, 2")
    second = made(tmp_path)
    assert second.deaths("id-0") == 1
    assert len(json.loads(file.read_bytes())) <= 1_000
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_a_second_worker_of_the_name_does_without(tmp_path: Path) -> None:
    first, second = made(tmp_path), made(tmp_path)
    second.begin(1, "a")
    second.close()
    first.begin(1, "b")
    crash(first)
    assert made(tmp_path).deaths("b") == 1


def test_a_task_that_kills_its_worker_three_times_is_set_aside(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "shop.py").write_text(APP.format(folder=str(data)))
    app = Opsq("shop", data_dir=str(data), lease_seconds=3, set_as_current=False)
    app.send_task("shop.poison", task_id="id-1")
    words = [sys.executable, "-m", "opsq", "worker", "-A", "shop", "-P", "threads", "-c", "1", "-n", "one@here"]
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": os.getcwd()}
    for _ in range(3):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, timeout=30, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    app.task(name="shop.poison")(lambda: None)
    with running_worker(app, pool="threads", concurrency=1, hostname="one@here"):
        failed = app.AsyncResult("id-1").get(timeout=15, propagate=False)
    assert "died while it ran the task" in str(failed)
    assert (waiting(app).ready, waiting(app, "opsq.quarantine").ready) == (0, 1)
    app.close()
