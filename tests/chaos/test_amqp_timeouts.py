"""RabbitMQ takes a delivery back after its consumer_timeout, and the whole channel with it.

What waits for a time far away is left to the broker, so it is never held that long; what runs that long
costs a connection, and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.testing.broker_reader import unique
from opsq.testing.harness import running_worker, waiting
from tests.promises import within
from tests.rabbitmq import RabbitServer

CONSUMER_TIMEOUT_S = 3.0
TICK_S = 0.3
"""How often RabbitMQ looks whether a delivery is held too long; a minute by default."""
FAR_S = 1.0
COUNTDOWN_S = 7.0
NEVER_S = 1e9


@pytest.fixture(scope="module")
def impatient(rabbitmq: RabbitServer) -> Iterator[str]:
    """The URL of a RabbitMQ that waits for an acknowledgement no longer than that."""
    rabbitmq.control("eval", told(round(CONSUMER_TIMEOUT_S * 1000), round(TICK_S * 1000)))
    yield rabbitmq.url
    rabbitmq.control("eval", told(1_800_000, 60_000))


def told(timeout_ms: int, tick_ms: int) -> str:
    """What changes the server's settings for the channels that are opened from now on."""
    values = {"consumer_timeout": timeout_ms, "channel_tick_interval": tick_ms}
    return ",".join(f"application:set_env(rabbit,{name},{value})" for name, value in values.items()) + "."


class Shop:
    """An app on ``url``, and when its tasks ran. gate: what ``shop.long`` waits for."""

    def __init__(self, url: str, folder: Path, queue: str, far_s: float) -> None:
        self.app = Opsq(
            "shop",
            broker=url,
            data_dir=str(folder),
            set_as_current=False,
            task_default_queue=queue,
            task_ignore_result=True,
            broker_native_delayed_delivery_after=far_s,
            broker_native_delayed_delivery_queue_type="classic",
        )
        self.ran: list[tuple[int, float]] = []
        self.gate = threading.Event()

        @self.app.task(name="shop.later")
        def later(number: int) -> None:
            self.ran.append((number, time.time()))

        @self.app.task(name="shop.long")
        def long(number: int) -> None:
            self.ran.append((number, time.time()))
            assert self.gate.wait(60)

        self.later, self.long = later, long


@pytest.fixture
def make(impatient: str, tmp_path: Path) -> Iterator[Any]:
    """Makes apps of one queue."""
    made: list[Shop] = []
    queue = unique("timeouts")

    def shop(far_s: float = NEVER_S) -> Shop:
        made.append(Shop(impatient, tmp_path, queue, far_s))
        return made[-1]

    yield shop
    for each in made:
        each.app.close()


def left(app: Opsq) -> int:
    """What waits in the queue; once its worker is gone, what was not acknowledged is there again."""
    return waiting(app, app.queues.default.name).ready


def until(met: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait for it."""
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while not met():
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain"
        pause.wait(0.02)


def test_a_stock_client_s_long_countdown_waits_in_the_broker(make: Any) -> None:
    client, shop = make(), make(FAR_S)
    asked_at = time.time()
    for number in range(3):
        client.later.apply_async((number,), countdown=COUNTDOWN_S)  # straight into the queue, as Celery sends it
    with running_worker(shop.app, pool="threads", concurrency=1) as worker:
        worker.wait("received", times=3)
        until(lambda: worker.counters.get("put_off") == 3)  # and acknowledged
        assert time.time() < asked_at + COUNTDOWN_S
        assert shop.ran == []
        worker.wait("settled", times=3, timeout_s=COUNTDOWN_S + 60.0)
        assert worker.seen("disconnected") == []
    assert left(shop.app) == 0
    assert sorted(number for number, _ in shop.ran) == [0, 1, 2]
    assert all(at >= asked_at + COUNTDOWN_S for _, at in shop.ran)
    assert all(at < asked_at + COUNTDOWN_S + within(3.0) for _, at in shop.ran)


def test_asynchronous_confirms_are_waited_for_all_the_same(make: Any) -> None:
    client, shop = make(), make(FAR_S)
    shop.app.conf.publish_confirm = "async"
    client.later.apply_async((0,), countdown=3600)
    with running_worker(shop.app, pool="threads", concurrency=1) as worker:
        worker.wait("received")
        until(lambda: worker.counters.get("put_off") == 1)
    assert left(shop.app) == 0


def test_a_task_longer_than_the_timeout_costs_a_connection_and_runs_once(make: Any) -> None:
    shop = make()
    with running_worker(shop.app, pool="threads", concurrency=1) as worker:
        shop.long.delay(7)
        worker.wait("started")
        said = str(worker.wait("disconnected").detail)
        assert "consumer_timeout" in said
        assert "rabbitmq.conf" in said
        worker.wait("ready", times=2)
        shop.later.delay(8)  # consuming again, while the long one runs on
        shop.gate.set()
        worker.wait("settled", times=2)
    assert left(shop.app) == 0
    assert [number for number, _ in shop.ran] == [7, 8]
