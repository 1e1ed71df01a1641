"""The app that benchmarks run; every process of a run imports it and finds its board by environment."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.board import Board
from benchmarks.cpu import spin
from opsq import Opsq

app = Opsq("benchmarks")
board = Board(Path(os.environ["BENCH_BOARD"]), int(os.environ["BENCH_ROWS"]))


@app.task(ignore_result=True)
def noop(row: int) -> None:
    """Do nothing, and note that it was done."""
    board.mark(row)


@app.task(ignore_result=True)
def nap(row: int, seconds: float) -> None:
    """Sleep, holding a slot."""
    started = time.time()
    time.sleep(seconds)
    board.ran(row, started, time.time())


@app.task(ignore_result=True)
def compute(row: int, turns: int) -> None:
    """Compute, holding a slot and a processor."""
    started = time.time()
    spin(turns)
    board.ran(row, started, time.time())


@app.task
def add(x: int, y: int) -> int:
    """Return the sum; the result is stored."""
    return x + y
