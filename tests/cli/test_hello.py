"""The six-line program of the README, with the broker URL dropped, answers a second process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runner import clean_environment, opsq, running

HELLO = """\
from opsq import Celery

app = Celery('hello')

@app.task
def hello():
    return 'hello world'
"""
ASK = "from hello import hello; print(hello.delay().get(timeout=20))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.py").write_text(HELLO)
    return tmp_path


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo", "gevent", "eventlet"])
def test_hello_world_answers_a_second_process(folder: Path, pool: str) -> None:
    with running("worker", "-A", "hello", "-P", pool, "-c", "2", cwd=folder, ready="ready"):
        answer = subprocess.run(
            [sys.executable, "-c", ASK], cwd=folder, env=clean_environment(), capture_output=True, text=True, check=True
        )
    assert answer.stdout == "hello world\n"
    assert sorted(path.name for path in (folder / ".opsq").glob("*.db")) == ["broker.db", "results.db"]


def test_call_and_result_speak_json(folder: Path) -> None:
    with running("worker", "-A", "hello", "-P", "threads", cwd=folder, ready="ready"):
        called = opsq("call", "hello.hello", "--wait", "--json", cwd=folder)
        assert called.returncode == 0, called.stderr
        assert '"result": "hello world"' in called.stdout
        task_id = called.stdout.split('"id": "')[1].split('"')[0]
        shown = opsq("result", task_id, cwd=folder)
    assert shown.stdout == "'hello world'\n"


def test_app_option_is_accepted_before_and_after_the_command(folder: Path) -> None:
    for words in (("-A", "hello", "purge", "-f"), ("purge", "-A", "hello", "-f")):
        done = opsq(*words, cwd=folder)
        assert (done.returncode, done.stdout) == (0, "celery: 0 deleted\n"), done.stderr


def test_purge_counts_what_it_deletes(folder: Path) -> None:
    for _ in range(3):
        assert opsq("call", "hello.hello", cwd=folder).returncode == 0
    done = opsq("purge", "-f", "--json", cwd=folder)
    assert done.stdout == '{"deleted": {"celery": 3}}\n'
