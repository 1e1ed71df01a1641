"""A history for the ``pages`` benchmark: many tasks of days, and a last day with everything that pages show.

The many come from ``benchmarks.history``; the last day goes through the fold, so that charts, error groups, workflows,
workers and audit are filled as a monitor fills them. Deterministic.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

from benchmarks import history
from opsq.clock import ManualClock
from opsq.events.cluster import Cluster
from opsq.events.records import DepthSample
from opsq.events.store import Store
from opsq.web.audit import Entry, Trail
from opsq.wire.event import Event

DAY_S: Final = 86_400.0
#: Tasks of the last day, which are folded one by one.
FOLDED: Final = 50_000
FAULTS: Final = 40
MEMBERS: Final = 500
WORKFLOW: Final = "f10f0000-0000-4000-8000-000000000000"
FAILED: Final = "00000f00-0000-4000-8000-00000000dead"
_BATCH: Final = 5_000
_AUDITED: Final = 5_000
_TRACE: Final = "Traceback (most recent call last):\n" + "".join(
    f'  File "/srv/shop/part{n}.py", line {n}, in step_{n}\n    call_{n}()\n' for n in range(25)
)


def ends_at(tasks: int) -> float:
    """When the history ends, epoch seconds: what the pages take for now."""
    return history.T0 + tasks * history.APART_S


def fill(store: Store, tasks: int) -> None:
    """Fill a store, or leave it as it is when it was filled before."""
    if store.task(FAILED) is not None:
        return
    history.fill(store, tasks)
    cluster, now = Cluster(store), ends_at(tasks)
    for batch in _batches(now):
        cluster.apply(batch, min(now, batch[-1].timestamp))
        store.write(cluster.take())
        cluster.written()
    for name, ready in (("images", 412), ("mail", 9), ("slow", 31), ("celery", 0)):
        cluster.observe_depth(DepthSample(name, ready, now, 4, 0.2 * ready, 3))
    cluster.apply([], now)
    store.write(cluster.take())
    clock = ManualClock(now - _AUDITED)
    trail = Trail(store, clock)
    for n in range(_AUDITED):
        clock.advance(1.0)
        told = {"state": "FAILURE", "type": "shop.tasks.pay", "queue": "mail", "worker": history.WORKERS[0]}
        trail.note(Entry(at=0.0, who="anna", how="session", source="10.0.0.7", act="task-retry", target=f"t{n}",
                         outcome="done", message="sent", before=told))  # fmt: skip
    while store.index():
        pass


def _batches(now: float) -> Iterator[list[Event]]:
    rng, batch, beat_at = random.Random(11), list[Event](), 0.0
    for n in range(FOLDED):
        at = now - DAY_S + n * DAY_S / FOLDED
        if at - beat_at > 20.0:
            beat_at = at
            batch += _beats(at, n)
        batch += _task(n, at, rng)
        if len(batch) >= _BATCH:
            batch.sort(key=lambda event: event.timestamp)
            yield batch
            batch = []
    batch += [*_workflow(now - 300.0), *_last_failure(now - 60.0), *_beats(now, FOLDED)]
    batch.sort(key=lambda event: event.timestamp)
    yield batch


def _beats(at: float, done: int) -> list[Event]:
    fields = {"freq": 2.0, "active": 3, "processed": done, "slots": 4, "busy": 3, "prefetch": 8, "cpu_share": 0.7,
              "rss_bytes": 90_000_000, "pool": "prefork", "queues": list(history.QUEUES)}  # fmt: skip
    return [_event("worker-heartbeat", host, at, None, dict(fields)) for host in history.WORKERS]


def _event(kind: str, host: str, at: float, id: str | None, fields: dict[str, Any]) -> Event:
    return Event(kind=kind, hostname=host, timestamp=at, pid=7, uuid=id, fields=fields)


def _task(n: int, at: float, rng: random.Random) -> list[Event]:
    id, host = f"{n:08x}-aaaa-4000-8000-{rng.getrandbits(48):012x}", rng.choice(history.WORKERS)
    call = {"name": rng.choice(history.TYPES), "queue": rng.choice(history.QUEUES), "retries": 0,
            "args": f"({n}, 'user {rng.randrange(9_999)}@example.com')", "kwargs": "{'currency': 'EUR'}"}  # fmt: skip
    return _run(id, host, at, call, rng.random() * 8, rng.randrange(FAULTS) if rng.random() < 0.03 else None)


def _run(id: str, host: str, at: float, call: dict[str, Any], run_s: float, fault: int | None) -> list[Event]:
    times = {"published_at": at, "delivered_at": at + 0.05, "slot_at": at + 0.1, "started_at": at + 0.11}
    done = at + 0.11 + run_s
    end: dict[str, Any] = {**call, **times, "finished_at": done, "acked_at": done + 0.01, "runtime": run_s}
    if fault is None:
        last = _event("task-succeeded", host, done, id, {**end, "result": "'stored'"})
    else:
        error = f"Broken{fault:02}('order refused')"
        last = _event("task-failed", host, done, id, {**end, "exception": error, "traceback": f"{_TRACE}{error}\n"})
    return [
        _event("task-sent", "gen1@web", at, id, {**call, "published_at": at}),
        _event("task-received", host, at + 0.05, id, {**call, "delivered_at": at + 0.05}),
        _event("task-started", host, at + 0.11, id, {**call, **times}),
        last,
    ]


def _workflow(at: float) -> Iterator[Event]:
    """A chord of many: a root, its members, and what they lead to."""
    for n in range(MEMBERS):
        id = WORKFLOW if n == 0 else f"f10f{n:04x}-0000-4000-8000-000000000000"
        parent = {} if n == 0 else {"parent_id": WORKFLOW, "root_id": WORKFLOW}
        call = {"name": history.TYPES[n % 7], "queue": "images", "retries": 0, "args": "()", "kwargs": "{}", **parent}
        yield from _run(id, history.WORKERS[n % 12], at + n * 0.1, call, 1.0 + n % 5, 3 if n % 50 == 49 else None)


def _last_failure(at: float) -> list[Event]:
    call = {"name": "shop.tasks.pay", "queue": "mail", "retries": 0, "args": "(1, 2)", "kwargs": "{'a': [1, 2]}",
            "payload": json.dumps({"args": [1, 2], "kwargs": {"a": [1, 2]}}), "complete": True}  # fmt: skip
    return _run(FAILED, history.WORKERS[0], at, call, 2.0, 1)
