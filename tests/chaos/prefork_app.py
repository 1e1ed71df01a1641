"""Tasks that wear their child process out, or kill it; they write the ledger themselves (see ``kill_app``)."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from opsq import Opsq

app = Opsq("prefork_app")
hoard: list[bytearray] = []


def note(kind: str, number: object) -> None:
    """Append one line."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    os.write(ledger, f"{kind} {number} {os.getpid()} {time.time():.6f}\n".encode())
    os.close(ledger)


@app.task(ignore_result=True)
def small(number: int, kib: int = 0) -> None:
    """Run once, keeping ``kib`` KiB for good."""
    note("S", number)
    if kib:
        hoard.append(bytearray(b"x" * kib * 1024))
    note("D", number)


@app.task
def gate(name: str) -> int:
    """Run until the file ``name`` is there."""
    note("S", os.path.basename(name))
    while not Path(name).exists():
        time.sleep(0.005)
    note("D", os.path.basename(name))
    return os.getpid()


@app.task
def die_when_told(name: str) -> None:
    """Kill the own process as soon as the file ``name`` is there."""
    note("S", os.path.basename(name))
    while not Path(name).exists():
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def die(how: str, number: str, times: int, cure: str = "") -> str:
    """Die in this way in the first ``times`` runs, unless the file ``cure`` is there."""
    lines = Path(os.environ["LEDGER"]).read_text().splitlines() if Path(os.environ["LEDGER"]).exists() else []
    earlier = sum(line.startswith(f"S {number} ") for line in lines)
    note("S", number)
    if earlier < times and not (cure and Path(cure).exists()):
        DEATHS[how]()
    note("D", number)
    return "lived"


def _eat() -> None:
    while True:
        hoard.append(bytearray(b"x" * 8 * 1024 * 1024))


DEATHS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "memory": _eat,
}
