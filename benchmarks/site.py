"""A place to measure in: a folder, a broker, a board, and workers started as people start them."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import brokers
from benchmarks.board import Board

BROKERS = ("sqlite", "amqp", "redis")
PATIENCE_S = 300.0


class CannotMeasure(Exception):
    """The measurement asked for does not exist, or did not finish."""


@dataclass(frozen=True)
class Site:
    """One run's folder and settings. rows: how many tasks the board can count. settings: as environment."""

    folder: Path
    rows: int
    pool: str
    slots: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def board_path(self) -> Path:
        return self.folder / "board"

    def environment(self) -> dict[str, str]:
        """What the worker's process needs to find this site."""
        return (
            os.environ
            | self.settings
            | {
                "OPSQ_DATA_DIR": str(self.folder),
                "BENCH_BOARD": str(self.board_path),
                "BENCH_ROWS": str(self.rows),
            }
        )

    def enter(self) -> None:
        """Point this very process at the site, before ``benchmarks.workload`` is imported."""
        os.environ.update(self.environment())

    @contextmanager
    def worker(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``opsq worker`` for the length of the block; it must end cleanly."""
        command = [sys.executable, "-m", "opsq", "worker", "-A", "benchmarks.workload:app", "-P", self.pool]
        command += ["-c", str(self.slots), "-l", "WARNING", *options]
        if self.pool == "asyncio":
            command += ["-I", "benchmarks.workload_async"]
        process = subprocess.Popen(command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=sys.stderr)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(30)) != 0:
                raise CannotMeasure(f"the worker ended with exit code {code}")

    def wait_until_done(self, board: Board, process: subprocess.Popen[bytes]) -> None:
        """Wait until every row of the board ran."""
        deadline = time.monotonic() + PATIENCE_S
        while board.distinct() < board.size:
            if process.poll() is not None:
                raise CannotMeasure(f"the worker ended with exit code {process.returncode} too early")
            if time.monotonic() > deadline:
                raise CannotMeasure(f"only {board.distinct()} of {board.size} tasks ran in {PATIENCE_S:.0f} s")
            time.sleep(0.02)


@contextmanager
def site(broker: str, pool: str, slots: int, rows: int) -> Iterator[Site]:
    """Make a site for one run and remove it afterwards.

    Raises: CannotMeasure for a broker that does not exist yet.
    """
    if broker not in BROKERS:
        raise CannotMeasure(f"there is no broker {broker!r} to measure; there are {', '.join((*BROKERS, 'memory'))}")
    with tempfile.TemporaryDirectory(prefix="opsq-bench-") as folder, servers_of(broker, Path(folder)) as settings:
        made = Site(Path(folder), rows, pool, slots, settings)
        made.enter()
        yield made


def servers_of(broker: str, folder: Path) -> AbstractContextManager[Mapping[str, str]]:
    """Start what a broker needs for the length of the block; yields settings as environment."""
    if broker == "amqp":
        return brokers.rabbitmq(folder)
    if broker == "redis":
        return brokers.redis(folder)
    return nullcontext({})


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The process and everything below it."""
    top = psutil.Process(process.pid)
    return [top, *top.children(recursive=True)]


def rss_mb(processes: Sequence[psutil.Process]) -> float:
    """Resident memory of processes together, in MB; shared pages count once per process."""
    return round(sum(process.memory_info().rss for process in processes) / 1e6, 1)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.release()}


def print_result(result: dict[str, Any]) -> None:
    """Print one JSON object as the last line."""
    print(json.dumps(result), flush=True)
