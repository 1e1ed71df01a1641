"""Which edits count, and hearing of them soon: the folders of the app's modules, and paths somebody chose.

Folders of modules are watched one by one, not with what lies below: a project's folder may hold a hundred
thousand files that nobody imports.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from opsq import plugins
from opsq.errors import ConfigError, Fault

log = logging.getLogger(__name__)

QUIET_MS: Final = 50
"""An edit counts when for so long no other followed: editors write a file in several steps."""

LONGEST_MS: Final = 800
"""… or when the first of them is this old."""

_LOOK_MS: Final = 1_000
"""After so long without an event the files are looked at: network mounts tell of nothing."""

_Stamp = tuple[int, int] | None


class Watch:
    """Tells of edits. Thread: the keeper's, ``tell(paths)`` is called from threads of its own.

    chosen: files and folders of which every change counts, with all that lies below. ignored: what is not
    looked at there, such as the worker's own data.
    Raises: ConfigError when watchfiles is not installed, or a chosen path does not exist.
    """

    def __init__(self, tell: Callable[[frozenset[str]], None], chosen: Sequence[str], ignored: Sequence[str]) -> None:
        self._watchfiles: Any = plugins.require("watchfiles", "autoreload")
        self._tell = tell
        missing = [path for path in chosen if not os.path.exists(path)]
        if missing:
            raise ConfigError([Fault(f"there is no {path}", "worker_autoreload_paths") for path in missing])
        self._chosen = tuple(str(Path(path).resolve()) for path in chosen)
        self._filter = self._watchfiles.DefaultFilter(ignore_paths=[str(Path(path).resolve()) for path in ignored])
        self._stamps: dict[str, _Stamp] = {}
        self._lock = threading.Lock()
        self._folders: frozenset[str] = frozenset()
        self._stops: list[threading.Event] = []

    def start(self) -> None:
        """Begin with the chosen paths."""
        if self._chosen:
            self._run(self._chosen, recursive=True)

    def modules(self, files: Iterable[str]) -> frozenset[str]:
        """From now on these files count as well, besides those named before; returns the new ones."""
        with self._lock:
            new = frozenset(file for file in files if file not in self._stamps)
            self._stamps.update((file, _stamp(file)) for file in new)
            folders = frozenset(os.path.dirname(file) for file in self._stamps)
        added = folders - self._folders
        if added:
            self._folders |= added
            self._run(sorted(added), recursive=False)
        return new

    def stop(self) -> None:
        """Tell nothing more."""
        for stop in self._stops:
            stop.set()

    def _run(self, paths: Sequence[str], recursive: bool) -> None:
        stop = threading.Event()
        self._stops.append(stop)
        # Made here and not in the thread: what is edited from now on must not be missed.
        notify = self._watchfiles.main.RustNotify(list(paths), False, False, 300, recursive, False)
        threading.Thread(target=self._follow, args=(notify, stop), name="opsq-reload-watch", daemon=True).start()

    def _follow(self, notify: Any, stop: threading.Event) -> None:
        with notify:
            while True:
                changes = notify.watch(LONGEST_MS, QUIET_MS, _LOOK_MS, stop)
                if changes == "stop":
                    return
                quiet = not isinstance(changes, set)
                self._weigh(set(self._stamps) if quiet else {str(path) for _, path in changes})

    def _weigh(self, paths: set[str]) -> None:
        with self._lock:
            found = frozenset(path for path in paths if self._counts(path) and self._is_new(path))
        if found:
            self._tell(found)

    def _counts(self, path: str) -> bool:
        if path in self._stamps:
            return True
        chosen = any(path == each or path.startswith(each + os.sep) for each in self._chosen)
        return chosen and bool(self._filter(1, path))

    def _is_new(self, path: str) -> bool:
        # One edit may be heard of twice, by two watches or in two rounds; a chmod is none.
        stamp = _stamp(path)
        known = path in self._stamps and self._stamps[path] == stamp
        self._stamps[path] = stamp
        return not known


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def edited_since(files: Iterable[str], at: float) -> frozenset[str]:
    """Those of ``files`` that were written after ``at`` (epoch seconds)."""
    return frozenset(file for file in files if (stamp := _stamp(file)) is not None and stamp[0] > at * 1e9)


def wrong_syntax(paths: Iterable[str]) -> dict[str, str]:
    """What does not compile of ``paths``: a sentence with file and line, by path. Absent files are passed over."""
    found: dict[str, str] = {}
    for path in sorted(paths):
        if not path.endswith(".py") or not os.path.exists(path):
            continue
        try:
            compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        except SyntaxError as error:
            found[path] = f"{path}:{error.lineno or 0}: {type(error).__name__}: {error.msg}"
        except (ValueError, OSError) as error:
            found[path] = f"{path}: {error}"
    return found
