"""The remote commands that change nothing: one function each, named as in the table of commands."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import psutil

from opsq import __version__, plugins
from opsq.broker.topology import BindingSpec, ExchangeSpec, QueueSpec
from opsq.core.worker.ledger import Entry
from opsq.core.worker.station import Station
from opsq.masking import mask
from opsq.settings import Settings

TASK_INFO = ("exchange", "routing_key", "rate_limit")
ETA_PRIORITY = 6
"""What Celery's timer shows for its entries."""
SAMPLES_MAX = 100


def ping(station: Station) -> dict[str, str]:
    """Say that somebody is there."""
    return {"ok": "pong"}


def clock(station: Station) -> dict[str, int]:
    """The logical clock."""
    return {"clock": station.lamport.value}


def report(station: Station) -> dict[str, str]:
    """Versions and settings as text."""
    found = [f"{name}:{plugins.installed_version(name)}" for name in ("kombu", "msgspec", "psutil")]
    lines = [
        "",
        f"software -> opsq:{__version__} {' '.join(found)} py:{platform.python_version()}",
        f"platform -> system:{platform.system()} arch:{platform.machine()} kernel:{platform.release()}",
        f"pool -> {station.plan.pool_class.name}, {station.pool.slots} slots",
        *(f"{name}: {value!r}" for name, value in _settings(station.settings, False).items()),
    ]
    return {"ok": "\n".join(lines)}


def conf(station: Station, with_defaults: bool) -> dict[str, Any]:
    """The settings, secrets masked."""
    return {name: _plain(value) for name, value in _settings(station.settings, with_defaults).items()}


def stats(station: Station) -> dict[str, Any]:
    """Counts, pool, broker, resource use. Source: Celery protocol C.6."""
    consumer, scaler = station.consumer, station.plan.scaler
    return {
        **({} if scaler is None else {"autoscaler": scaler.facts()}),
        "total": dict(station.ledger.by_type),
        "pid": os.getpid(),
        "clock": str(station.lamport.value),
        "uptime": int(station.plan.clock.monotonic() - station.started_at),
        "pool": _pool(station),
        "broker": _broker(station.settings),
        "prefetch_count": consumer.prefetch if consumer is not None else "N/A",
        "rusage": _rusage(),
        "opsq": {
            "version": __version__,
            "counters": dict(station.ledger.counters),
            "held": len(station.receiver.waiting()),
            "events_sent": station.emitter.sent,
            "events_dropped": station.emitter.buffer.dropped,
        },
    }


def active(station: Station, safe: bool) -> list[dict[str, Any]]:
    """What runs."""
    return [station.about(entry, safe) for entry in station.entries() if entry.started_at is not None]


def reserved(station: Station) -> list[dict[str, Any]]:
    """What waits for a slot."""
    held = station.receiver.waiting()
    waiting = [entry for entry in station.entries() if entry.started_at is None and entry.key not in held]
    return [station.about(entry) for entry in waiting]


def scheduled(station: Station) -> list[dict[str, Any]]:
    """What waits for its time or its rate."""
    found = []
    for key, until in station.receiver.waiting().items():
        entry = station.ledger.get(key)
        if entry is not None:
            eta = None if until is None else datetime.fromtimestamp(until, UTC).isoformat()
            found.append({"eta": eta, "priority": ETA_PRIORITY, "request": station.about(entry)})
    return found


def revoked(station: Station) -> list[str]:
    """Ids that must not run."""
    return list(station.ledger.revoked)


def registered(station: Station, taskinfoitems: Any, builtins: bool) -> list[str]:
    """The tasks by name, with some attributes."""
    wanted = [taskinfoitems] if isinstance(taskinfoitems, str) else taskinfoitems or TASK_INFO
    shown = [name for name in wanted if not name.startswith("_")]
    tasks = station.app.tasks if builtins else station.app.tasks.regular()
    return [_described(tasks[name], shown) for name in sorted(tasks)]


def active_queues(station: Station) -> list[dict[str, Any]]:
    """The queues taken from; none before there is a connection."""
    consumer = station.consumer
    names = consumer.queues if consumer is not None else ()
    return [_queue(queue) for queue in station.plan.queues if queue.name in names]


def query_task(station: Station, ids: str | Sequence[str]) -> dict[str, Any]:
    """Where tasks are."""
    held = station.receiver.waiting()
    found = station.ledger.by_id([ids] if isinstance(ids, str) else ids)
    return {entry.headers.id: [_state(entry, held), station.about(entry)] for entry in found}


def memsample(station: Station) -> str:
    """Resident memory, as text."""
    size, unit = float(psutil.Process().memory_info().rss), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    sample = f"{size:.1f}{unit}"
    station.memory_samples[:] = [*station.memory_samples, sample][-SAMPLES_MAX:]
    return sample


def memdump(station: Station, samples: int) -> str:
    """The samples taken so far, latest last."""
    kept = station.memory_samples[-samples:] if samples > 0 else []
    return "\n".join(["- rss (sample by sample):", *(f"-    > {sample}" for sample in kept)])


def objgraph(station: Station, type: str, num: int, max_depth: int) -> None:
    """Say that this is not to be had, in Celery's words. Raises: ImportError."""
    raise ImportError("Requires the objgraph library")


def hello(station: Station, from_node: str, revoked: Any) -> dict[str, Any] | None:
    """Take in the revoked ids of a worker that starts, and give it ours; nothing to ourselves."""
    if from_node == station.plan.hostname:
        return None
    take_revoked(station, revoked)
    return {"revoked": list(station.ledger.revoked), "clock": station.lamport.tick()}


def take_revoked(station: Station, ids: Any) -> int:
    """Take in the revoked ids of another worker, a list or an older mapping; how many were new."""
    known = station.ledger.revoked
    listed: Iterable[Any] = ids if isinstance(ids, (list, tuple, set, dict)) else ()
    new = [each for each in listed if isinstance(each, str) and each not in known]
    for each in new:
        known.add(each)
    if new:
        station.keeper.save()
    return len(new)


def _state(entry: Entry, held: dict[int, float | None]) -> str:
    if entry.finished or entry.outcome is not None:
        return "ready"
    if entry.started_at is not None:
        return "active"
    return "scheduled" if entry.key in held else "reserved"


def _described(task: Any, names: Sequence[str]) -> str:
    pairs = [f"{name}={value}" for name in names if (value := getattr(task, name, None)) is not None]
    return f"{task.name} [{' '.join(pairs)}]" if pairs else str(task.name)


def _settings(settings: Settings, with_defaults: bool) -> dict[str, Any]:
    shown, usual = settings.masked(), Settings().masked()
    return {name: value for name, value in shown.items() if with_defaults or value != usual[name]}


def _plain(value: Any) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, msgspec.MsgspecError):
        return repr(value)


def _pool(station: Station) -> dict[str, Any]:
    """The pool's own facts, with Celery's keys where they differ."""
    settings = station.settings
    facts = dict(station.pool.stats())
    facts.setdefault("max-concurrency", station.pool.slots)
    facts.setdefault("put-guarded-by-semaphore", False)
    facts.setdefault("timeouts", [settings.task_soft_time_limit or 0, settings.task_time_limit or 0])
    writes = facts.get("writes")
    if isinstance(writes, dict) and "total" not in writes:
        facts["writes"] = _writes([int(count) for count in writes.values()])
    return facts


def _writes(counts: Sequence[int]) -> dict[str, Any]:
    total = sum(counts)
    shares = [count / total if total else 0.0 for count in counts]
    return {
        "total": total,
        "avg": f"{sum(shares) / len(shares):.2f}" if shares else "0.00",
        "all": ", ".join(f"{share:.2f}" for share in shares),
        "raw": ", ".join(map(str, counts)),
        "strategy": "fair",
        "inqueues": {"total": len(counts), "active": 0},
    }


def _broker(settings: Settings) -> dict[str, Any]:
    given = settings.resolved_broker_url("read")
    urls = [given] if isinstance(given, str) else list(given)
    urls = [url for each in urls for url in each.split(";")]
    parts = urlsplit(urls[0])
    return {
        "hostname": parts.hostname,
        "userid": unquote(parts.username) if parts.username else None,
        "virtual_host": unquote(parts.path.lstrip("/")) or "/",
        "port": parts.port,
        "insist": False,
        "ssl": bool(settings.broker_use_ssl),
        "transport": parts.scheme,
        "connect_timeout": settings.broker_connection_timeout,
        "transport_options": _plain(mask(dict(settings.broker_transport_options))),
        "login_method": settings.broker_login_method,
        "uri_prefix": None,
        "heartbeat": settings.broker_heartbeat,
        "failover_strategy": _plain(settings.broker_failover_strategy) or "round-robin",
        "alternates": [str(mask(url)) for url in urls[1:]],
        "credential_provider": None,
    }


def _rusage() -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {name.removeprefix("ru_"): getattr(usage, name) for name in dir(usage) if name.startswith("ru_")}


def _queue(queue: QueueSpec) -> dict[str, Any]:
    """One queue as kombu describes it. Source: Celery protocol C.7."""
    return {
        "name": queue.name,
        "exchange": _exchange(queue.exchange),
        "routing_key": queue.routing_key,
        "queue_arguments": _plain(dict(queue.arguments)) or None,
        "binding_arguments": _plain(dict(queue.binding_arguments)) or None,
        "consumer_arguments": None,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "no_ack": queue.no_ack,
        "alias": None,
        "bindings": [_binding(binding) for binding in queue.bindings],
        "no_declare": queue.no_declare or None,
        "expires": queue.expires_s,
        "message_ttl": queue.message_ttl_s,
        "max_length": queue.max_length,
        "max_length_bytes": queue.max_length_bytes,
        "max_priority": queue.max_priority,
    }


def _binding(binding: BindingSpec) -> dict[str, Any]:
    return {
        "exchange": _exchange(binding.exchange),
        "routing_key": binding.routing_key,
        "arguments": _plain(dict(binding.arguments)) or None,
    }


def _exchange(exchange: ExchangeSpec | None) -> dict[str, Any]:
    found = exchange or ExchangeSpec(name="", type="direct")
    return {
        "name": found.name,
        "type": found.type,
        "arguments": _plain(dict(found.arguments)) or None,
        "durable": found.durable,
        "passive": False,
        "auto_delete": found.auto_delete,
        "delivery_mode": found.delivery_mode,
        "no_declare": found.no_declare,
    }
