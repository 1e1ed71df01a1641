"""The servers of a contest, and one run in it: fill, start a worker, wait until the queue is empty, stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import amqp
import psutil
from redis import Redis

from benchmarks import site
from benchmarks.board import Board
from benchmarks.peers.contestants import Contestant
from benchmarks.peers.figures import Run
from tests.rabbitmq import rabbitmq_server
from tests.servers import redis_server

STALLED_S = 20.0
STOP_S = 20.0
QUEUES = ("celery", "default", "default.DQ", "default.XQ", "taskiq", "taskiq.dead_letter", "taskiq.delay")


@dataclass(frozen=True)
class Arena:
    """A running server. clear: take everything away that an earlier run left."""

    broker: str
    url: str
    clear: Callable[[], None]


@contextmanager
def arena(broker: str) -> Iterator[Arena]:
    """Start a server of our own for the block. Redis writes nothing to disk; RabbitMQ's queues are durable."""
    with tempfile.TemporaryDirectory(prefix="opsq-peers-") as folder:
        if broker == "redis":
            with redis_server(Path(folder)) as redis, Redis.from_url(redis.url) as client:
                yield Arena(broker, redis.url, lambda: _flush(client))
        else:
            with rabbitmq_server(Path(folder)) as rabbit:
                host = f"127.0.0.1:{rabbit.port}"
                yield Arena(broker, f"amqp://guest:guest@{host}/%2F", lambda: _delete_queues(host))


def _flush(client: Redis) -> None:
    client.flushall()


def _delete_queues(host: str) -> None:
    with amqp.Connection(host) as connection:
        channel = connection.channel()
        for queue in QUEUES:
            channel.queue_delete(queue)


def run_once(place: Arena, who: Contestant, tasks: int) -> Run:
    """Fill the queue with ``tasks`` calls, drain it with one worker, and read the board.

    Raises: CannotMeasure when the calls cannot be sent or the worker ends by itself.
    """
    place.clear()
    with tempfile.TemporaryDirectory(prefix="opsq-peers-") as name:
        folder = Path(name)
        board = Board(folder / "board", tasks)
        environment = _environment(place, who, folder, tasks)
        enqueued_per_second = _fill(who, tasks, environment)
        with _worker(who, environment, folder / "worker.log") as process:
            _wait(board, process, folder / "worker.log")
            rss_mb = site.rss_mb(site.family(process))
        if not board.executed():
            raise site.CannotMeasure(f"{who.name}: nothing ran in {STALLED_S:.0f} s: {_tail(folder / 'worker.log')}")
        first, last = board.span()
        executed, distinct = board.executed(), board.distinct()
    return Run(tasks, executed, distinct, executed / max(last - first, 1e-9), enqueued_per_second, rss_mb)


def _environment(place: Arena, who: Contestant, folder: Path, tasks: int) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPSQ_")}
    ours = {"OPSQ_DATA_DIR": str(folder), "OPSQ_BROKER_URL": place.url} if who.system == "opsq" else {}
    return {
        **inherited,
        **ours,
        **who.environment,
        "BENCH_BROKER": place.broker,
        "BENCH_BROKER_URL": place.url,
        "BENCH_BOARD": str(folder / "board"),
        "BENCH_ROWS": str(tasks),
        "BENCH_SLOTS": str(who.slots),
        "PYTHONPATH": str(Path.cwd()),
    }


def _fill(who: Contestant, tasks: int, environment: dict[str, str]) -> float:
    command = [who.python, "-m", "benchmarks.peers.fill", who.driver, str(tasks)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise site.CannotMeasure(f"{who.name}: the calls could not be sent: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["per_second"])


@contextmanager
def _worker(who: Contestant, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            who.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process, who.stop)


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ask the worker to end; after a while, and for what it leaves behind, do not ask."""
    children = site.family(process)[1:] if process.poll() is None else []
    process.send_signal(how)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=2)
    for child in alive:
        child.kill()


def _wait(board: Board, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until every row ran, or until nothing more has run for STALLED_S."""
    seen, moved_at = 0, time.monotonic()
    while (distinct := board.distinct()) < board.size:
        if process.poll() is not None:
            raise site.CannotMeasure(f"the worker ended with exit code {process.returncode} too early: {_tail(log)}")
        if distinct > seen:
            seen, moved_at = distinct, time.monotonic()
        elif time.monotonic() - moved_at > STALLED_S:
            return
        time.sleep(0.02)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
