"""Flower's list and search, for comparison: its own page's requests, over so many tasks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from benchmarks.monitor import FLOWER, flower_beside, until_heard
from tests.servers import redis_server

#: Events a second; Flower loses what comes faster than it can count.
RATE: Final = 4_000
_EVENTS_A_TASK: Final = 3
_COLUMNS: Final = ("name", "uuid", "state", "args", "kwargs", "result", "received", "started", "runtime", "worker")
QUERIES: Final = {"list": "", "search": "EUR", "search_one": "shop.tasks.resize"}


def measure(tasks: int, repeat: int) -> dict[str, Any] | None:
    """Fill a Flower and ask it; p99 in milliseconds by request, None where there is no Flower."""
    if not FLOWER.exists():
        return None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opsq-bench-")))
        redis = stack.enter_context(redis_server(folder))
        running = stack.enter_context(flower_beside(redis, folder))
        until_heard(redis, 1)
        _send(redis.port, tasks)
        counted = running.counted()
        found = {f"{name}_p99": _p99(running.port, text, repeat) for name, text in QUERIES.items()}
    return {"tasks": (counted or 0) // _EVENTS_A_TASK, **found}


def _send(port: int, tasks: int) -> None:
    events = tasks * _EVENTS_A_TASK
    words = ["--port", str(port), "--host", "celery@w0", "--events", str(events), "--seconds", str(events / RATE)]
    subprocess.run([sys.executable, "-m", "benchmarks.monitor_sender", *words], input=b"go\n", check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def _p99(port: int, text: str, repeat: int) -> float:
    query = {"draw": 1, "start": 0, "length": 10, "search[value]": text, "order[0][column]": 7, "order[0][dir]": "desc"}
    query |= {f"columns[{place}][data]": column for place, column in enumerate(_COLUMNS)}
    times = []
    for _ in range(repeat):
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        began = time.perf_counter()
        connection.request("GET", f"/tasks/datatable?{urlencode(query)}")
        connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1000)
        connection.close()
    return round(sorted(times)[min(repeat - 1, int(0.99 * repeat))], 1)
