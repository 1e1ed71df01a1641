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
        self._seen = self._kills()

    def why(self) -> str:
        """Say that the kernel killed since the last call, with the group's limit; empty when it did not."""
        kills = self._kills()
        grown, self._seen = kills > self._seen, kills
        if not grown:
            return ""
        limit = _read(self._limit).strip() if self._limit is not None else ""
        known = limit.isdigit() and int(limit) < 1 << 60
        return "out of memory" + (f" (the control group's limit is {int(limit) // 1024:,} KiB)" if known else "")

    def _kills(self) -> int:
        text = _read(self._counter) if self._counter is not None else ""
        for line in text.splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdigit():
                return int(count)
        return 0


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


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
