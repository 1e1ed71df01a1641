"""Fill a queue and read a board: what several benchmarks share."""

from __future__ import annotations

from typing import Any

from benchmarks.board import Board

DEFAULT_SLOTS = {"prefork": 2, "threads": 8, "solo": 1, "asyncio": 100, "gevent": 100, "eventlet": 100}
BATCH = 1_000


def fill(app: Any, task: Any, tasks: int, *extra: Any) -> None:
    """Send ``tasks`` calls of ``task(row, *extra)`` in batches."""
    for start in range(0, tasks, BATCH):
        app.send_many([task.s(row, *extra) for row in range(start, min(start + BATCH, tasks))])


def figures_of(board: Board, rss: float) -> dict[str, Any]:
    """Read the board after the worker has ended."""
    first, last = board.span()
    executed = board.executed()
    return {
        "tasks": board.size,
        "executed": executed,
        "distinct": board.distinct(),
        "per_second": round(executed / max(last - first, 1e-9), 1),
        "rss_mb": rss,
    }
