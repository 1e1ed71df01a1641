"""A child process's anonymous file for its stacks, and reading it from the worker.

At ``ASKS_ON`` the C part of ``faulthandler`` writes them there, also while C code runs that never gives Python a
turn; the worker reads the file through ``/proc``. Linux only.
"""

from __future__ import annotations

import faulthandler
import fcntl
import linecache
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from opsq.core.worker.stack_own import is_ours, own_from
from opsq.errors import UsageError

ASKS_ON: Final = signal.SIGURG
"""What a process does that has no handler for it: nothing. So a child that is just starting comes to no harm."""
FILE: Final = "opsq-stacks"
STACK_MAX: Final = 64
"""So many innermost frames of a thread are shown."""
ANSWER_S: Final = 1.0
_PAUSE_S: Final = 0.005
_LINE: Final = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<function>.*)$')


class Unseen(UsageError):
    """The stack cannot be had; the text says why."""


def listen(then: Callable[[], None]) -> None:
    """Have this child process write its stacks when asked, and call ``then`` each time. Thread: main.

    Does nothing where there are no anonymous files.
    """
    if not hasattr(os, "memfd_create"):
        return
    file = os.memfd_create(FILE, os.MFD_CLOEXEC)
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    signal.signal(ASKS_ON, lambda number, frame: then())
    # Otherwise a task's read or write might end early for it.
    signal.siginterrupt(ASKS_ON, False)
    faulthandler.register(ASKS_ON, file=file, all_threads=True, chain=True)


def in_child(pid: int) -> str:
    """The stacks of a child process, each thread's most recent call last. Raises: Unseen, OSError."""
    if not os.path.isdir("/proc/self/fd"):
        raise Unseen("stacks of child processes are read through /proc, which is not there")
    path = _file_of(pid)
    with open(path, "r+b", buffering=0) as file:
        file.truncate(0)
        os.kill(pid, ASKS_ON)
        deadline, size = time.monotonic() + ANSWER_S, 0
        while time.monotonic() < deadline:
            before, size = size, os.fstat(file.fileno()).st_size
            if size and size == before:
                break
            time.sleep(_PAUSE_S)
        file.seek(0)
        text = file.read().decode(errors="replace")
    if not text:
        raise Unseen(f"process {pid} did not answer within {ANSWER_S:g} s")
    return _readable(text)


def _file_of(pid: int) -> str:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{name}").startswith(f"/memfd:{FILE}"):
                return f"{folder}/{name}"
        except OSError:
            continue
    raise Unseen(f"process {pid} is not ready to be asked")


def _readable(text: str) -> str:
    """faulthandler's text the other way round, with the lines of the source, and only what is of interest."""
    threads: list[tuple[str, list[re.Match[str]]]] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and threads:
            threads[-1][1].append(match)
        elif line.strip():
            threads.append((line.replace("most recent call first", "most recent call last"), []))
    shown = [part for head, calls in threads if (part := _thread(head, calls[::-1]))]
    linecache.checkcache()
    return "\n".join(shown)


def _thread(head: str, calls: Sequence[re.Match[str]]) -> str:
    """One thread, outermost call first; nothing of a thread that is opsq's own."""
    files = [call["file"] for call in calls]
    if is_ours(files) and not head.startswith("Current"):
        return ""
    return "\n".join([head, *map(_call, calls[own_from(files) :][-STACK_MAX:])])


def _call(match: re.Match[str]) -> str:
    source = linecache.getline(match["file"], int(match["line"])).strip()
    return f"{match[0]}\n    {source}" if source else match[0]
