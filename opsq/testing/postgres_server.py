"""A PostgreSQL server of our own: started on a private port from the installed packages, gone with its folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from opsq.testing.ports import free_port

START_S = 60


class NotInstalled(Exception):
    """PostgreSQL's programs are not on this machine."""


def programs() -> Path:
    """The folder of the newest installed ``initdb`` and ``pg_ctl``. Raises NotInstalled."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if (program := shutil.which("initdb")) is not None:
        return Path(program).parent
    raise NotInstalled("PostgreSQL is not installed; apt-get install postgresql")


class PostgresServer:
    """One server. folder: made, and owned by the user ``postgres`` when this process is root.

    options: more settings, such as ``fsync=off``. Raises NotInstalled, CalledProcessError.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._bin = programs()
        self._data = folder / "pgdata"
        self._options = options
        self._user = "postgres" if os.geteuid() == 0 else None
        self.port = free_port()
        self.url = f"postgresql://opsq@127.0.0.1:{self.port}/postgres"

    def _run(self, *words: str) -> None:
        environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        subprocess.run(
            words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
            user=self._user, cwd="/", env=environment,
        )  # fmt: skip

    def _own(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(path, account.pw_uid, account.pw_gid)

    def start(self) -> None:
        """Make the cluster unless it is there, start the server and wait until it answers."""
        if not self._data.exists():
            self._own(self._data)
            words = ("-D", str(self._data), "-U", "opsq", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
            self._run(str(self._bin / "initdb"), *words)
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", *self._options]
        self._control("start", ["-o", " ".join(f"-c {setting}" for setting in settings)])

    def stop(self) -> None:
        """Stop it at once; may be called twice."""
        if (self._data / "postmaster.pid").exists():
            self._control("stop", ["-m", "immediate"])

    def _control(self, verb: str, words: Sequence[str]) -> None:
        log = ["-l", str(self._data / "server.log")] if verb == "start" else []
        self._run(str(self._bin / "pg_ctl"), verb, "-D", str(self._data), "-w", "-t", str(START_S), *log, *words)
