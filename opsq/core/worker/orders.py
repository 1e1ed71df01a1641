"""The remote commands that change something: one function each, named as in the table of commands."""

from __future__ import annotations

import logging
import signal as signals
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from opsq.broker.topology import QueueSpec, from_kombu
from opsq.core.worker.hold import parse_rate
from opsq.core.worker.ledger import Entry
from opsq.core.worker.revocations import stamps_of
from opsq.core.worker.station import Station
from opsq.errors import ConfigError, TaskRevokedError, Unavailable, UsageError
from opsq.wire.result import ResultMeta

log = logging.getLogger(__name__)

GROW_MAX = 1_000
# A state that another worker, or the task itself, has set since is left alone.
REVOCABLE = frozenset({"PENDING", "RECEIVED", "RETRY", "REJECTED"})

Answer = dict[str, str]


def rate_limit(station: Station, task_name: str, rate_limit: Any) -> Answer:
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
    task.rate_limit = rate_limit if per_s else 0
    station.policy_changed(task_name)
    return {"ok": "new rate limit set successfully" if per_s else "rate limit disabled successfully"}


def time_limit(station: Station, task_name: str, soft: float | None, hard: float | None) -> Answer:
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
    task.soft_time_limit, task.time_limit = soft, hard
    station.policy_changed(task_name)
    return {"ok": "time limits set successfully"}


def revoke(station: Station, task_id: str | Sequence[str], terminate: bool, signal: Any) -> Answer:
    """Do not run these tasks; with ``terminate``, stop those that run."""
    ids = list(dict.fromkeys([task_id] if isinstance(task_id, str) else task_id))
    signum = signal_number(signal) if terminate else None
    for each in ids:
        station.ledger.revoked.add(each)
    station.keeper.save()
    entries = station.ledger.by_id(ids)
    started = {entry.headers.id for entry in entries if entry.started_at is not None}
    station.call_off(entries)
    _store_revoked(station, [each for each in ids if each not in started])
    if not terminate:
        return {"ok": f"tasks {set(ids)} flagged as revoked"}
    known = dict.fromkeys(entry.headers.id for entry in entries)
    _stop(station, entries, signum)
    return {"ok": f"terminate: {', '.join(known)}" if known else "terminate: tasks unknown"}


def terminate(station: Station, signal: Any, task_id: str | Sequence[str]) -> Answer:
    """Revoke these tasks, and stop those that run with ``signal``."""
    return revoke(station, task_id, True, signal)


def revoke_by_stamped_headers(station: Station, headers: Any, terminate: bool, signal: Any) -> Answer:
    """Revoke the tasks with one of these stamps, now and when they come."""
    wanted = _stamps(headers)
    signum = signal_number(signal)
    for name, values in wanted.items():
        for value in values:
            station.stamps.add(name, value)
    station.keeper.save()
    matching = [entry for entry in station.entries() if _matched(entry, wanted)]
    station.call_off(matching)
    shown = dict(zip(wanted, headers.values(), strict=True)) if isinstance(headers, Mapping) else _unlisted(wanted)
    if not terminate:
        return {"ok": f"headers {shown} flagged as revoked, but not terminated"}
    running = [entry for entry in matching if entry.started_at is not None]
    _stop(station, running, signum)
    stopped: dict[str, set[str]] = {}
    for entry in running:
        for name, value in _matched(entry, wanted):
            stopped.setdefault(name, set()).add(value)
    if not stopped:
        return {"ok": f"headers {shown} were not terminated"}
    return {"ok": f"headers {stopped} revoked"}


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


def pool_grow(station: Station, n: int) -> Answer:
    """Add slots; the prefetch follows."""
    _resize(station, n, 1)
    return {"ok": "pool will grow"}


def pool_shrink(station: Station, n: int) -> Answer:
    """Take slots away as they become free, down to one; the prefetch follows."""
    _resize(station, n, -1)
    return {"ok": "pool will shrink"}


def pool_restart(station: Station, modules: Any, reload: bool, reloader: Any) -> Answer:
    """Refuse, in Celery's words. Raises: ValueError."""
    raise ValueError("Pool restarts not enabled")


def autoscale(station: Station, max: int | None, min: int | None) -> Answer:
    """Refuse while nothing scales this worker, in Celery's words. Raises: ValueError."""
    raise ValueError("Autoscale not enabled")


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
        if station.consumer is not None:
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


def signal_number(signal: Any) -> int:
    """Read a signal: a number, or a name with or without SIG; TERM by default. Raises: UsageError."""
    if signal is None or signal == "":
        return int(signals.SIGTERM)
    text = str(signal).upper()
    try:
        if text.isdecimal():
            return int(signals.Signals(int(text)))
        return int(signals.Signals[text if text.startswith("SIG") else f"SIG{text}"])
    except (KeyError, ValueError):
        raise UsageError(f"no signal is called {signal!r}; expected a name such as TERM, or a number") from None


def _stop(station: Station, entries: Iterable[Entry], signum: int | None) -> None:
    """Stop what runs. Raises: UsageError where the pool cannot."""
    running = [entry for entry in entries if entry.started_at is not None and entry.outcome is None]
    if running and not station.pool.capabilities.terminate:
        raise UsageError(f"the {station.plan.pool_class.name} pool cannot stop a running task")
    for entry in running:
        station.pool.cancel(entry.key, "terminated", signum)


def _store_revoked(station: Station, ids: Sequence[str]) -> None:
    """Store REVOKED of what has not begun; a store that is away costs the states, not the revocation."""
    store = station.app.backend
    if not store.enabled:
        return
    try:
        known = store.load_many(ids)
        for each in ids:
            if each in known and known[each].status not in REVOCABLE:
                continue
            now = datetime.now(UTC).isoformat()
            store.store(ResultMeta(task_id=each, status="REVOKED", result=TaskRevokedError("revoked"), date_done=now))
    except Unavailable as exc:
        station.ledger.count("states_not_stored")
        log.error("revoked tasks could not be marked in the result store", extra={"error": str(exc)})


def _stamps(headers: Any) -> dict[str, list[str]]:
    if isinstance(headers, Mapping):
        pairs = [(str(name), value) for name, value in headers.items()]
    elif isinstance(headers, (list, tuple)) and all(isinstance(each, str) and "=" in each for each in headers):
        pairs = [(name, value) for name, _, value in (each.partition("=") for each in headers)]
    else:
        raise UsageError(f"headers: expected name → value, or a list of name=value, got {headers!r:.100}")
    return {
        name: [str(each) for each in value] if isinstance(value, (list, tuple, set)) else [str(value)]
        for name, value in pairs
    }


def _unlisted(stamps: Mapping[str, list[str]]) -> dict[str, Any]:
    return {name: values[0] for name, values in stamps.items()}


def _matched(entry: Entry, wanted: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in stamps_of(entry.headers, wanted) if value in wanted[name]]


def _resize(station: Station, n: int, sign: int) -> None:
    if not 0 < n <= GROW_MAX:
        raise UsageError(f"n: expected 1 to {GROW_MAX} slots, got {n}")
    station.plan.resize(max(1, station.pool.slots + sign * n))


def _declare(station: Station, queue: QueueSpec) -> None:
    connection = station.app.connection("write")
    try:
        connection.connect()
        with connection.translated():
            connection.declare(connection.kombu.channel(), queue)
    finally:
        connection.close()
