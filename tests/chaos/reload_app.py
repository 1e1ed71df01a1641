"""The app that is edited while it runs; ``VERSION`` is what an edit changes.

Each run leaves three lines: ``S`` and ``D`` in the ledger, ``V id version time`` in the file beside it.
"""

from __future__ import annotations

import os
import time

from opsq import Opsq

VERSION = 0

app = Opsq("reload_app")


def _note(name: str, line: str) -> None:
    file = os.open(os.environ[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


@app.task
def work(number: int, milliseconds: float) -> int:
    """Sleep, between two lines of the ledger; return the version of this code."""
    _note("LEDGER", f"S {number} {os.getpid()} {time.time():.6f}")
    _note("VERSIONS", f"V {number} {VERSION} {time.time():.6f}")
    time.sleep(milliseconds / 1000)
    _note("LEDGER", f"D {number} {os.getpid()} {time.time():.6f}")
    return VERSION
