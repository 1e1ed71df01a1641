"""The coroutines of the shutdown tests; other pools refuse to start with them."""

from __future__ import annotations

import asyncio
import os

from shutdown_app import app, write


@app.task(name="shutdown_app.awork")
async def awork(number: int, milliseconds: float) -> int:
    """As ``work``, on an event loop."""
    write("S", number)
    await asyncio.sleep(milliseconds / 1000)
    write("D", number)
    return number


@app.task(name="shutdown_app.agated")
async def agated(number: int) -> None:
    """As ``gated``, on an event loop, deaf to being cancelled."""
    write("S", number)
    while not os.path.exists(os.environ["GATE"]):  # noqa: ASYNC240  it takes microseconds
        try:
            await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            if not os.environ.get("DEAF"):
                raise
    write("D", number)
