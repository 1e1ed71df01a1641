"""Results as files of one folder, under Celery's names: ``file:///path``. For one machine, or a shared disk.

A file appears whole, by renaming, and a lock file keeps writers apart. What a file keeps of its end is its
date of change: it ends ``result_expires`` after that, as Celery's own cleanup counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.document import is_success
from opsq.core.backends.keys import PREFIXES, key_of, key_prefix
from opsq.core.backends.polled import PolledBackend
from opsq.errors import ConfigError
from opsq.settings import Settings

_LOCK: Final = ".opsq-lock"
_UNFINISHED: Final = ".opsq-new-"
_FORGOTTEN_AFTER_S: Final = 3600.0
_SAFE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


class FilesystemBackend(PolledBackend):
    """A folder of results. folder: made when missing. expires_s: of ``result_expires``; none is for ever."""

    def __init__(self, folder: Path, prefix: str = "", expires_s: float | None = None) -> None:
        can = Capabilities(counts=False, expires=False, notifies=False, cross_process=True)
        super().__init__(f"file://{folder}", can, (OSError,))
        self._folder = folder
        self._prefix = prefix
        self._expires_s = expires_s

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        path = self._path(kind, id)
        with self._locked():
            known = self._content(path)
            if known is not None and is_success(known):
                return False
            unfinished = self._folder / f"{_UNFINISHED}{uuid.uuid4().hex}"
            unfinished.write_bytes(payload)
            if ttl_s != self._expires_s:
                self._date(unfinished, ttl_s)
            os.replace(unfinished, path)
        return True

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        return {id: data for id in ids if (data := self._content(self._path(kind, id))) is not None}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        for id in ids:
            self._path(kind, id).unlink(missing_ok=True)

    def _sweep(self, now: float) -> int:
        gone = 0
        ours = tuple(key_of(kind, "", self._prefix) for kind in PREFIXES)
        for entry in os.scandir(self._folder) if self._folder.is_dir() else ():
            changed_at = _changed_at(entry)
            if entry.name.startswith(ours) and self._over(changed_at, now):
                gone += 1
            elif not (entry.name.startswith(_UNFINISHED) and changed_at < now - _FORGOTTEN_AFTER_S):
                continue
            Path(entry.path).unlink(missing_ok=True)
        return gone

    def _path(self, kind: Kind, id: str) -> Path:
        # What may not be a name of a file, or may leave the folder, is named by its digest.
        safe = id if _SAFE.fullmatch(id) else f"={hashlib.sha256(id.encode()).hexdigest()}"
        return self._folder / key_of(kind, safe, self._prefix)

    def _content(self, path: Path) -> bytes | None:
        try:
            with path.open("rb") as file:
                over = self._over(os.fstat(file.fileno()).st_mtime, time.time())
                return None if over else file.read()
        except FileNotFoundError:
            return None

    def _over(self, changed_at: float, now: float) -> bool:
        return self._expires_s is not None and changed_at + self._expires_s <= now

    def _date(self, path: Path, ttl_s: float | None) -> None:
        """Date a file so that it ends after ``ttl_s``, not after the usual time."""
        if self._expires_s is not None:
            ahead_s = _FOR_EVER_S if ttl_s is None else ttl_s - self._expires_s
            at = time.time() + ahead_s
            os.utime(path, (at, at))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


_FOR_EVER_S: Final = 100 * 365 * 86_400.0


def _changed_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def open_filesystem(url: str, settings: Settings) -> FilesystemBackend:
    """Make the backend for ``file:///folder``. Raises: ConfigError when the URL names no absolute folder."""
    place = url.partition("://")[2].removeprefix("localhost")
    if not place.startswith("/") or not place.strip("/"):
        raise ConfigError(f"result_backend {url!r} names no absolute folder; write file:///var/lib/app/results")
    folder = Path(unquote(place))
    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ConfigError(f"result_backend {url!r}: {folder} is no folder that this process may write to")
    return FilesystemBackend(folder, key_prefix(settings), settings.result_expires or None)
