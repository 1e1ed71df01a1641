"""Which process is which, so that the dead can be told from the silent.

A pid alone is not enough: pids are used again, containers have their own, and none survives a
reboot. A process is known by the boot it lives in, its pid namespace, its pid and its start time.
"""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from msgspec import Struct


class ProcessId(Struct, frozen=True):
    """One process, unmistakably. namespace: inode of its pid namespace. started: clock ticks or seconds."""

    boot: str
    namespace: str
    pid: int
    started: str


def this_process() -> ProcessId:
    """Return the identity of the calling process."""
    pid = os.getpid()
    return ProcessId(boot_id(), pid_namespace(), pid, start_time(pid) or "")


def boot_id() -> str:
    """Return what changes with every boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"boot-{psutil.boot_time():.0f}"


def pid_namespace() -> str:
    """Return the namespace that pids of this process are counted in; containers differ."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """Return when the process with this pid began; ``None`` when there is none, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return _start_time_portable(pid)
    # The second field is the program's name in brackets and may itself contain blanks and brackets.
    rest = fields[fields.rindex(b")") + 2 :].split()
    return None if rest[0] in (b"Z", b"X") else rest[19].decode()


def _start_time_portable(pid: int) -> str | None:
    if os.path.exists("/proc/self/stat"):
        return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def is_gone(process: ProcessId, observer: ProcessId) -> bool:
    """Say whether ``process`` is certainly dead, as far as ``observer`` can see.

    ``False`` when it lives or when nobody here can know: then its lease decides.
    """
    if process.boot != observer.boot:
        return True  # SQLite's log needs shared memory, so every user of the file is on this machine
    if process.namespace != observer.namespace:
        return False
    return start_time(process.pid) != process.started
