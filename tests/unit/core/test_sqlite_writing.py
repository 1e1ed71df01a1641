"""What is kept in SQLite files says why it cannot be written, and can be again when there is room."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from opsq.core.backends.sqlite import SqliteBackend
from opsq.core.schedules.store_sqlite import SqliteStore
from opsq.core.sqlite_writing import writing
from opsq.errors import Unavailable

LARGE = bytes(1_000_000)


class Kept(NamedTuple):
    """using: its connection. write: keep bytes."""

    using: Callable[[], AbstractContextManager[sqlite3.Connection]]
    write: Callable[[bytes], Any]


@pytest.fixture(params=["results", "schedules"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "results":
        backend = SqliteBackend(str(tmp_path / "results.db"))
        backend.chord_open("g", 1, None)
        yield Kept(backend._using, lambda data: backend.chord_part("g", "t", 0, data, "token", 5.0, None))
        backend.close()
    else:
        store = SqliteStore(str(tmp_path / "beat.db"))
        token = store.acquire("me", 60)
        assert token is not None
        yield Kept(store._using, lambda data: store.write(token, {"entry": data}))
        store.close()


def test_a_full_disk_is_said_and_got_over(kept: Kept) -> None:
    with kept.using() as db:
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 5}")
    with pytest.raises(Unavailable, match="database or disk is full"):
        kept.write(LARGE)
    with kept.using() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    assert kept.write(LARGE)


def test_what_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    db.execute("CREATE TABLE t (x)")

    def fail_half_way() -> None:
        with writing(db):
            db.execute("INSERT INTO t VALUES (1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with writing(db):
        db.execute("INSERT INTO t VALUES (2)")
    assert db.execute("SELECT x FROM t").fetchall() == [(2,)]
    db.close()
