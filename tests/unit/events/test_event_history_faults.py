"""History through upgrades, a full disk, and two monitors on one database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from opsq.clock import ManualClock
from opsq.errors import StoreUnavailable
from opsq.events.cluster import Cluster
from opsq.events.grammar import parse
from opsq.events.postgres import PostgresStore
from opsq.events.postgres_schema import VERSION as POSTGRES_VERSION
from opsq.events.query import Query
from opsq.events.rebuild import rebuild
from opsq.events.rollup import decode_slice
from opsq.events.sqlite import SqliteStore, versions
from opsq.events.sqlite_schema import VERSION
from opsq.events.store import Changes, Store, Where
from opsq.events.stores import open_store
from opsq.events.views import Views
from opsq.testing.contract_store import T0, event, life, logged, row
from opsq.testing.postgres_server import PostgresServer
from opsq.wire.event import Event
from tests.servers_sql import history_server, new_database

KEPT = Path(__file__).parent / "history_versions"


def test_there_is_a_kept_history_of_every_earlier_version() -> None:
    """A migration that nobody tries on real rows is a guess."""
    assert sorted(path.name for path in KEPT.glob("sqlite_*.sql")) == [f"sqlite_{n}.sql" for n in range(1, VERSION)]
    kept = sorted(path.name for path in KEPT.glob("postgres_*.sql"))
    assert kept == [f"postgres_{n}.sql" for n in range(1, POSTGRES_VERSION)]


@pytest.mark.parametrize("script", sorted(KEPT.glob("sqlite_*.sql")), ids=lambda path: str(path.stem))
def test_an_earlier_version_is_brought_up_to_date(script: Path, tmp_path: Path) -> None:
    """Rows, counts and searches are there afterwards, indexed or not."""
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as db:
        db.executescript(script.read_text())
    db.close()
    assert versions(f"sqlite:///{path}") == (int(script.stem.rpartition("_")[2]), VERSION)
    store = SqliteStore(path)
    assert_all_there(store)
    store.close()


def assert_all_there(store: Store) -> None:
    """The three tasks of the kept histories, and room for new lines beside an old one in its row."""
    for _ in range(2):
        assert [found.id for found in store.tasks(Where(), 10)] == ["task-2", "task-1", "task-0"]
        assert [found.id for found in store.find(parse("state:failed").root, T0).rows] == ["task-2"]
        assert sum(store.restore().cells.values()) == 3
        while store.index():
            continue
    cluster = Cluster(store)
    cluster.apply([logged("task-0", T0 + 0.16, "kept apart")], T0 + 1)
    store.write(cluster.take())
    detail = Query(store, cluster).task("task-0")
    assert detail is not None
    told = [each["lines"][0][3] for each in detail.others]
    assert told[-1] == "kept apart"
    assert set(told[:-1]) <= {"kept in the row", "kept since"}


def test_a_full_disk_loses_nothing_that_is_tried_again(tmp_path: Path) -> None:
    """The write fails whole, reading goes on, and with room again the same batch is taken."""
    store = SqliteStore(tmp_path / "history.db")
    store.write(Changes(rows={"a": row("a", 1)}))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    more = Changes(rows={f"t{n}": row(f"t{n}", n + 2) for n in range(500)}, cells={("SUCCESS", "a", "q", "w"): 500})
    with pytest.raises(StoreUnavailable, match="full"):
        store.write(more)
    assert [found.id for found in store.tasks(Where(), 10)] == ["a"]
    assert dict(store.restore().cells) == {}
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.write(more)
    assert len(store.tasks(Where(), 1000)) == 501
    store.close()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own."""
    with history_server() as running:
        yield running


@pytest.mark.parametrize("script", sorted(KEPT.glob("postgres_*.sql")), ids=lambda path: str(path.stem))
def test_an_earlier_database_is_brought_up_to_date(script: Path, server: PostgresServer) -> None:
    """As in a file."""
    url = new_database(server)
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(script.read_text())
    store = PostgresStore(url, ManualClock(T0 + 1))
    assert_all_there(store)
    store.close()


def test_two_monitors_count_every_event_once(server: PostgresServer) -> None:
    """Both see everything, in other batches; rows, counts and sums are those of one."""
    url = new_database(server)
    one, two = (PostgresStore(url, ManualClock(T0 + 61)) for _ in range(2))
    first, second = Cluster(one), Cluster(two)
    events = [each for n in range(40) for each in life(f"t{n}", T0 + n, end=("task-failed", "task-succeeded")[n % 2])]
    for start in range(0, len(events), 10):
        first.apply(events[start : start + 10], T0 + 60)
        one.write(first.take())
        first.written()
        second.apply(events[max(0, start - 7) : start + 3], T0 + 60)
        two.write(second.take())
        second.written()
    second.apply(events, T0 + 61)
    two.write(second.take())
    wanted = {("FAILURE", "app.add", "celery", "opsq@one"): 20, ("SUCCESS", "app.add", "celery", "opsq@one"): 20}
    assert dict(one.restore().cells) == wanted
    assert len(two.tasks(Where(), 100)) == 40
    alone = Cluster(open_store("memory://"))
    alone.apply(events, T0 + 61)
    expected = {key: decode_slice(data) for key, data in alone.take().slices.items() if key[2] == "t:app.add"}
    found = {key: decode_slice(data) for key, data in one.fetch_slices(expected).items()}
    assert set(found) == set(expected)
    for key, data in expected.items():
        assert (found[key].counts, found[key].sketches) == (data.counts, data.sketches)
        assert found[key].run_s == pytest.approx(data.run_s)
    assert two.counts() is not None
    one.close()
    two.close()


def test_two_monitors_tell_of_the_same_errors_and_anomalies(server: PostgresServer) -> None:
    """Each sees half of the failures, both see who started twice; facts and counts are those of one that saw all."""
    url = new_database(server)
    one, two = (PostgresStore(url, ManualClock(T0 + 61)) for _ in range(2))
    first, second = Cluster(one), Cluster(two)
    seen: tuple[list[Event], list[Event]] = ([], [])
    for n in range(18):
        told = [
            event("task-received", f"f{n}", T0 + n, name="app.bad", queue="q", retries=0, parent_id=f"gone{n % 3}"),
            event("task-started", f"f{n}", T0 + n + 0.5),
            event("task-failed", f"f{n}", T0 + n + 1, exception="KeyError(1)", traceback=f"it was {n}"),
        ]
        seen[n % 2].extend(told)
    twice = [event("task-started", "twice", T0 + n) for n in (1, 2)]
    for mine in seen:
        mine.extend(twice)
    found = life("gone1", T0 + 50)
    for cluster, store, mine in ((first, one, seen[0]), (second, two, seen[1]), (first, one, found)):
        cluster.apply(mine, T0 + 60)
        store.write(cluster.take())
        cluster.written()
    alone = Cluster(open_store("memory://"))
    alone.apply([*seen[0], *seen[1], *found], T0 + 60)
    first.apply(twice, T0 + 60)  # nothing new, so it writes nothing but its counts
    one.write(first.take())
    for store, cluster in ((one, first), (two, second)):
        told_by = Views(store, cluster, clock=ManualClock(T0 + 61))
        assert told_by.anomalies() == Views(open_store("memory://"), alone).anomalies()
        (group,) = told_by.errors()
        (facts,) = alone.errors.copy()
        assert (group.first_at, group.last_at, list(group.newest)) == (facts.first_at, facts.last_at, facts.newest)
        assert (group.traceback, group.failed) == ("it was 17", 18)
    with one.alone():
        assert rebuild(one, T0 + 61).told == []
    one.close()
    two.close()


def test_hostile_text_fits_in_postgresql(server: PostgresServer) -> None:
    """NUL and half a surrogate pair, in ids and names."""
    store = open_store(new_database(server))
    cluster = Cluster(store)
    cluster.apply([event("task-received", "a\x00b", T0, name="n\x00m", queue="q"), *life("ok", T0 + 1)], T0 + 2)
    store.write(cluster.take())
    assert store.task("a\x00b") is not None
    assert set(store.load(["a\x00b", "ok"])) == {"a\x00b", "ok"}
    store.close()
