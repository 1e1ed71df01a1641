"""The indexer's pace: a growing share of a flood, whole segments of a backlog, small portions of what trickles in."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from opsq.clock import ManualClock
from opsq.events import inverted
from opsq.events.evidence import EMPTY, encode, fold
from opsq.events.grammar import parse
from opsq.events.indexer import FEWEST, FLOOD_ROWS_PER_S, Indexer
from opsq.events.sqlite import SqliteStore
from opsq.events.sqlite_index import SqliteIndex
from opsq.events.store import Changes, TaskRow
from opsq.testing.contract_store import T0, event

EVIDENCE = encode(EMPTY)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "history.db")
    store.indexer.stop()  # the test's own takes its place
    yield store
    store.close()


def later() -> ManualClock:
    """A clock by which everything that was written has come to rest."""
    return ManualClock(time.time() + 100.0)


def test_a_flood_is_waited_out(store: SqliteStore) -> None:
    clock = later()
    indexer = Indexer(SqliteIndex(store.path, threading.Lock()), clock)
    indexer.wrote(int(3 * FLOOD_ROWS_PER_S))
    clock.advance(1.0)
    assert indexer.flooded()
    clock.advance(1.0)
    assert indexer.flooded(), "a writer that stood still for a moment is not at rest"
    clock.advance(1.0)
    assert not indexer.flooded()
    indexer.stop()


def test_a_flood_without_end_is_indexed_beside_it(store: SqliteStore) -> None:
    clock = later()
    indexer = Indexer(SqliteIndex(store.path, threading.Lock()), clock)
    shares = []
    for _ in range(400):
        indexer.wrote(int(2 * FLOOD_ROWS_PER_S))
        clock.advance(1.0)
        shares.append(indexer.share())
    assert [round(share, 2) for share in (shares[0], shares[80], shares[100], shares[200], shares[-1])] == [
        0, 0, 0.17, 0.33, 0.5,
    ]  # fmt: skip
    assert indexer.lag_s == 400.0
    assert not indexer.step(), "nothing was written after all"
    assert indexer.lag_s == 0.0
    indexer.stop()


def test_a_backlog_is_taken_in_growing_portions(store: SqliteStore) -> None:
    rows = {f"{n:032x}": TaskRow(n, f"{n:032x}", "SUCCESS", "t", "q", "w", None, EVIDENCE) for n in range(3 * FEWEST)}
    store.write(Changes(rows=rows))
    indexer = Indexer(SqliteIndex(store.path, threading.Lock()), later())
    while indexer.step():
        pass
    indexer.stop()
    with closing(sqlite3.connect(store.path)) as db:
        assert [docs for (docs,) in db.execute("SELECT docs FROM segments ORDER BY id")] == [FEWEST, 2 * FEWEST]
        assert db.execute("SELECT count(*) FROM fresh").fetchone() == (0,)


def test_keys_beyond_all_that_were_written_are_free(store: SqliteStore) -> None:
    store.write(Changes(rows={"a": TaskRow(7, "a", "SUCCESS", None, None, None, None, EVIDENCE)}))
    assert store.taken([6, 7, 8]) == {7}
    store.close()
    again = SqliteStore(store.path)
    assert again.taken([6, 7, 8]) == {7}, "also when it is opened again"
    again.close()


def failed(n: int, fingerprint: str, state: str = "FAILURE") -> TaskRow:
    id = f"{n:032x}"
    told = event("task-failed", id, T0 + n, exception="E('x')", fingerprint=fingerprint)
    return TaskRow(n, id, state, "t", "q", "w", None, encode(fold(EMPTY, [told])))


@pytest.mark.parametrize("before", [False, True], ids=["now", "from before errors were indexed"])
def test_what_failed_by_one_error_is_found(store: SqliteStore, before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [failed(n, "abc" if n % 10 == 0 else "abcd") for n in range(1, 200)]
    rows.append(failed(1_000, "abc", "RETRY"))
    store.write(Changes(rows={row.id: row for row in rows}, cells=Counter(row.cell for row in rows)))
    if before:
        monkeypatch.setattr(inverted.Builder, "add", lambda of, key, id, numbers, document, add=inverted.Builder.add:
                            add(of, key, id, numbers, document._replace(fault=None)))  # fmt: skip
    indexer = Indexer(SqliteIndex(store.path, threading.Lock()), later())
    assert indexer.step(everything=True)
    indexer.stop()
    found = store.find(parse("fault:abc").root, T0)
    assert [row.key for row in found.rows] == [*range(190, 0, -10)]
    assert found.looked == (199 if before else 19)
    assert store.count(parse("fault:abc").root, T0).value == 19
