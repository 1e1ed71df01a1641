"""What one event costs the monitor's fold: pure, from parsed records to changes for the store, no I/O."""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import random
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil

from benchmarks import site
from opsq.events.cluster import Cluster, Limits
from opsq.events.store import MemoryStore
from opsq.wire.event import Event, parse_events
from opsq.wire.jsonext import dumps_json

T0: Final = 1_790_000_000.0
PER_TASK: Final = 4
TYPES: Final = tuple(f"shop.tasks.job_{n}" for n in range(10))
QUEUES: Final = ("celery", "mail", "reports")
WORKERS: Final = tuple(f"opsq@worker-{n}" for n in range(4))
#: Events an emitter puts into one message.
PER_MESSAGE: Final = 100
IN_FLIGHT: Final = 200
FAILURES: Final = 0.02
_TRACEBACK: Final = 'Traceback (most recent call last):\n  File "shop/tasks.py", line 12, in pay\n    raise Timeout()\n'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what can be varied."""
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--emitter", choices=("opsq", "celery"), default="opsq")
    parser.add_argument("--batch", type=int, default=5_000, help="events folded at once")
    parser.add_argument("--rate", type=float, default=50_000.0, help="events a second, by their own times")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fold a stream in batches and return microseconds per event, by part."""
    tasks = options.events // PER_TASK
    stream = numbered(list(arriving(tasks, options.emitter, options.rate)))
    messages = [dumps_json(chunk) for chunk in chunks(stream, PER_MESSAGE)]
    count = len(stream)
    del stream
    gc.collect()
    cluster = Cluster(MemoryStore(), Limits(live_bytes=2**40))
    profile = cProfile.Profile() if options.profile else None
    parse_s = fold_s = take_s = 0.0
    rows = 0
    for received in chunks(messages, max(1, options.batch // PER_MESSAGE)):
        started = time.thread_time()
        batch = [one for message in received for one in parse_events(message)]
        now = max(one.timestamp for one in batch if isinstance(one, Event))
        parsed = time.thread_time()
        if profile:
            profile.enable()
        cluster.apply(batch, now)
        folded = time.thread_time()
        rows += len(cluster.take().rows)
        cluster.written()
        if profile:
            profile.disable()
        take_s += time.thread_time() - folded
        parse_s += parsed - started
        fold_s += folded - parsed
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
    return {
        "emitter": options.emitter, "events": count, "tasks": tasks, "batch": options.batch,
        "parse_us": round(parse_s / count * 1e6, 2), "fold_us": round(fold_s / count * 1e6, 2),
        "take_us": round(take_s / count * 1e6, 2), "us_per_event": round((fold_s + take_s) / count * 1e6, 2),
        "events_per_s": round(count / (fold_s + take_s)), "rows_written": rows,
        "live_bytes_per_task": round(cluster.live.bytes / tasks), "rss_mb": site.rss_mb([psutil.Process()]),
    }  # fmt: skip


def chunks(values: list[Any], size: int) -> Iterator[list[Any]]:
    """Cut a list."""
    return (values[start : start + size] for start in range(0, len(values), size))


def arriving(tasks: int, emitter: str, rate: float) -> Iterator[dict[str, Any]]:
    """Events of many tasks as they arrive: interleaved, ``IN_FLIGHT`` tasks at a time."""
    dice = random.Random(1)
    step_s = PER_TASK / rate
    open_lives: list[list[dict[str, Any]]] = []
    for number in range(tasks):
        open_lives.append(life(number, T0 + number * step_s, emitter, dice))
        yield open_lives[-1].pop(0)
        if len(open_lives) >= IN_FLIGHT:
            for _ in range(PER_TASK - 1):
                place = dice.randrange(len(open_lives))
                yield open_lives[place].pop(0)
                if not open_lives[place]:
                    open_lives.pop(place)
    for left in open_lives:
        yield from left


def numbered(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Number each emitter's events as it sends them."""
    counts: dict[str, int] = {}
    for event in stream:
        emitter = event.get("emitter")
        if emitter is not None:
            event["seq"] = counts[emitter] = counts.get(emitter, 0) + 1
    return stream


def life(number: int, at: float, emitter: str, dice: random.Random) -> list[dict[str, Any]]:
    """Sent, received, started and ended of one task, as an emitter of this kind announces them."""
    uuid = f"{dice.getrandbits(128):032x}"
    uuid = f"{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}"
    name, queue, worker = TYPES[number % 10], QUEUES[number % 3], WORKERS[number % 4]
    call = {
        "name": name, "args": f"({number}, 'order-{number % 977}')", "kwargs": "{'retry': False}",
        "root_id": uuid, "parent_id": None, "retries": 0, "eta": None, "expires": None,
    }  # fmt: skip
    run_s = dice.lognormvariate(-3, 1)
    times = (at, at + 0.004, at + 0.006, at + 0.006 + run_s)
    common = {"uuid": uuid, "pid": 77, "clock": number, "utcoffset": 0}
    ours = {"queue": queue, "attempt": 1}
    course = {"published_at": times[0], "delivered_at": times[1]}
    slot = {"slot_at": times[2], "pool": "prefork", "child_pid": 4711 + number % 8}
    ran = {
        **course, **slot, "started_at": times[2] + 0.0005, "finished_at": times[3], "acked_at": times[3] + 0.001,
        "cpu_s": run_s / 3, "rss_bytes": 61_000_000 + number, "routing_key": queue, "name": name,
    }  # fmt: skip
    failed = dice.random() < FAILURES
    end: dict[str, Any] = (
        {"type": "task-failed", "exception": f"Timeout('after {number} s')", "traceback": _TRACEBACK}
        if failed
        else {"type": "task-succeeded", "result": f"'done {number}'", "runtime": run_s}
    )
    fingerprint = {"fingerprint": "5f3a9c0d1e2b4a67"} if failed else {}
    sent = {"type": "task-sent", "queue": queue, "exchange": "", "routing_key": queue}
    events = [
        {**common, **call, **sent, "timestamp": times[0], "hostname": "gen1@web"},
        {**common, **call, "type": "task-received", "timestamp": times[1], "hostname": worker},
        {**common, "type": "task-started", "timestamp": times[2], "hostname": worker},
        {**common, **end, "timestamp": times[3] + 0.001, "hostname": worker},
    ]
    if emitter == "opsq":
        sources = ("c" * 36, worker * 3, worker * 3, worker * 3)
        extra = (course | {"delivered_at": None}, course, slot, {**ran, **fingerprint})
        for order, event in enumerate(events):
            event.update(ours, **extra[order], emitter=sources[order][:36])
            if event.get("delivered_at", 0) is None:
                del event["delivered_at"]
    return events
