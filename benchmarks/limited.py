"""The app behind ``rates`` and ``limits``: tasks of one rate each, and tasks that run into their time limits."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import Any

from benchmarks.board import Board
from opsq import Opsq

SPELLINGS = ("10/s", "600/m", "36000/h")
PER_S = 10.0
BEFORE = "1/s"
"""The rate of those that are changed at run time, until they are."""

OPTION = tuple(f"option_{n}" for n in range(3))
ANNOTATION = tuple(f"annotation_{n}" for n in range(3))
CHANGED = tuple(f"changed_{n}" for n in range(3))
DEFAULT = ("default",)
NAMES = (*OPTION, *ANNOTATION, *CHANGED, *DEFAULT)

app = Opsq(
    "limited",
    log_level="CRITICAL",
    task_ignore_result=True,
    task_default_rate_limit=SPELLINGS[2],
    task_annotations={
        f"limited.{name}": {"rate_limit": rate} for name, rate in zip(ANNOTATION, SPELLINGS, strict=True)
    },
)


def board() -> Board:
    """Where runs are noted."""
    return Board(Path(os.environ["BENCH_BOARD"]), int(os.environ["BENCH_ROWS"]))


BOARD = board() if "BENCH_BOARD" in os.environ else None


def _declare(name: str, **options: Any) -> None:
    def note(row: int) -> None:
        assert BOARD is not None
        BOARD.mark(row)

    note.__name__ = name
    app.task(note, name=f"limited.{name}", **options)


for _name, _rate in zip(OPTION, SPELLINGS, strict=True):
    _declare(_name, rate_limit=_rate)
for _name in CHANGED:
    _declare(_name, rate_limit=BEFORE)
for _name in (*ANNOTATION, *DEFAULT):
    _declare(_name)


def _python_loop() -> None:
    while True:
        pass


def _sleep() -> None:
    time.sleep(60)


def _c_call_hash() -> None:
    """One call of some 8 s that lets go of the GIL and looks at no signal."""
    pbkdf2_hmac("sha512", b"x", b"y", 20_000_000)


def _c_call_hash_1s() -> None:
    """The same for some 1 s."""
    pbkdf2_hmac("sha512", b"x", b"y", 2_500_000)


def _select() -> None:
    select.select([], [], [], 60)


def _receive() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.recv(1)


def _lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _program() -> None:
    subprocess.run(["sleep", "60"], check=False)


def _c_call_regex() -> None:
    """One call that would take longer than anybody waits, and looks at signals now and then."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _ignores_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _python_loop()


LONG: dict[str, Callable[[], None]] = {
    "python loop": _python_loop,
    "time.sleep": _sleep,
    "C call, hashing": _c_call_hash,
    "C call, regex": _c_call_regex,
    "C call, select": _select,
    "C call, socket.recv": _receive,
    "C call, Lock.acquire": _lock,
    "subprocess.run": _program,
    "ignores SIGTERM": _ignores_sigterm,
}


DEAF: dict[str, Callable[[], None]] = {"C call, hashing": _c_call_hash_1s}
"""Shorter forms of those that no exception can be raised in, of the same name."""


@app.task(name="limited.deaf", rate_limit=0)
def deaf(case: str) -> None:
    """Run one of the cases to its end."""
    DEAF[case]()


@app.task(name="limited.long", rate_limit=0)
def long(case: str) -> None:
    """Run one of the cases until something stops it."""
    LONG[case]()
