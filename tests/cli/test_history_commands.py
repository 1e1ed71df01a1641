"""``opsq tasks`` and ``opsq migrate`` on a real file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opsq.events.cluster import Cluster
from opsq.events.store import Changes
from opsq.events.stores import open_store
from opsq.testing.contract_store import T0, life
from tests.servers_sql import history_server, new_database


def filled(url: str) -> str:
    """A history of three tasks, one of them failed."""
    store = open_store(url)
    cluster = Cluster(store)
    events = [*life("a1", T0), *life("b2", T0 + 1, end="task-failed"), *life("c3", T0 + 2, name="mail.send")]
    cluster.apply(events, T0 + 5)
    store.write(cluster.take())
    store.close()
    return url


@pytest.fixture
def url(tmp_path: Path) -> str:
    """That history in a file."""
    return filled(f"sqlite:///{tmp_path}/history.db")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The command as people type it."""
    return subprocess.run([sys.executable, "-m", "opsq", *words], capture_output=True, text=True, timeout=30)


def test_tasks_finds_prints_and_points_at_faults(url: str) -> None:
    """A table, JSON, nothing found, a fault with its column."""
    done = run("tasks", "--store", url, "state:failed", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, [task["id"] for task in found["tasks"]], found["total"]) == (0, ["b2"], 1)
    table = run("tasks", "--store", url, "--columns", "id,type")
    assert table.stdout.split() == ["ID", "TYPE", "c3", "mail.send", "b2", "app.add", "a1", "app.add"]
    assert run("tasks", "--store", url, "nowhere").returncode == 1
    wrong = run("tasks", "--store", url, "x stat:failed")
    assert wrong.returncode == 64
    assert "column 3: stat: is not a field; did you mean state:" in wrong.stderr


def test_migrate_says_what_is_to_be_done(url: str, tmp_path: Path) -> None:
    """Nothing for a present history, something for one that is not there yet."""
    assert run("migrate", "--store", url, "--check").returncode == 0
    fresh = f"sqlite:///{tmp_path}/other.db"
    assert run("migrate", "--store", fresh, "--check").returncode == 1
    assert "done: 0 to" in run("migrate", "--store", fresh).stdout
    assert run("migrate", "--store", fresh, "--check").returncode == 0


def test_tasks_reads_postgresql() -> None:
    """The same command on a database."""
    with history_server() as server:
        url = filled(new_database(server))
        found = json.loads(run("tasks", "--store", url, "type:mail.* OR b2", "--json").stdout)
        assert [task["id"] for task in found["tasks"]] == ["c3", "b2"]
        assert run("history", "rebuild", "--store", url).returncode == 0


def test_follow_goes_on_with_what_arrives(url: str) -> None:
    """What is there, then what comes and fits, each once, while a monitor writes."""
    words = [sys.executable, "-m", "opsq", "tasks", "--store", url, "type:app.*", "--follow", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        assert [task["id"] for task in first["tasks"]] == ["b2", "a1"]
        store = open_store(url)
        cluster = Cluster(store)
        cluster.apply([*life("d4", T0 + 6, name="mail.send"), *life("e5", T0 + 7)], T0 + 9)
        store.write(cluster.take())
        assert json.loads(following.stdout.readline())["id"] == "e5"
        cluster.apply(life("f6", T0 + 10), T0 + 12)
        store.write(cluster.take())
        assert json.loads(following.stdout.readline())["id"] == "f6"
        store.close()
        following.terminate()


def test_rebuild_finds_and_puts_right(url: str, tmp_path: Path) -> None:
    """Nothing differs; a spoilt count does, until it is written; where there is no history it says so."""
    assert run("history", "rebuild", "--store", url).returncode == 0
    store = open_store(url)
    store.write(Changes(cells={("SUCCESS", "app.add", "celery", "opsq@one"): 2}))
    busy = run("history", "rebuild", "--store", url)
    assert (busy.returncode != 0, "another monitor" in busy.stderr) == (True, True)
    store.close()
    told = run("history", "rebuild", "--store", url)
    assert told.returncode == 1
    assert "count SUCCESS app.add celery opsq@one: kept 3, derived 1" in told.stdout
    written = json.loads(run("history", "rebuild", "--store", url, "--write", "--json").stdout)
    assert (written["written"], written["different"]["count"], written["checked"]["row"]) == (True, 1, 3)
    assert run("history", "rebuild", "--store", url).returncode == 0
    nowhere = run("history", "rebuild", "--store", f"sqlite:///{tmp_path}/nowhere.db")
    assert nowhere.returncode != 0
    assert "there is no history" in nowhere.stderr
