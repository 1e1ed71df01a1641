"""Who is measured, and how each is set. A new one is a driver beside this file and an entry here.

Peers run with what a few tries showed to be fastest for a no-op, and with fewer promises where they make fewer
(``delivery``); opsq runs with its defaults. ``share``: its part of ``--tasks``, so that a slow one takes seconds too.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from benchmarks.filling import DEFAULT_SLOTS

PEERS = Path(".venv-peers")
ONCE_AT_MOST, ONCE_AT_LEAST = "at most once", "at least once"
# What a call has to wait for: Redis's answer, RabbitMQ's word that the message is safe, or nothing.
STORED, CONFIRMED, UNCONFIRMED = "stored", "confirmed", "not confirmed"


@dataclass(frozen=True)
class Contestant:
    """One row. command: the worker's words; slots: how many tasks it may run at once, all processes together."""

    name: str
    system: str
    pool: str
    slots: int
    driver: str
    command: tuple[str, ...]
    settings: Mapping[str, str | int]
    share: Mapping[str, Fraction] = field(default_factory=lambda: {"redis": Fraction(1), "amqp": Fraction(1)})
    stop: signal.Signals = signal.SIGTERM
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The interpreter that runs its driver."""
        return sys.executable if self.system == "opsq" else str(PEERS / "bin" / "python")

    def tasks(self, broker: str, tasks: int) -> int:
        """Its part of ``tasks``."""
        return max(1, int(tasks * self.share[broker]))


def contestants(broker: str) -> tuple[Contestant, ...]:
    """Everybody who can use ``broker``: opsq's pools, Celery's pools, the others."""
    ours = [_opsq(pool, broker) for pool in DEFAULT_SLOTS]
    celery = [_celery(pool, broker) for pool in CELERY_POOLS]
    everybody = (*ours, *celery, _dramatiq(broker), _taskiq(broker), _huey(), _rq())
    return tuple(each for each in everybody if broker in each.share)


def chosen(everybody: tuple[Contestant, ...], only: str) -> tuple[Contestant, ...]:
    """Those that a comma-separated list of names or systems picks; an empty list picks all.

    Raises: ValueError naming a word that picks nobody.
    """
    words = [word for word in only.split(",") if word]
    for word in words:
        if not any(word in (each.name, each.system) for each in everybody):
            names = ", ".join(each.name for each in everybody)
            raise ValueError(f"--only {word}: nobody of that name; there are {names}, and systems as a whole")
    return tuple(each for each in everybody if not words or each.name in words or each.system in words)


def _opsq(pool: str, broker: str) -> Contestant:
    slots = DEFAULT_SLOTS[pool]
    include = ("-I", "benchmarks.workload_async") if pool == "asyncio" else ()
    return Contestant(
        f"opsq-{pool}", "opsq", pool, slots, "opsq_app",
        (sys.executable, "-m", "opsq", "worker", "-A", "benchmarks.workload:app", "-P", pool, "-c", str(slots),
         "-l", "WARNING", *include),
        _settings(ONCE_AT_LEAST, STORED if broker == "redis" else CONFIRMED, "adaptive", events="on"),
        environment={"BENCH_POOL": pool},
    )  # fmt: skip


CELERY_POOLS = {"prefork": 2, "threads": 8, "solo": 1, "gevent": 100, "eventlet": 100}


def _celery(pool: str, broker: str) -> Contestant:
    slots = CELERY_POOLS[pool]
    return Contestant(
        f"celery-{pool}", "celery", pool, slots, "celery_app",
        (_program("celery"), "-A", "benchmarks.peers.celery_app", "worker", "-P", pool, "-c", str(slots),
         "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        _settings(ONCE_AT_MOST, STORED if broker == "redis" else UNCONFIRMED, 64 * slots),
        share={"redis": Fraction(1, 8), "amqp": Fraction(1, 2)},
    )  # fmt: skip


def _dramatiq(broker: str) -> Contestant:
    return Contestant(
        "dramatiq", "dramatiq", "2 processes x 8 threads", 16, "dramatiq_app",
        (_program("dramatiq"), "benchmarks.peers.dramatiq_app", "--processes", "2", "--threads", "8"),
        _settings(ONCE_AT_LEAST, STORED if broker == "redis" else UNCONFIRMED, 1_000),
        environment={"dramatiq_queue_prefetch": "1000"},
    )  # fmt: skip


def _taskiq(broker: str) -> Contestant:
    on_redis = broker == "redis"
    return Contestant(
        "taskiq", "taskiq", "2 processes x asyncio", 200, "taskiq_app",
        (_program("taskiq"), "worker", "benchmarks.peers.taskiq_app:broker", "--workers", "2",
         "--max-async-tasks", "100", "--no-parse", "--log-level", "WARNING"),
        _settings(ONCE_AT_MOST, STORED, 0) if on_redis else _settings(ONCE_AT_LEAST, CONFIRMED, 200),
        share={"redis": Fraction(1, 2), "amqp": Fraction(1, 4)},
    )  # fmt: skip


def _huey() -> Contestant:
    return Contestant(
        "huey", "huey", "4 processes", 4, "huey_app",
        (_program("huey_consumer"), "benchmarks.peers.huey_app.huey", "-w", "4", "-k", "process", "-q", "-n"),
        _settings(ONCE_AT_MOST, STORED, 0, serializer="pickle"),
        share={"redis": Fraction(1)},
        stop=signal.SIGINT,
    )  # fmt: skip


def _rq() -> Contestant:
    return Contestant(
        "rq", "rq", "2 SimpleWorkers", 2, "rq_app",
        (_program("rq"), "worker-pool", "--quiet", "-n", "2", "-w", "rq.worker.SimpleWorker",
         "-c", "benchmarks.peers.rq_settings"),
        _settings(ONCE_AT_MOST, STORED, 0, serializer="pickle"),
        share={"redis": Fraction(1, 20)},
    )  # fmt: skip


def _settings(
    delivery: str, publish: str, prefetch: int | str, *, events: str = "off", serializer: str = "json"
) -> dict[str, str | int]:
    return {
        "delivery": delivery, "publish": publish, "prefetch": prefetch, "events": events, "serializer": serializer,
        "results": "off",
    }  # fmt: skip


def _program(name: str) -> str:
    return str(PEERS / "bin" / name)
