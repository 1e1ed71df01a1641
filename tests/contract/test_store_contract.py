"""Every history store that is registered passes the same suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opsq.errors import ConfigError
from opsq.events.store import MemoryStore, Store
from opsq.events.stores import STORES, open_store
from opsq.testing.contract_search import SearchContract
from opsq.testing.contract_store import StoreContract
from opsq.testing.postgres_server import PostgresServer
from tests.servers_sql import history_server, new_database

#: ``postgres`` is another word for the same store.
MATRIX = ("sqlite", "postgresql", "postgres", "memory")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own."""
    with history_server() as running:
        yield running


class TestSqliteStore(StoreContract, SearchContract):
    """SQLite in a file."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """A new file."""
        opened = open_store(f"sqlite:///{tmp_path}/history.db")
        yield opened
        opened.close()

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Iterator[Callable[[Store], Store]]:
        """The same file again."""

        opened: list[Store] = []

        def again(store: Store) -> Store:
            store.close()
            opened.append(open_store(f"sqlite:///{tmp_path}/history.db"))
            return opened[-1]

        yield again
        for store in opened:
            store.close()


class TestPostgresStore(StoreContract, SearchContract):
    """PostgreSQL, a database of its own for each test."""

    @pytest.fixture
    def url(self, server: PostgresServer) -> str:
        """An empty database."""
        return new_database(server)

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        """A new history."""
        opened = open_store(url)
        yield opened
        opened.close()

    @pytest.fixture
    def reopen(self, url: str) -> Iterator[Callable[[Store], Store]]:
        """The same database again."""

        opened: list[Store] = []

        def again(store: Store) -> Store:
            store.close()
            opened.append(open_store(url))
            return opened[-1]

        yield again
        for store in opened:
            store.close()


class TestMemoryStore(StoreContract, SearchContract):
    """History in this process."""

    @pytest.fixture
    def store(self) -> Store:
        """A new one."""
        return MemoryStore()


def test_the_matrix_is_complete() -> None:
    """A store that is registered and not tested would be a promise nobody checks."""
    assert set(MATRIX) == set(STORES)


@pytest.mark.parametrize(("url", "says"), [("history.db", "expected a URL"), ("sqlit:///x", "sqlite")])
def test_a_url_that_means_nothing_says_so(url: str, says: str) -> None:
    """The message names what there is."""
    with pytest.raises(ConfigError, match=says):
        open_store(url)
