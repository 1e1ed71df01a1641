"""The app of a prefork worker that is steered; see ``test_children.py``."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from opsq import Opsq

app = Opsq("steered")
log = logging.getLogger("steered")
HERE = Path(os.environ.get("STEERED", "."))


@app.task
def stuck() -> None:
    """Run until somebody ends it."""
    threading.Event().wait(60)


@app.task
def talk() -> int:
    """Log something small; the process that did."""
    log.debug("a small word")
    return os.getpid()


@app.control_command(args=[("n", int)])
def greet(state, n=1):  # type: ignore[no-untyped-def]
    """Greet n times."""
    return {"ok": f"{state.hostname}: {'hello ' * n}".strip()}
