"""The store contract on SQL databases; MariaDB with INTEROP=full."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq.core.backends.registry import open_backend
from opsq.core.result_store import ResultStore
from opsq.errors import BackendUnavailable, ConfigError
from opsq.settings import Settings
from opsq.testing.contract_backend import BackendContract, Store, opened, put, reads, unique
from opsq.wire.result import ResultMeta
from tests.servers import free_port
from tests.servers_sql import history_server, maria_server, new_database, postgres_server

LONG = os.environ.get("INTEROP") == "full"


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as server:
        yield f"db+{server.url}"


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with maria_server() as server:
        yield f"db+{server.url}"


class TestSqlite(BackendContract):
    """SQLite through SQLAlchemy."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A new file."""
        return {"result_backend": f"db+sqlite:///{tmp_path}/results.sqlite"}


class TestPostgres(BackendContract):
    """PostgreSQL."""

    @pytest.fixture
    def store(self, postgres: str) -> Store:
        """The module's."""
        return {"result_backend": postgres}


@pytest.mark.skipif(not LONG, reason="runs in make interop")
class TestMariaDB(BackendContract):
    """MariaDB."""

    @pytest.fixture
    def store(self, mariadb: str) -> Store:
        """The module's."""
        return {"result_backend": mariadb}


def test_tables_are_named_by_the_settings(tmp_path: Path) -> None:
    url = f"db+sqlite:///{tmp_path}/r.sqlite"
    names = {"task": "our_tasks", "group": "our_groups"}
    for backend in opened({"result_backend": url, "database_table_names": names}):
        put(backend, "a", "SUCCESS", 1)
    with sqlite3.connect(tmp_path / "r.sqlite") as db:
        assert db.execute("SELECT task_id, status FROM our_tasks").fetchall() == [("a", "SUCCESS")]
        assert db.execute("SELECT count(*) FROM our_groups").fetchall() == [(0,)]
    db.close()


def test_columns_of_a_newer_celery_are_added(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "r.sqlite") as db:
        db.execute(
            "CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY AUTOINCREMENT, task_id VARCHAR(155) UNIQUE, "
            "status VARCHAR(50), result BLOB, date_done DATETIME, traceback TEXT)"
        )
    db.close()
    for backend in opened({"result_backend": f"db+sqlite:///{tmp_path}/r.sqlite"}):
        id = unique()
        put(backend, id, "SUCCESS", 1)
        assert reads(backend, id, "SUCCESS", 1)


def test_the_engine_is_made_as_the_settings_say(tmp_path: Path) -> None:
    seen: list[Any] = []
    for backend in opened(
        {
            "result_backend": f"db+sqlite:///{tmp_path}/r.sqlite",
            "database_engine_callback": seen.append,
            "database_engine_options": {"pool_size": 1, "max_overflow": 0},
        }
    ):
        put(backend, "a", "SUCCESS", 1)
    assert [engine.pool.size() for engine in seen] == [1]


def test_a_database_that_is_away_is_named_in_one_line() -> None:
    backend = open_backend(f"db+postgresql://me:secret@127.0.0.1:{free_port()}/shop", Settings())
    with pytest.raises(BackendUnavailable) as told:
        backend.get("task", "a")
    assert "://me:***@127.0.0.1" in str(told.value)
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_a_url_that_is_none_says_so() -> None:
    for url in ("db+nosuch://host/db", "db+://"):
        with pytest.raises(ConfigError, match="result_backend"):
            open_backend(url, Settings())


@pytest.mark.skipif(not LONG, reason="runs in make interop")
def test_a_database_that_restarts_costs_a_pause() -> None:
    """With ``result_backend_always_retry`` whoever asks meanwhile waits and is answered."""
    with history_server("fsync=on", "synchronous_commit=on") as server:
        url = f"db+postgresql+psycopg{new_database(server).removeprefix('postgresql')}"
        settings = Settings(result_backend=url, result_backend_always_retry=True)
        store = ResultStore(open_backend(url, settings), settings)
        store.store(ResultMeta(task_id="a", status="SUCCESS", result=1))
        server.stop()
        back = threading.Timer(0.3, server.start)
        back.start()
        assert store.load("a").result == 1
        back.join()
        store.close()
