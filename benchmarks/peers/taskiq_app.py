"""taskiq, with its fastest broker class for each server; tasks are coroutines."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.peers.place import BROKER, SLOTS, URL, board


def _broker() -> Any:
    if BROKER == "redis":
        from taskiq_redis import ListQueueBroker

        return ListQueueBroker(URL)
    from taskiq_aio_pika import AioPikaBroker

    return AioPikaBroker(URL, qos=SLOTS)


async def mark(row: int) -> None:
    """Note that the task ran."""
    board.mark(row)


broker = _broker()
noop = broker.register_task(mark, task_name="noop")


async def _send(tasks: int) -> float:
    await broker.startup()
    await noop.kiq(0)
    started = time.perf_counter()
    for row in range(1, tasks):
        await noop.kiq(row)
    taken = time.perf_counter() - started
    await broker.shutdown()
    return tasks / taken


def fill(tasks: int) -> float:
    """Send ``tasks`` calls one at a time; how many per second."""
    return asyncio.run(_send(tasks))
