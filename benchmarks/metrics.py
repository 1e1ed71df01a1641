"""How long a scrape of ``/metrics`` takes: 1,000 task names on 100 workers, over HTTP.

Between two scrapes every task type runs again, so that nothing is answered from memory; ``still_ms`` is with nothing
new. Flower's and celery-exporter's names are on, as by default. ``scrape_ms`` is the p95 of the text format.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

FORMATS: Final = {"text": "text/plain;version=0.0.4", "openmetrics": "application/openmetrics-text;version=1.0.0"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--types", type=int, default=1_000, help="task names")
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=100, help="tasks of each name before the first scrape")
    parser.add_argument("--scrapes", type=int, default=30)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the figures."""
    with tempfile.TemporaryDirectory(prefix="opsq-bench-") as folder, fleet(Path(folder), options) as more:
        port = more(0)
        more(options.rounds)
        result: dict[str, Any] = {
            "types": options.types,
            "workers": options.workers,
            "tasks": options.rounds * options.types,
        }
        for name, accept in FORMATS.items():
            scrape(port, accept)
            moving, still = [], []
            for _ in range(options.scrapes):
                more(1)
                took, size, lines = scrape(port, accept)
                moving.append(took)
                still.append(scrape(port, accept)[0])
            prefix = "" if name == "text" else f"{name}_"
            result |= {
                f"{prefix}scrape_ms": at_share(moving, 0.95), f"{prefix}p50_ms": at_share(moving, 0.5),
                f"{prefix}max_ms": at_share(moving, 1.0), f"{prefix}still_ms": at_share(still, 0.95),
                f"{prefix}mb": round(size / 1e6, 2), f"{prefix}lines": lines,
            }  # fmt: skip
    return result


@contextmanager
def fleet(folder: Path, options: argparse.Namespace) -> Iterator[Any]:
    """Run a fleet for the block; yields a function that plays so many rounds and gives the port."""
    command = [sys.executable, "-m", "benchmarks.fleet", str(folder), str(options.types), str(options.workers)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    port = int(process.stdout.readline())

    def more(rounds: int) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        if rounds:
            process.stdin.write(f"{rounds}\n")
            process.stdin.flush()
            process.stdout.readline()
        return port

    try:
        yield more
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def scrape(port: int, accept: str) -> tuple[float, int, int]:
    """(milliseconds, bytes, lines) of one answer, read to its end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    began = time.perf_counter()
    connection.request("GET", "/metrics", headers={"Accept": accept})
    body = connection.getresponse().read()
    took = (time.perf_counter() - began) * 1000
    connection.close()
    return took, len(body), body.count(b"\n")


def at_share(values: list[float], share: float) -> float:
    """The value at a share of them, in order; 1.0 is the greatest."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
