"""Events a second that ``opsq monitor`` folds and keeps: two senders, one Redis, one SQLite history.

``--burst``: all events in about ten seconds, Flower watching beside it. Counted are the events found in the rows of
the history afterwards, one by one; lost are those sent and not found; reported_lost is what the monitor itself says.
``--sustained``: a rate for a minute; lag is how far the newest row of the history is behind, each half second,
index_behind_s when the search index knew everything, in seconds after the last event was sent.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import msgspec
import psutil
from redis import Redis

from benchmarks import site
from opsq.events.cluster import Ledger
from opsq.events.evidence import decode
from opsq.events.records import KEY_SHIFT
from opsq.events.sqlite import SqliteStore
from tests.servers import RedisServer, free_port, redis_server

SENDERS: Final = 2
PATIENCE_S: Final = 120.0
INDEX_PATIENCE_S: Final = 60.0
FLOWER: Final = Path(__file__).resolve().parents[1] / ".venv-interop" / "bin" / "python"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--burst", action="store_true", help="all events in about ten seconds (the default)")
    how.add_argument("--sustained", action="store_true", help="a steady rate")
    parser.add_argument("--events", type=int, default=450_000, help="of a burst")
    parser.add_argument("--rate", type=int, default=50_000, help="events a second, sustained")
    parser.add_argument("--seconds", type=float, default=None, help="10 for a burst, 60 sustained")
    parser.add_argument("--no-flower", action="store_true", help="nobody beside the monitor")
    parser.add_argument("--profile", metavar="FILE", help="write the profile of the monitor's writer there")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run once and return the figures."""
    seconds = options.seconds or (60.0 if options.sustained else 10.0)
    events = int(options.rate * seconds) if options.sustained else options.events
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opsq-bench-")))
        redis = stack.enter_context(redis_server(folder))
        monitor = stack.enter_context(_monitor(redis, folder, options.profile))
        with_flower = not options.sustained and not options.no_flower and FLOWER.exists()
        flower = stack.enter_context(flower_beside(redis, folder)) if with_flower else None
        until_heard(redis, 2 if flower else 1)
        figures = _send(redis, events, seconds, folder, sample=options.sustained)
        history = folder / "history.db"
        figures["seconds"] = round(_until_quiet(history, figures["_began"]), 2)
        family = [psutil.Process(monitor.pid), *psutil.Process(monitor.pid).children(recursive=True)]
        figures["rss_mb"] = site.rss_mb(family)
        if options.sustained:
            figures["index_behind_s"] = _until_indexed(history, figures["_ended"])
        figures["flower_counted"] = flower.counted() if flower else None
        _end(monitor)
        figures |= _counted(history, figures["sent"])
        figures |= {"history_mb": round(history.stat().st_size / 1e6, 1)}
    del figures["_began"], figures["_ended"]
    return {"mode": "sustained" if options.sustained else "burst", **figures}


@contextmanager
def _monitor(redis: RedisServer, folder: Path, profile: str | None) -> Iterator[subprocess.Popen[bytes]]:
    words = ["-m", "opsq", "monitor", "-b", redis.url, "--data-dir", str(folder), "--no-web", "-l", "WARNING"]
    if profile:
        words = ["-m", "benchmarks.monitor_profile", profile, *words[2:]]
    process = subprocess.Popen([sys.executable, *words], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait(30)


class _Flower:
    def __init__(self, port: int) -> None:
        self.port = port

    def total(self) -> int | None:
        """Events that its own metrics count, ``None`` while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except (URLError, TimeoutError, ConnectionError):
            return None
        found = [line.rpartition(" ")[2] for line in lines if line.startswith("flower_events_total{")]
        return int(sum(float(value) for value in found))

    def counted(self) -> int | None:
        """The same once it grows no more."""
        last, since, give_up_at = -1, time.monotonic(), time.monotonic() + PATIENCE_S
        while time.monotonic() - since < 3.0 and time.monotonic() < give_up_at:
            now = self.total()
            if now is not None and now != last:
                last, since = now, time.monotonic()
            time.sleep(0.5)
        return last if last >= 0 else None


@contextmanager
def flower_beside(redis: RedisServer, folder: Path) -> Iterator[_Flower]:
    """Run Flower over the broker for the block."""
    port = free_port()
    words = ["-m", "celery", "--broker", redis.url, "flower", f"--port={port}", "--address=127.0.0.1"]
    log = (folder / "flower.log").open("wb")
    process = subprocess.Popen([str(FLOWER), *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    flower = _Flower(port)
    try:
        give_up_at = time.monotonic() + 30
        while flower.total() is None:
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise site.CannotMeasure(f"Flower does not run: {(folder / 'flower.log').read_text()[-500:]}")
            time.sleep(0.2)
        yield flower
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def until_heard(redis: RedisServer, listeners: int) -> None:
    """Wait until so many programs listen to the events."""
    give_up_at = time.monotonic() + 30
    with closing(Redis(port=redis.port)) as client:
        # By client: two that listen to the same pattern are one pattern.
        while sum(int(each["psub"]) > 0 for each in client.client_list()) < listeners:
            if time.monotonic() > give_up_at:
                raise site.CannotMeasure("nobody listens to the events")
            time.sleep(0.05)


def _send(redis: RedisServer, events: int, seconds: float, folder: Path, *, sample: bool) -> dict[str, Any]:
    """Let two senders run; what they sent, and how far the history was behind meanwhile."""
    words = ["--port", str(redis.port), "--events", str(events // SENDERS), "--seconds", str(seconds)]
    senders = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.monitor_sender", "--host", f"celery@w{n}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in range(SENDERS)
    ]
    time.sleep(1.0)  # they import
    began = time.time()
    for each in senders:
        assert each.stdin is not None
        each.stdin.write(b"go\n")
        each.stdin.flush()
    lags = []
    while any(each.poll() is None for each in senders):
        time.sleep(0.5)
        if sample and time.time() - began > 2.0 and (newest := _newest(folder / "history.db")) is not None:
            lags.append(time.time() - newest)
    told = [each.communicate()[0].split() for each in senders]
    sent = sum(int(words[0]) for words in told)
    figures: dict[str, Any] = {"sent": sent, "sending_s": max(float(words[1]) for words in told), "_began": began}
    figures["_ended"] = time.time()
    figures["rate"] = round(sent / figures["sending_s"])
    if lags:
        figures |= {"lag_max_s": round(max(lags), 2), "lag_median_s": round(statistics.median(lags), 2)}
    return figures


def _newest(history: Path) -> float | None:
    """The time of the newest task in the history, epoch seconds."""
    try:
        with closing(sqlite3.connect(f"{history.as_uri()}?mode=ro", uri=True)) as db:
            (key,) = db.execute("SELECT max(key) FROM tasks").fetchone()
    except sqlite3.Error:
        return None
    return None if key is None else (key >> KEY_SHIFT) / 1000


def _until_quiet(history: Path, began: float) -> float:
    """Wait until nothing more is written; seconds from the start to the last change of the counts."""
    last, changed_at, give_up_at = b"", time.time(), time.time() + PATIENCE_S
    while time.time() - changed_at < 3.0 and time.time() < give_up_at:
        with closing(sqlite3.connect(f"{history.as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT value FROM ledger WHERE name = 'counts'").fetchone()
        kinds = _kinds(row[0]) if row else b""
        if kinds != last:
            last, changed_at = kinds, time.time()
        time.sleep(0.25)
    return changed_at - began


def _until_indexed(history: Path, ended: float) -> float | None:
    """Wait until the search index knows every task; seconds since the sending ended, ``None`` when that is not soon."""
    give_up_at = time.time() + INDEX_PATIENCE_S
    while time.time() < give_up_at:
        with closing(sqlite3.connect(f"{history.as_uri()}?mode=ro", uri=True)) as db:
            if not db.execute("SELECT EXISTS (SELECT 1 FROM fresh)").fetchone()[0]:
                return round(time.time() - ended, 1)
        time.sleep(0.25)
    return None


def _kinds(counts: bytes) -> bytes:
    kinds = msgspec.msgpack.decode(counts, type=Ledger).kinds
    return json.dumps({kind: n for kind, n in kinds.items() if kind.startswith("task-")}, sort_keys=True).encode()


def _counted(history: Path, sent: int) -> dict[str, Any]:
    """What is in the history: every mark of every row, and what the monitor says was lost."""
    copy = history.with_name("counted.db")
    for end in ("", "-wal"):
        if Path(f"{history}{end}").exists():
            shutil.copy(f"{history}{end}", f"{copy}{end}")
    store = SqliteStore(copy)
    try:
        ledger = msgspec.msgpack.decode(store.restore().ledger["counts"], type=Ledger)
    finally:
        store.close()
    counted = tasks = size = 0
    with closing(sqlite3.connect(copy)) as db:
        for (evidence,) in db.execute("SELECT evidence FROM tasks"):
            counted += len(decode(evidence).marks)
            tasks += 1
            size += len(evidence)
    return {
        "counted": counted, "lost": sent - counted, "reported_lost": ledger.dropped + ledger.lost_before,
        "malformed": ledger.malformed, "tasks": tasks, "evidence_bytes_per_task": round(size / max(tasks, 1)),
    }  # fmt: skip
