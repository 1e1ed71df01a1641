"""A real PostgreSQL for tests: one server a session, a database of its own for each test."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from opsq.testing.postgres_server import NotInstalled, PostgresServer
from tests.servers import missing

#: A test's history may go with the machine's power, so it need not wait for the disk.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=60")
_numbers = itertools.count()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server for the block, in a folder that its own user may enter."""
    with tempfile.TemporaryDirectory(prefix="opsq-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            server = PostgresServer(folder, *FAST)
        except NotInstalled as error:
            missing("PostgreSQL", str(error))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def new_database(server: PostgresServer) -> str:
    """The URL of a new, empty database."""
    name = f"t{next(_numbers)}"
    with psycopg.connect(server.url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")
    return server.url.rpartition("/")[0] + "/" + name
