"""The first program of Celery's README: only its import is edited, and opsq runs it on the same broker."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import cases, peers
from tests.interop.peers import Peer, Place

HELLO = """\
from celery import Celery

app = Celery('hello', broker='{broker}')

@app.task
def hello():
    return 'hello world'
"""
WITH_RESULTS = HELLO.replace("broker='{broker}'", "broker='{broker}', backend='{results}'")
ASK = "from hello import hello; print(hello.delay().get(timeout=20))"
JUST_SEND = "from hello import hello; print(hello.delay().id)"


def edited(program: str) -> str:
    """The migration: the import, and nothing else."""
    assert program.count("celery") == 1
    return program.replace("from celery import", "from opsq import")


def write(folder: Path, place: Place, program: str) -> Path:
    """Save the program as it would be written for this place."""
    folder.mkdir(exist_ok=True)
    (folder / "hello.py").write_text(program.format(broker=place.broker, results=place.results))
    return folder


def ask(library: str, folder: Path, question: str) -> str:
    """Run a line of Python beside the program, with the interpreter of a library."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPSQ_", "CELERY_"))}
    done = subprocess.run(
        [peers.python_of(library), "-c", question], cwd=folder, env=clean, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def hello_worker(place: Place, tmp_path: Path) -> Iterator[Peer]:
    """``opsq -A hello worker`` on the edited program."""
    write(tmp_path, place, edited(WITH_RESULTS))
    peer = peers.spawn(place, "opsq", "hello", "-m", "opsq", "-A", "hello", "worker", "-c", "2", settings={})
    try:
        peer.wait_for("ready")
        yield peer
    finally:
        peer.stop()


def test_hello_world_needs_only_its_import_edited(hello_worker: Peer, tmp_path: Path) -> None:
    assert ask("opsq", tmp_path, ASK) == "hello world"


def test_the_old_program_calls_the_new_worker(hello_worker: Peer, place: Place, tmp_path: Path) -> None:
    old = write(tmp_path / "old", place, WITH_RESULTS)
    assert ask("celery", old, ASK) == "hello world"


def test_hello_world_without_a_result_store(place: Place, tmp_path: Path) -> None:
    write(tmp_path, place, edited(HELLO))
    peer = peers.spawn(place, "opsq", "hello", "-m", "opsq", "-A", "hello", "worker", "-c", "2", settings={})
    try:
        peer.wait_for("ready")
        task_id = ask("opsq", tmp_path, JUST_SEND)
        cases.until(lambda: f"task_id={task_id}" in peer.text(), "the run in the worker's log")
    finally:
        peer.stop()
