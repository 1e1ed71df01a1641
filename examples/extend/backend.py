"""A result store: one file for each result, in a folder that may be shared by several machines.

override_backends = {"files": "examples.extend.backend:open_files"}
result_backend = "files:///var/lib/shop/results"

An installed package offers it as an entry point ``opsq.backends`` instead. ``opsq/testing/contract_backend.py`` is
the suite that any result store must pass.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from opsq.core.backends.base import SUCCESS, Capabilities, Kind, WaitScope
from opsq.errors import BackendUnavailable
from opsq.settings import Settings

LOOK_S = 0.05


class FilesBackend:
    """Results as files: a first line with state and end of life, then the bytes. Thread: any, any process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def capabilities(self) -> Capabilities:
        """Waiters look again and again, and somebody has to call ``cleanup``."""
        return Capabilities(counts=False, expires=False, notifies=False, cross_process=True)

    def put(self, kind: Kind, id: str, payload: bytes, *, state: str, ttl_s: float | None) -> bool:
        """Store, unless a SUCCESS is there."""
        path = self._path(kind, id)
        with _translated(), self._alone():
            known = _read(path)
            if known is not None and known[0] == SUCCESS:
                return False
            ends_at = 0.0 if ttl_s is None else time.time() + ttl_s
            beside = path.with_suffix(f".{os.getpid()}")
            beside.write_bytes(f"{state} {ends_at}\n".encode() + payload)
            beside.replace(path)  # a reader sees the old result or the new one
        return True

    def get(self, kind: Kind, id: str) -> bytes | None:
        """Read one, or none."""
        with _translated():
            found = _read(self._path(kind, id))
        return None if found is None else found[1]

    def get_many(self, kind: Kind, ids: Sequence[str]) -> dict[str, bytes]:
        """Read several."""
        return {id: payload for id in ids if (payload := self.get(kind, id)) is not None}

    def forget(self, kind: Kind, ids: Iterable[str]) -> None:
        """Delete."""
        with _translated():
            for id in ids:
                self._path(kind, id).unlink(missing_ok=True)

    def subscribe(self, ids: Sequence[str]) -> _Looking:
        """Look at the files until one of them changes."""
        return _Looking([self._path("task", id) for id in ids], list(ids))

    def cleanup(self, now: float) -> int:
        """Delete what has expired; how many."""
        with _translated():
            ended = [path for path in self._folder.glob("*.result") if _read(path, now) is None]
            for path in ended:
                path.unlink(missing_ok=True)
        return len(ended)

    def close(self) -> None:
        """Nothing is open."""

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of all processes and threads one at a time: look and write must be one step."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # let go of when the file is closed, and when its owner dies
            yield

    def _path(self, kind: Kind, id: str) -> Path:
        # Ids come from peers: as a name of a file they could point anywhere.
        return self._folder / f"{kind}-{hashlib.sha256(id.encode()).hexdigest()}.result"


class _Looking(WaitScope):
    def __init__(self, paths: list[Path], ids: list[str]) -> None:
        self._files = dict(zip(ids, paths, strict=True))
        self._seen = {id: _changed_at(path) for id, path in self._files.items()}
        self._closed = threading.Event()

    def wait(self, timeout_s: float) -> set[str] | None:
        """Block until one changes, or none after ``timeout_s``."""
        until = time.monotonic() + timeout_s
        while not self._closed.wait(max(0.0, min(LOOK_S, until - time.monotonic()))):
            now = {id: _changed_at(path) for id, path in self._files.items()}
            changed = {id for id, at in now.items() if at != self._seen[id]}
            self._seen = now
            if changed:
                return changed
            if time.monotonic() >= until:
                return None
        return None

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _read(path: Path, now: float | None = None) -> tuple[str, bytes] | None:
    """State and bytes; none when there is no such file, or it has expired."""
    try:
        head, _, payload = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    state, _, ends_at = head.decode().partition(" ")  # a group has no state
    expired = 0.0 < float(ends_at) <= (time.time() if now is None else now)
    return None if expired else (state, payload)


@contextmanager
def _translated() -> Iterator[None]:
    """opsq tries again what is merely unavailable, so it must be told in its own words."""
    try:
        yield
    except OSError as error:
        raise BackendUnavailable(f"the folder of results does not answer: {error}") from error


def open_files(url: str, settings: Settings) -> FilesBackend:
    """Make the store for ``files:///folder``."""
    return FilesBackend(Path(url.removeprefix("files://")))
