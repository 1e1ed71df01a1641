"""The app under fire: tasks that write down themselves that they began and ended.

``LEDGER`` names the file. One ``write`` on a descriptor opened with O_APPEND is one whole line,
whatever happens to the writer, so the truth does not depend on the code under test.
"""

from __future__ import annotations

import os
import time

from opsq import Opsq

app = Opsq("kill_app")


@app.task
def work(number: int, milliseconds: float) -> int:
    """Sleep, between two lines of the ledger."""
    ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    try:
        os.write(ledger, f"S {number} {os.getpid()} {time.time():.6f}\n".encode())
        time.sleep(milliseconds / 1000)
        os.write(ledger, f"D {number} {os.getpid()} {time.time():.6f}\n".encode())
    finally:
        os.close(ledger)
    return number
