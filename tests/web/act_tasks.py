"""Tasks of the worker that the acts of the pages are tried on."""

from __future__ import annotations

import time
from pathlib import Path

from opsq import Opsq

app = Opsq("act_tasks")


@app.task
def add(x: int, y: int) -> int:
    """Add."""
    return x + y


@app.task
def wait_for(path: str) -> str:
    """Run until a file is there."""
    while not Path(path).exists():
        time.sleep(0.02)
    return "released"
