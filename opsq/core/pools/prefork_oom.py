"""Whether it was the kernel that killed a process for want of memory.

A SIGKILL does not say who sent it. The control group's counter of such kills does: when it has grown
since the last look, the death that is being explained is one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")


class OomWatch:
    """Counts the kernel's kills in this process's memory group. Source: cgroup-v2.rst, v1/memory.rst.

    root: where the control groups are mounted. own: the text of ``/proc/self/cgroup``; read when None.
    """

    def __init__(self, root: Path = _ROOT, own: str | None = None) -> None:
        self._counter, self._limit = _files(root, _read(Path("/proc/self/cgroup")) if own is None else own)
        self._seen = self.kills()

    def why(self) -> str:
        """Say that the kernel killed since the last call, with the group's limit; empty when it did not."""
        kills = self.kills()
        grown, self._seen = kills > self._seen, kills
        if not grown:
            return ""
        limit = self.limit_bytes()
        return "out of memory" + (f" (the control group's limit is {limit // 1024:,} KiB)" if limit is not None else "")

    def limit_bytes(self) -> int | None:
        """The most memory the group may use; None where nothing is set or nothing is known."""
        limit = _read(self._limit).strip() if self._limit is not None else ""
        return int(limit) if limit.isdigit() and int(limit) < 1 << 60 else None

    def used_bytes(self) -> int | None:
        """What the group uses now, as far as the kernel could not give it back at once; None where it is not known."""
        if self._limit is None:
            return None
        for usage, cache in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
            used = _read(self._limit.parent / usage).strip()
            if used.isdigit():
                return max(0, int(used) - _counted(_read(self._limit.parent / "memory.stat"), cache))
        return None

    def kills(self) -> int:
        """How often the kernel killed in this group since it exists."""
        return _counted(_read(self._counter) if self._counter is not None else "", "oom_kill")


def _files(root: Path, own: str) -> tuple[Path | None, Path | None]:
    """Find the counter and the limit of the group that ``own`` names."""
    for number, controllers, path in (line.split(":", 2) for line in own.splitlines() if line.count(":") >= 2):
        if "memory" in controllers.split(","):
            bases = (root / "memory" / path.lstrip("/"), root / "memory")
            return _first(bases, "memory.oom_control", "memory.limit_in_bytes")
        if number == "0":
            unified = (root / path.lstrip("/"), root / "unified" / path.lstrip("/"), root)
            found = _first(unified, "memory.events", "memory.max")
            if found[0] is not None:
                return found
    return None, None


def _first(folders: Iterable[Path], counter: str, limit: str) -> tuple[Path | None, Path | None]:
    for folder in folders:
        if (folder / counter).is_file():
            return folder / counter, folder / limit
    return None, None


def _counted(text: str, what: str) -> int:
    """The number beside ``what`` in lines of a name and a number; 0 when it is not there."""
    for line in text.splitlines():
        name, _, count = line.partition(" ")
        if name == what and count.strip().isdigit():
            return int(count)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
