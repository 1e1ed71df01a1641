"""The SQLite history: one writer, no file from the future, a clear word when a file cannot be used."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from opsq.errors import StoreUnavailable
from opsq.events.sqlite import SqliteStore
from opsq.events.sqlite_schema import VERSION, id_hash, prefix_range
from opsq.events.store import Changes, Where
from opsq.testing.contract_store import row


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    """Two monitors on one file would count twice."""
    first = SqliteStore(tmp_path / "history.db")
    with pytest.raises(StoreUnavailable, match=f"another monitor \\(process {os.getpid()}\\) writes"):
        SqliteStore(tmp_path / "history.db")
    first.close()
    SqliteStore(tmp_path / "history.db").close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """Downgrading opsq must not ruin history."""
    path = tmp_path / "history.db"
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(StoreUnavailable, match="newer opsq"):
        SqliteStore(path)


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    """And the lock is let go, so that the next attempt is not told a second untruth."""
    path = tmp_path / "history.db"
    path.write_bytes(b"this is not a database, but long enough to be mistaken for one" * 100)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="not a database"):
            SqliteStore(path)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Late readers get a clear error."""
    store = SqliteStore(tmp_path / "history.db")
    store.close()
    with pytest.raises(StoreUnavailable):
        store.write(Changes(rows={"a": row("a", 1)}))
    with pytest.raises(StoreUnavailable, match="closed"):
        store.tasks(Where(), 1)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """One transaction: rows, counts and names together or not at all."""
    store = SqliteStore(tmp_path / "history.db")
    good = Changes(rows={"a": row("a", 1, type="new.type")}, cells={("SUCCESS", "new.type", None, None): 1})
    bad = Changes(rows=good.rows, cells=good.cells, workers={"w": object()})  # type: ignore[dict-item]
    with pytest.raises(StoreUnavailable):
        store.write(bad)
    assert store.tasks(Where(), 10) == []
    assert dict(store.restore().cells) == {}
    store.write(good)
    assert [found.type for found in store.tasks(Where(), 10)] == ["new.type"]
    store.close()


def test_new_and_changed_rows_of_one_write_are_told_apart(tmp_path: Path) -> None:
    """Also a new row between old ones, and rows that come again after a write that failed."""
    store = SqliteStore(tmp_path / "history.db")
    store.write(Changes(rows={"a": row("a", 10), "c": row("c", 30)}))
    assert store.index()
    changed = row("c", 30, state="FAILURE")
    rows = {"b": row("b", 20, type="new.type"), "c": changed, "d": row("d", 40, root="c")}
    with pytest.raises(StoreUnavailable):
        store.write(Changes(rows=rows, workers={"w": object()}))  # type: ignore[dict-item]
    assert [found.id for found in store.tasks(Where(), 10)] == ["c", "a"]
    store.write(Changes(rows=rows))
    store.write(Changes(rows={"e": row("e", 50)}))
    assert [(found.id, found.state) for found in store.tasks(Where(), 10)] == [
        *(("e", "SUCCESS"), ("d", "SUCCESS"), ("c", "FAILURE"), ("b", "SUCCESS"), ("a", "SUCCESS")),
    ]
    with sqlite3.connect(store.path) as db:
        fresh = db.execute("SELECT key, again FROM fresh ORDER BY key").fetchall()
    db.close()
    assert fresh == [(20, 0), (30, 1), (40, 0), (50, 0)]
    assert [found.id for found in store.relatives("c", 10)] == ["d"]
    store.close()


def test_killed_while_writing_it_opens_with_whole_transactions(tmp_path: Path) -> None:
    """SIGKILL in the middle of many writes: every row has its count."""
    script = (
        "import sys\n"
        "from opsq.events.sqlite import SqliteStore\n"
        "from opsq.events.store import Changes\n"
        "from opsq.testing.contract_store import row\n"
        "store = SqliteStore(sys.argv[1])\n"
        "for n in range(10**6):\n"
        "    rows = {f't{n}-{i}': row(f't{n}-{i}', n * 100 + i) for i in range(10)}\n"
        "    store.write(Changes(rows=rows, cells={('SUCCESS', 'app.add', 'celery', 'opsq@one'): 10}))\n"
        "    if n == 20:\n"
        "        print('writing', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "history.db")], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as out:
        assert out.readline() == b"writing\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    store = SqliteStore(tmp_path / "history.db")
    rows = store.tasks(Where(), 10**6)
    assert len(rows) >= 210
    assert dict(store.restore().cells) == {("SUCCESS", "app.add", "celery", "opsq@one"): len(rows)}
    store.close()


def test_ids_that_begin_alike_are_side_by_side() -> None:
    """The start of a UUID is a range of numbers; other ids have a number too."""
    low, high = prefix_range("7f3ac91e") or (0, 0)
    assert low <= id_hash("7f3ac91e-1111-4000-8000-000000000000") <= high
    assert not low <= id_hash("8f3ac91e-1111-4000-8000-000000000000") <= high
    assert prefix_range("order-17") is None
    assert 0 <= id_hash("order-17") < 2**63
    assert id_hash("\ud800") >= 0
