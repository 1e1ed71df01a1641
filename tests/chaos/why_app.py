"""The tasks whose waiting is explained: settings come from the environment."""

from __future__ import annotations

import time

from opsq import Opsq

app = Opsq("why")


@app.task
def nap(seconds: float) -> float:
    """Hold a slot."""
    time.sleep(seconds)
    return seconds


@app.task(rate_limit="4/m")
def rarely() -> None:
    """Start no more often than every 15 seconds."""


@app.task
def nap_evenly(seconds: float) -> None:
    """Hold a slot; a type of its own, so that all its runs are of one length."""
    time.sleep(seconds)
