"""Coroutines of the same app, in a module of their own because not every pool may have them."""

from __future__ import annotations

import asyncio
import time

from benchmarks.workload import app, board


@app.task(ignore_result=True)
async def nap_async(row: int, seconds: float) -> None:
    """Sleep on the event loop, holding a slot."""
    started = time.time()
    await asyncio.sleep(seconds)
    board.ran(row, started, time.time())


@app.task(ignore_result=True)
async def noop_async(row: int) -> None:
    """The same, as a coroutine."""
    board.mark(row)
