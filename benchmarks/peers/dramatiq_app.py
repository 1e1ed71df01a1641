"""Dramatiq, as ``dramatiq benchmarks.peers.dramatiq_app`` finds it."""

from __future__ import annotations

import time

import dramatiq

from benchmarks.peers.place import BROKER, URL, board

if BROKER == "redis":
    from dramatiq.brokers.redis import RedisBroker

    dramatiq.set_broker(RedisBroker(url=URL))
else:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    dramatiq.set_broker(RabbitmqBroker(url=URL))


def mark(row: int) -> None:
    """Note that the task ran."""
    board.mark(row)


noop = dramatiq.actor(mark, actor_name="noop")


def fill(tasks: int) -> float:
    """Send ``tasks`` calls one at a time; how many per second."""
    noop.send(0)
    started = time.perf_counter()
    for row in range(1, tasks):
        noop.send(row)
    return tasks / (time.perf_counter() - started)
