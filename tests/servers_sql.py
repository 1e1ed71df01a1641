"""PostgreSQL and MariaDB servers of the tests' own, on private ports, as an unprivileged user when root runs them."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from opsq.testing.postgres_server import NotInstalled, PostgresServer
from tests.servers import free_port, missing, wait_for_port

DATABASE = "opsq"
#: What a test writes may go with the machine's power, so it need not wait for the disk.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")
_numbers = itertools.count()
_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class MariaServer:
    """A MariaDB of our own, without login; ``stop`` and ``start`` keep port and data."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        install = shutil.which("mariadb-install-db")
        if program is None or install is None:
            missing("mariadb-server", "apt-get install mariadb-server")
        self._program, self._install = program, install
        self._data = folder / "data"
        self._as = _unprivileged(folder, "mysql")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"mysql+pymysql://opsq@127.0.0.1:{self.port}/{DATABASE}"

    def create(self) -> None:
        """Make the data folder and start with an empty database."""
        words = [f"--datadir={self._data}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run([self._install, "--no-defaults", *words], **_QUIET, check=True, **self._as)
        first = self._data / "first.sql"
        first.write_text(
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;\n"
            f"CREATE USER 'opsq'@'127.0.0.1';\nGRANT ALL ON {DATABASE}.* TO 'opsq'@'127.0.0.1';\n"
        )
        first.chmod(0o644)
        self.start(f"--init-file={first}")

    def start(self, *options: str) -> None:
        """Start it and wait until it answers."""
        words = [f"--datadir={self._data}", f"--port={self.port}", "--bind-address=127.0.0.1"]
        words += [f"--socket={self._data}/s", f"--pid-file={self._data}/pid", "--skip-name-resolve"]
        words += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", *options]
        self._process = subprocess.Popen([self._program, "--no-defaults", *words], **_QUIET, **self._as)
        wait_for_port(self.port, self._process)

    def stop(self) -> None:
        """Stop it. Safe to call twice."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None


def _unprivileged(folder: Path, user: str) -> dict[str, Any]:
    """Options for subprocess that make a server run as ``user`` in ``folder`` when root starts it."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(user)
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": folder}


@contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's: another user may not look into that.
    with tempfile.TemporaryDirectory(prefix="opsq-sql-") as name:
        yield Path(name)


@contextmanager
def history_server(*options: str) -> Iterator[PostgresServer]:
    """A running PostgreSQL for the block; ``new_database`` makes empty ones in it."""
    with _folder() as folder:
        folder.chmod(0o755)
        try:
            server = PostgresServer(folder, *FAST, *options)
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


class Database(NamedTuple):
    """A database as SQLAlchemy names it."""

    url: str


@contextmanager
def postgres_server() -> Iterator[Database]:
    """An empty database in a running PostgreSQL for the block, for brokers."""
    with history_server("max_connections=200") as server:
        yield Database("postgresql+psycopg" + new_database(server).removeprefix("postgresql"))


@contextmanager
def maria_server() -> Iterator[MariaServer]:
    """A running MariaDB for the block."""
    with _folder() as folder:
        server = MariaServer(folder)
        server.create()
        try:
            yield server
        finally:
            server.stop()
