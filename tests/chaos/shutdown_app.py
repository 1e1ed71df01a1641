"""The app of the shutdown tests: tasks for every pool that write down when they began and ended.

``LEDGER`` names the file, see ``ledger.py``. ``GATE`` names a file that ``gated`` tasks wait for.
"""

from __future__ import annotations

import os
import signal
import time

from opsq import Opsq

app = Opsq("shutdown_app")


def write(kind: str, number: int) -> None:
    """Add one line to the ledger."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    try:
        os.write(ledger, f"{kind} {number} {os.getpid()} {time.time():.6f}\n".encode())
    finally:
        os.close(ledger)


@app.task
def work(number: int, milliseconds: float) -> int:
    """Sleep, between two lines of the ledger."""
    write("S", number)
    time.sleep(milliseconds / 1000)
    write("D", number)
    return number


@app.task(acks_late=False)
def early(number: int, milliseconds: float) -> int:
    """The same, acknowledged before it runs."""
    return work(number, milliseconds)


@app.task
def gated(number: int) -> None:
    """Wait for the gate, deaf to signals and to exceptions."""
    write("S", number)
    if os.environ.get("DEAF"):
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(each, signal.SIG_IGN)
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.005)
    write("D", number)
