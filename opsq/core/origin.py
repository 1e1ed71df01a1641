"""Who this process is to others: the origin of its messages and the address of its replies.

Worked out once and again after a fork, because a child that kept its parent's address would steal
the parent's replies.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Final, NamedTuple

# The digit whose two upper bits say by which rules a UUID was made, its lower two as they are.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def new_id() -> str:
    """A random task id, a version 4 UUID as text."""
    # str(uuid.uuid4()) spends most of its time building the UUID object; this is the same value.
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


class Here(NamedTuple):
    """What is the same for everything one process sends.

    name: ``gen<pid>@<host>``. oid: address for replies to remote control. utcoffset_h: hours west of UTC.
    emitter, numbers: what the events of this process are numbered in, and by, so that a lost one shows.
    """

    pid: int
    name: str
    hostname: str
    oid: str
    node: str
    utcoffset_h: float
    local: threading.local
    emitter: str
    numbers: Iterator[int]


class Origin:
    """The names of this process. Thread: any; fork-aware."""

    def __init__(self) -> None:
        self._here: Here | None = None
        self._lock = threading.Lock()

    def here(self) -> Here:
        """All names at once; the hot path asks once per message, since asking includes a system call."""
        here = self._here
        pid = os.getpid()
        if here is not None and here.pid == pid:
            return here
        with self._lock:
            node = uuid.uuid4().hex
            host = socket.gethostname()
            offset_h = -(time.localtime().tm_gmtoff or 0) / 3600
            oid = _oid(node, pid, 0, id(self))
            name, emitter = f"gen{pid}@{host}", str(uuid.uuid4())
            here = self._here = Here(
                pid, name, host, oid, node, offset_h, threading.local(), emitter, itertools.count(1)
            )
            return here

    def reply_to(self, here: Here) -> str:
        """This thread's address for results: the ``reply_to`` of its messages."""
        found: str | None = getattr(here.local, "oid", None)
        if found is None:
            found = here.local.oid = _oid(here.node, here.pid, threading.get_ident(), id(self))
        return found

    @property
    def pid(self) -> int:
        """This process's id."""
        return self.here().pid

    @property
    def name(self) -> str:
        """``gen<pid>@<host>``: the origin header, and the hostname of events that clients send."""
        return self.here().name

    @property
    def hostname(self) -> str:
        """The machine's name."""
        return self.here().hostname

    @property
    def utcoffset_h(self) -> float:
        """Hours west of UTC, as events carry it."""
        return self.here().utcoffset_h

    @property
    def oid(self) -> str:
        """The app's address for replies to remote control."""
        return self.here().oid

    @property
    def thread_oid(self) -> str:
        """This thread's address for results."""
        return self.reply_to(self.here())


def _oid(node: str, pid: int, thread: int, owner: int) -> str:
    """An address nobody else has. Source: celery-protocol A.1, "oid rule"."""
    return str(uuid.uuid3(uuid.NAMESPACE_OID, f"{node}-{pid:x}-{thread:x}-{owner:x}"))
