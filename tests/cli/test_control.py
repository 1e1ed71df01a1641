"""``opsq status``, ``inspect`` and ``control`` as typed, against a worker on the embedded broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq import Opsq
from opsq.testing.harness import RunningWorker, running_worker
from tests.cli.runner import opsq

NODE = "w1@here"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[RunningWorker]:
    app = Opsq("shop", data_dir=str(folder), set_as_current=False, worker_mingle=False)

    @app.task(name="shop.add", rate_limit="10/s")
    def add(x: int, y: int) -> int:
        return x + y

    with running_worker(app, pool="threads", concurrency=2, hostname=NODE) as running:
        running.wait("listening")
        yield running
    app.close()


def ask(folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of ``opsq WORDS``."""
    done = opsq(*words, "--data-dir", str(folder), cwd=folder)
    return done.returncode, done.stdout, done.stderr


def test_status(worker: RunningWorker, folder: Path) -> None:
    code, out, complaints = ask(folder, "status", "-d", NODE)
    assert (code, out) == (0, f"{NODE}: OK\n1 worker online\n")
    assert complaints.startswith("broker: sqlite:///")
    assert json.loads(ask(folder, "status", "-d", NODE, "--json")[1]) == {"online": [NODE]}


def test_inspect(worker: RunningWorker, folder: Path) -> None:
    assert ask(folder, "inspect", "registered", "-d", NODE)[1] == f"{NODE}: \n    shop.add [rate_limit=10/s]\n"
    assert ask(folder, "inspect", "active", "-d", NODE)[1] == f"{NODE}: none\n"
    stats = json.loads(ask(folder, "inspect", "--json", "-d", NODE, "stats")[1])
    assert stats[NODE]["pool"]["max-concurrency"] == 2
    assert ask(folder, "inspect", "dump_revoked", "-d", NODE)[0] == 0


def test_control(worker: RunningWorker, folder: Path) -> None:
    code, out, _ = ask(folder, "control", "rate_limit", "shop.add", "600/m", "-d", NODE)
    assert (code, out) == (0, f"{NODE}: new rate limit set successfully\n")
    assert worker.worker.app.tasks["shop.add"].rate_limit == "600/m"
    code, out, _ = ask(folder, "control", "rate_limit", "nobody", "600/m", "-d", NODE)
    assert (code, out) == (1, f"{NODE}: error: unknown task\n")
    code, out, _ = ask(folder, "control", "terminate", "KILL", "a", "b", "-d", NODE, "--json")
    assert (code, json.loads(out)) == (0, {NODE: {"ok": "terminate: tasks unknown"}})


def test_nobody_answers(tmp_path: Path) -> None:
    for words in (("status",), ("inspect", "ping"), ("control", "enable_events")):
        code, out, complaints = ask(tmp_path, *words, "-t", "0.1")
        assert code == 69, words
        assert "no worker answered" in complaints or out == "0 workers online\n"


def test_one_of_those_named_does_not_answer(worker: RunningWorker, folder: Path) -> None:
    code, out, complaints = ask(folder, "inspect", "ping", "-d", f"{NODE},w2@here", "-t", "0.5")
    assert (code, out) == (69, f"{NODE}: pong\n")
    assert "no answer from w2@here" in complaints


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("inspect", "activ"), "Did you mean 'active'?"),
        (("inspect", "revoke", "x"), "`opsq control revoke`"),
        (("control", "stats"), "`opsq inspect stats`"),
        (("control", "rate_limit", "x"), "needs rate_limit; write: rate_limit <task_name> <rate_limit>"),
        (("control", "pool_grow", "two"), "expected integer, got 'two'"),
        (("control", "own_command", "bare"), "name=value"),
    ],
)
def test_typing_errors(tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    code, _, complaints = ask(tmp_path, *words)
    assert code not in (0, 69)
    assert complaint in complaints
