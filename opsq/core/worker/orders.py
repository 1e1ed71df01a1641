"""The remote commands that change limits, events, slots and queues: one function each, named as in the table."""

from __future__ import annotations

import logging
import os
import signal as signals
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from opsq.broker.topology import QueueSpec, from_kombu
from opsq.core.worker.hold import parse_rate
from opsq.core.worker.station import Station
from opsq.errors import ConfigError, UsageError

log = logging.getLogger(__name__)

GROW_MAX = 1_000

Answer = dict[str, Any]


def rate_limit(station: Station, task_name: str, rate_limit: Any, for_s: float | None) -> Answer:
    """Let tasks of a type start at another rate, from now on."""
    try:
        per_s = parse_rate(rate_limit)
    except ConfigError:
        number = str(rate_limit).partition("/")[0]
        why = ValueError(f"could not convert string to float: {number!r}")
        return {"error": f"Invalid rate limit string: {why!r}"}
    task = station.app.tasks.get(task_name)
    if task is None:
        return {"error": "unknown task"}
    before = task.rate_limit

    def set_rate(rate: Any) -> None:
        task.rate_limit = rate
        station.policy_changed(task_name)

    set_rate(rate_limit if per_s else 0)
    done = "new rate limit set successfully" if per_s else "rate limit disabled successfully"
    shown = (str(rate_limit) if per_s else "none", str(before or "none"))
    return _for_a_while(station, done, f"rate_limit {task_name}", shown, for_s, lambda: set_rate(before))


def time_limit(station: Station, task_name: str, soft: float | None, hard: float | None, for_s: float | None) -> Answer:
    """Let tasks of a type run this long; the one that a message brings along still wins."""
    task = station.app.tasks.get(task_name)
    if task is None:
        return {"error": "unknown task"}
    able, name = station.pool.capabilities, station.plan.pool_class.name
    for wanted, can, what in ((hard, able.hard_limit, "hard"), (soft, able.soft_limit, "soft")):
        if wanted is not None and wanted < 0:
            raise UsageError(f"a time limit is a number of seconds, got {wanted!r}")
        if wanted and not can:
            raise UsageError(f"the {name} pool has no {what} time limit, since it cannot stop a running task")
    before = (task.soft_time_limit, task.time_limit)

    def set_limits(soft: float | None, hard: float | None) -> None:
        task.soft_time_limit, task.time_limit = soft, hard
        station.policy_changed(task_name)

    set_limits(soft, hard)
    shown = (f"soft {soft} hard {hard}", f"soft {before[0]} hard {before[1]}")
    what = f"time_limit {task_name}"
    return _for_a_while(station, "time limits set successfully", what, shown, for_s, lambda: set_limits(*before))


def enable_events(station: Station) -> Answer:
    """Send task events."""
    if station.emitter.task_events:
        return {"ok": "task events already enabled"}
    station.emitter.task_events = True
    return {"ok": "task events enabled"}


def disable_events(station: Station) -> Answer:
    """Send no task events; heartbeats go on."""
    if not station.emitter.task_events:
        return {"ok": "task events already disabled"}
    station.emitter.task_events = False
    return {"ok": "task events disabled"}


def heartbeat(station: Station) -> None:
    """Send a heartbeat now."""
    station.emitter.beat_now()


def pool_grow(station: Station, n: int, for_s: float | None) -> Answer:
    """Add slots; the prefetch follows."""
    return _resize(station, n, for_s, "pool will grow")


def pool_shrink(station: Station, n: int, for_s: float | None) -> Answer:
    """Take slots away as they become free, down to one; the prefetch follows."""
    return _resize(station, -n, for_s, "pool will shrink")


def pool_restart(station: Station, modules: Any, reload: bool, reloader: Any) -> Answer:
    """Have each child process end after the task it runs; the pool replaces it. Raises: ValueError, UsageError."""
    if not station.settings.worker_pool_restarts:
        raise ValueError("Pool restarts not enabled")
    if not station.pool.capabilities.isolates_crash:
        raise UsageError(f"the {station.plan.pool_class.name} pool has no child processes to replace")
    if modules or reload or reloader is not None:
        raise UsageError("modules are not imported anew here; start the worker with --autoreload")
    children = station.pool.stats().get("processes")
    for pid in children if isinstance(children, list) else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signals.SIGTERM)
    return {"ok": "reload started"}


def autoscale(station: Station, max: int | None, min: int | None) -> Answer:
    """Set the bounds between which the worker scales itself. Raises: ValueError, as Celery, where it does not."""
    scaler = station.plan.scaler
    if scaler is None:
        raise ValueError("Autoscale not enabled")
    most, fewest = scaler.set_bounds(max, min)
    return {"ok": f"autoscale now max={most} min={fewest}"}


def add_consumer(
    station: Station,
    queue: str,
    exchange: str | None,
    exchange_type: str | None,
    routing_key: str | None,
    **options: Any,
) -> Answer:
    """Take from one more queue, now and on every later connection."""
    plan, queues = station.plan, station.app.queues
    if queue not in {each.name for each in plan.queues}:
        if queue in queues or not (exchange or routing_key or options or exchange_type not in (None, "direct")):
            spec: QueueSpec = queues[queue]
        else:
            named = {"name": queue, "exchange": exchange or queue, "exchange_type": exchange_type or "direct"}
            priority = {"max_priority": station.settings.task_queue_max_priority}
            spec = from_kombu({**priority, **options, **named, "routing_key": routing_key or queue})
        # Here, where a refusal is an answer; in the owner's loop it would cost the connection.
        _declare(station, spec)
        queues.add(spec)
        plan.queues = (*plan.queues, spec)
        if station.consumer is not None and plan.standing.consumed([spec]):
            station.consumer.add_queue(spec)
    return {"ok": f"add consumer {queue}"}


def cancel_consumer(station: Station, queue: str) -> Answer:
    """Take from a queue no longer; what was taken is worked off."""
    plan = station.plan
    plan.queues = tuple(each for each in plan.queues if each.name != queue)
    if station.consumer is not None:
        station.consumer.cancel_queue(queue)
    return {"ok": f"no longer consuming from {queue}"}


def shutdown(station: Station, msg: str | None) -> None:
    """Stop the worker, warmly."""
    log.warning("%s", msg or "Got shutdown from remote")
    station.plan.request_stop()


def election(station: Station, id: str, topic: str, action: Any) -> None:
    """Take no part."""


def _for_a_while(
    station: Station, done: str, what: str, shown: tuple[str, str], for_s: float | None, restore: Callable[[], Any]
) -> Answer:
    """The answer to a change, which is undone after ``for_s`` seconds. shown: as it is and as it was."""
    station.plan.overrides.change(what, shown, for_s, restore)
    return {"ok": done} if for_s is None else {"ok": done, "until": time.time() + for_s}


def _resize(station: Station, by: int, for_s: float | None, done: str) -> Answer:
    if not 0 < abs(by) <= GROW_MAX or done.endswith("grow") != (by > 0):
        raise UsageError(f"n: expected 1 to {GROW_MAX} slots, got {by if done.endswith('grow') else -by}")
    if station.plan.scaler is not None:
        name = "pool_grow" if by > 0 else "pool_shrink"
        return {"error": f"{name} is not supported with autoscale. Adjust autoscale range instead."}
    before, after = station.pool.slots, max(1, station.pool.slots + by)
    resize = station.plan.resize
    resize(after)
    return _for_a_while(station, done, "slots", (str(after), str(before)), for_s, lambda: resize(before))


def _declare(station: Station, queue: QueueSpec) -> None:
    connection = station.app.connection("write")
    try:
        connection.connect()
        with connection.translated():
            connection.declare(connection.kombu.channel(), queue)
    finally:
        connection.close()
