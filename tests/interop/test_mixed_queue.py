"""One queue in Redis, an opsq worker and a stock Celery worker: neither takes from the other what it works on."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection
from redis import Redis

from tests.chaos.ledger import Ledger
from tests.interop import cases
from tests.interop.conftest import Broker
from tests.interop.peers import FULL, PATIENCE_S, POOLS, Client, Place, full_only, running_client, running_worker
from tests.servers import RedisServer

KEY = "mixed"
TASKS = 2_000 if FULL else 300


def patient(visibility_s: float) -> dict[str, Any]:
    """Settings of both libraries: late acknowledging, and how long a message may be held."""
    return {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "broker_transport_options": {"visibility_timeout": visibility_s},
    }


@pytest.fixture
def ground(redis: RedisServer, tmp_path: Any) -> Place:
    """A database of its own, for messages and for the journal."""
    broker = Broker("redis", redis.url, redis.url).apart()
    return Place(broker, broker, f"interop-{tmp_path.name}", tmp_path)


@pytest.fixture
def journal(ground: Place) -> Iterator[Any]:
    """Where the tasks write."""
    with Redis.from_url(ground.broker, decode_responses=True) as made:
        yield made


def lines(journal: Any) -> list[str]:
    found: list[str] = journal.lrange(KEY, 0, -1)
    return found


def ledger(journal: Any, confirmed: int) -> Ledger:
    """What was written, with so many numbers published."""
    written = [line for line in lines(journal) if line[0] in "SD"]
    return Ledger.of([f"C {number}" for number in range(confirmed)] + written)


def by(journal: Any) -> Counter[str]:
    """How many runs each library had."""
    return Counter(line.split()[2] for line in lines(journal) if line.startswith("by "))


def publish(client: Client, count: int, seconds: float) -> None:
    """Publish numbers from 0."""
    client.run("publish", "fleet_app.noted", [[KEY, number, seconds] for number in range(count)])


def until_done(journal: Any, count: int) -> None:
    """Wait for every number."""
    cases.until(lambda: len(ledger(journal, count).done) == count, f"{count} tasks", PATIENCE_S)


def nothing_is_held(journal: Any, queue: str) -> None:
    """No message waits, and none is thought to be worked on."""
    cases.until(lambda: not journal.exists(queue, "unacked", "unacked_index"), "the last acknowledgement")


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("publisher", ["celery", "opsq"] if FULL else ["celery"])
def test_both_drain_one_queue(ground: Place, journal: Any, publisher: str, pool: str) -> None:
    settings = patient(3600)
    with (
        running_client(ground, publisher, settings=settings) as client,
        running_worker(ground, "celery", "prefork", settings=settings),
        running_worker(ground, "opsq", pool, settings=settings),
    ):
        publish(client, TASKS, 0.005)
        until_done(journal, TASKS)
        nothing_is_held(journal, ground.queue)
    seen = ledger(journal, TASKS)
    assert seen.violations() == []
    assert set(seen.times_started().values()) == {1}
    assert min(by(journal)[library] for library in ("celery", "opsq")) > TASKS // 20, by(journal)


def test_a_long_task_outlives_the_visibility_timeout(ground: Place, journal: Any) -> None:
    """A stock worker and a stock sweep of what has been held for too long are beside it all the time."""
    visibility_s, task_s = (10.0, 40.0) if FULL else (4.0, 5.5)
    settings = patient(visibility_s)
    with (
        running_client(ground, "opsq", settings=settings) as client,
        running_worker(ground, "opsq", "threads", settings=settings),
        Connection(ground.broker, transport_options={"visibility_timeout": visibility_s}) as stock,
    ):
        publish(client, 1, task_s)
        cases.until(lambda: ledger(journal, 1).starts, "the beginning")
        channel = stock.channel()

        def swept() -> bool:
            channel.qos.restore_visible(num=10, interval=1)
            return bool(ledger(journal, 1).done)

        with running_worker(ground, "celery", "solo", settings=settings):
            cases.until(swept, "the end", task_s + PATIENCE_S)
            nothing_is_held(journal, ground.queue)
    assert ledger(journal, 1).violations() == []
    assert by(journal) == {"opsq": 1}


@full_only
def test_a_stock_worker_finishes_what_a_dead_one_held(ground: Place, journal: Any) -> None:
    visibility_s = 10.0
    settings = patient(visibility_s)
    with running_client(ground, "opsq", settings=settings) as client:
        with running_worker(ground, "opsq", "threads", settings=settings) as worker:
            publish(client, 8, 1.0)
            cases.until(lambda: len(ledger(journal, 8).starts) >= 2, "work")
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        held = journal.hvals("unacked")
        tags = [json.loads(text)[0]["properties"]["delivery_tag"] for text in held]
        assert len(held) >= 2
        # A stock worker sweeps when it starts, and then only every hundred seconds.
        cases.until(lambda: overdue(journal, visibility_s) >= len(tags), "the time-out", visibility_s + PATIENCE_S)
        with running_worker(ground, "celery", "prefork", settings=settings):
            until_done(journal, 8)
            nothing_is_held(journal, ground.queue)
    assert by(journal)["celery"] >= len(held)
    assert ledger(journal, 8).lost() == set()


def overdue(journal: Any, visibility_s: float) -> int:
    """How many messages have been held for longer than that, by the clock that stock code goes by."""
    seconds, microseconds = journal.time()
    return int(journal.zcount("unacked_index", 0, seconds + microseconds / 1e6 - visibility_s))
