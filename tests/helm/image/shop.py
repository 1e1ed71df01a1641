"""What an image of a user holds: an app whose tasks write down that they began and ended, and a schedule."""

from __future__ import annotations

import os
import time

from opsq import Opsq

app = Opsq("shop")
app.conf.beat_schedule = {"tick": {"task": "shop.work", "schedule": 1.0, "args": ("tick", 0)}}


@app.task
def work(number: int | str, milliseconds: float) -> int | str:
    """Sleep, between two lines of the ledger."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    try:
        os.write(ledger, f"S {number} {os.getpid()} {time.time():.6f}\n".encode())
        time.sleep(milliseconds / 1000)
        os.write(ledger, f"D {number} {os.getpid()} {time.time():.6f}\n".encode())
    finally:
        os.close(ledger)
    return number


@app.task
def fail() -> None:
    """Fail."""
    raise ValueError("as asked")
