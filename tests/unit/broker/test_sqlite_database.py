"""The broker's file: opening it, and what is said when that fails."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opsq.broker.faults import BrokerBusy, BrokerUnusable
from opsq.broker.message import OutMessage
from opsq.broker.sqlite import schema
from opsq.broker.sqlite.broker import SqliteBroker, path_of_url
from opsq.broker.sqlite.database import Database, DatabaseOptions
from opsq.broker.topology import queue_named
from opsq.errors import BrokerUnavailable, ConfigError, UsageError

Open = Callable[..., SqliteBroker]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    made: list[SqliteBroker] = []

    def make(**options: object) -> SqliteBroker:
        made.append(SqliteBroker(str(path), options))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


def note(body: bytes = b"[]", **fields: object) -> OutMessage:
    spec = queue_named("q")
    given = {"headers": {}, "declare": spec, **fields}
    return OutMessage(body=body, content_type="", content_encoding="", routing_key="q", **given)  # type: ignore[arg-type]


def raw(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("url", ["sqlite:///var/lib/broker.db", "sqlite:////var/lib/broker.db"])
def test_urls_name_absolute_paths(url: str) -> None:
    assert path_of_url(url) == "/var/lib/broker.db"
    assert path_of_url("sqlite:////a%20b/ü.db") == "/a b/ü.db"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://host/x"])
def test_urls_without_a_path_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected sqlite:/// and an absolute path"):
        path_of_url(url)


def test_a_newer_format_is_refused(path: Path, opened: Open) -> None:
    opened().close()
    raw(path, f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    with pytest.raises(BrokerUnusable, match=r"its format is 2, this opsq knows 1; start the newer opsq"):
        opened()


def test_somebody_elses_database_is_refused(path: Path, opened: Open) -> None:
    raw(path, "CREATE TABLE users (name)")
    with pytest.raises(BrokerUnusable, match="SQLite database of something else"):
        opened()


def test_a_file_that_is_no_database_is_refused(path: Path, opened: Open) -> None:
    path.write_bytes(b"once upon a time " * 1000)
    with pytest.raises(BrokerUnusable, match=r"broker\.db: it is not a SQLite database .*name another file"):
        opened()


def test_a_damaged_file_says_how_to_save_it(path: Path, opened: Open) -> None:
    broker = opened()
    broker.store.put([note(b"x" * 3000) for _ in range(200)])
    broker.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    broker.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(path.stat().st_size - 8192))
    with pytest.raises(BrokerUnusable, match=r"damaged .*\.recover"):
        opened().store.purge("q")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerUnusable, match="its directory cannot be made"):
        Database(str(tmp_path / "file" / "sub" / "broker.db"))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnusable, match=r"cannot be opened or created .*check that its directory"):
        Database(str(tmp_path))


def test_a_full_disk_is_said_and_nothing_is_lost(opened: Open) -> None:
    broker = opened()
    broker.store.put([note(b"kept")])
    pages = broker.database.execute("PRAGMA page_count").fetchone()[0]
    broker.database.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    with pytest.raises(BrokerBusy, match=r"the disk is full .*free some space"):
        broker.store.put([note(b"x" * 100_000)])
    with pytest.raises(BrokerBusy, match="the disk is full"):
        broker.store.put([note(b"x" * 100_000)] * 2)
    lease = broker.lease()
    lease.subscribe(["q"])
    (got,) = lease.take([], 10)
    assert got.body == b"kept"
    lease.take([got.tag], 0)
    assert broker.store.size("q") == 0


def test_a_lock_is_waited_for_then_named(path: Path, opened: Open) -> None:
    broker = opened(busy_timeout_s=0.2)
    broker.store.put([note()])
    holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(BrokerBusy, match=r"stayed locked .*fuser"):
        broker.store.put([note()])
    patient = opened(busy_timeout_s=10)
    free = threading.Timer(0.1, lambda: holder.execute("COMMIT"))
    free.start()
    patient.store.put([note()])
    free.join()
    holder.close()
    assert broker.store.size("q") == 2


def test_a_deleted_file_is_noticed(path: Path, opened: Open) -> None:
    broker = opened()
    path.unlink()
    with pytest.raises(BrokerUnusable, match="deleted or replaced while in use"):
        broker.database.check_file()


def test_many_processes_may_create_the_file_at_once(path: Path) -> None:
    problems: list[BaseException] = []

    def create() -> None:
        try:
            SqliteBroker(str(path)).close()
        except BaseException as exc:  # noqa: BLE001 boundary: shown by the assertion
            problems.append(exc)

    threads = [threading.Thread(target=create) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_durability_is_an_option(opened: Open) -> None:
    assert opened().database.execute("PRAGMA synchronous").fetchone()[0] == 1
    assert opened(synchronous="full").database.execute("PRAGMA synchronous").fetchone()[0] == 2
    with pytest.raises(ConfigError, match="expected NORMAL or FULL, got 'OFF'"):
        opened(synchronous="OFF")
    assert DatabaseOptions().synchronous == "NORMAL"


@pytest.mark.parametrize("headers", [{"x": object()}, {"x": "\ud800"}])
def test_headers_that_are_not_json_are_the_callers_fault(opened: Open, headers: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="headers and properties must be JSON"):
        opened().store.put([note(headers=headers)])


def test_an_expiration_that_is_no_number_is_the_callers_fault(opened: Open) -> None:
    with pytest.raises(UsageError, match="whole milliseconds, got 'soon'"):
        opened().store.put([note(properties={"expiration": "soon"})])


def test_an_unroutable_message_is_counted_not_stored(opened: Open) -> None:
    broker = opened()
    assert broker.store.put([note(declare=None)]) == 1
    assert broker.store.put([note(declare=None), note(declare=None)]) == 2
    assert broker.store.put([note(), note(declare=None)]) == 0, "declared by the first"
    assert broker.database.execute("SELECT count(*) FROM message").fetchone()[0] == 2
    assert issubclass(BrokerBusy, BrokerUnavailable)
