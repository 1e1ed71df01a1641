"""PostgreSQL and MariaDB servers of the tests' own, on private ports, as an unprivileged user when root runs them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port, missing, wait_for_port

DATABASE = "opsq"
_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class PostgresServer:
    """A PostgreSQL of our own, without login; ``stop`` and ``start`` keep port and data."""

    def __init__(self, folder: Path) -> None:
        self._bin = _postgres_bin()
        self._data = folder / "data"
        self._as = _unprivileged(folder, "postgres")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"postgresql+psycopg://opsq@127.0.0.1:{self.port}/{DATABASE}"

    def create(self) -> None:
        """Make the data folder and start with an empty database."""
        self._run("initdb", "-D", str(self._data), "-U", "opsq", "-A", "trust", "--no-sync", "-E", "UTF8")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "opsq", DATABASE)

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run([self._bin / program, *words], capture_output=True, text=True, check=False, **self._as)
        if done.returncode:
            pytest.fail(f"{program} ended with {done.returncode}: {done.stderr[-500:]}", pytrace=False)

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._data)]
        # No test pulls the plug, and without it each commit would wait for the disk.
        words += ["-c", "fsync=off", "-c", "max_connections=200"]
        self._process = subprocess.Popen([self._bin / "postgres", *words], **_QUIET, **self._as)
        wait_for_port(self.port, self._process)
        for _ in range(100):
            probe = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "2"]
            if subprocess.run(probe, **_QUIET, check=False).returncode == 0:
                return
        pytest.fail("PostgreSQL did not get ready", pytrace=False)

    def kill(self) -> None:
        """Kill it and all its backends."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """Stop it, cutting its connections. Safe to call twice."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None


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


def _postgres_bin() -> Path:
    """The folder of the newest PostgreSQL server: Debian keeps it off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    if program is None:
        missing("postgresql", "apt-get install postgresql")
    return Path(program).resolve().parent


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
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL for the block."""
    with _folder() as folder:
        server = PostgresServer(folder)
        server.create()
        try:
            yield server
        finally:
            server.stop()


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
