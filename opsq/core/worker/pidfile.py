"""One process per file: a pid file that a dead process cannot keep, and a lock on a node's name."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from opsq.errors import ExitCode, OpsqError
from opsq.logs import file_name

log = logging.getLogger(__name__)


class PidFileTaken(OpsqError):
    """The pid file belongs to a process that lives, or cannot be written."""

    exit_code = ExitCode.CANNOT_CREATE


class PidFile:
    """Holds ``path`` with this process's id for the length of a ``with`` block; None does nothing.

    node: fills in the marks of ``path``.

    Made readable by its owner only. The lock on it, which ends with the process, is what counts; the
    number in it is for people and for programs that only read.
    Raises: PidFileTaken on entering. Thread: main.
    """

    def __init__(self, path: str | None, node: str = "") -> None:
        self._path = Path(file_name(path, node)).absolute() if path else None
        self._file: int | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PidFileTaken(
                f"the pid file {self._path} belongs to process {self._written()}, which runs; stop it, or name another"
            ) from None
        except OSError as error:
            raise PidFileTaken(f"cannot write the pid file {self._path}: {error.strerror}") from error
        before = self._written()
        if before and before != os.getpid() and _is_one_of_ours(before):
            # Written without a lock: by a worker of Celery's, or on a file system that has none.
            os.close(self._file)
            raise PidFileTaken(f"the pid file {self._path} belongs to process {before}, which runs")
        if before and before != os.getpid():
            log.warning("the pid file was left behind by a dead process", extra={"path": str(self._path), "of": before})
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None or self._path is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None

    def _written(self) -> int:
        """The process id in the file; 0 for none."""
        data = os.pread(self._file, 32, 0) if self._file is not None else b""
        return int(data) if data.strip().isdigit() else 0


def _is_one_of_ours(pid: int) -> bool:
    """Whether ``pid`` lives and looks like a worker: numbers are used again by strangers."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return any("opsq" in word or "celery" in word for word in words)


class NodeName:
    """Holds the name of a node on this host, for one broker, for the length of a ``with`` block.

    Two workers of one name confuse remote control and the monitor, and are otherwise harmless: so
    this warns and refuses nothing. Thread: main.
    """

    def __init__(self, name: str, broker: object) -> None:
        self._name = name
        digest = hashlib.sha256(f"{name}\n{broker}".encode()).hexdigest()[:24]
        self._folder = Path(tempfile.gettempdir()) / f"opsq-nodes-{os.getuid()}"
        self._path = self._folder / digest
        self._file: int | None = None

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.stat().st_uid != os.getuid():
                raise PermissionError(f"{self._folder} belongs to another user")
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning(
                "another worker of this name runs on this host; remote control and the monitor take both for one: "
                "give each a name of its own with -n",
                extra={"node": self._name},
            )
        except OSError as error:
            log.debug("cannot look for a worker of the same name", extra={"error": str(error)})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
