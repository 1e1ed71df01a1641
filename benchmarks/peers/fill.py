"""``python -m benchmarks.peers.fill DRIVER TASKS``: let a driver send calls; print its rate as JSON.

A driver's ``fill(tasks)`` sends ``tasks`` calls, rows 0 to tasks - 1, and returns how many it sent per second,
one at a time; the first call connects and is not timed.
"""

from __future__ import annotations

import importlib
import json
import sys


def main(driver: str, tasks: int) -> None:
    """Let ``driver`` send ``tasks`` calls."""
    per_second = importlib.import_module(f"benchmarks.peers.{driver}").fill(tasks)
    print(json.dumps({"per_second": per_second}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
