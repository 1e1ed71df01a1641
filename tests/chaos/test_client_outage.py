"""A client goes on publishing while its broker is away: what returned is executed, the rest raised in time.

Quick: short outages, made by a proxy. ``make chaos``: ten seconds, real servers that die.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.errors import BrokerUnavailable
from tests.chaos.calls import RATE, Calls
from tests.chaos.site import Site
from tests.promises import within
from tests.rabbitmq import RabbitServer, rabbitmq_server
from tests.servers import RedisServer, redis_server
from tests.tcp_proxy import TcpProxy, tcp_proxy

FULL = os.environ.get("CHAOS") == "full"
OUTAGE_S = 10.0 if FULL else 1.0
SLACK_S = 0.5
"""A loaded machine may not run a thread at once when its time is up."""
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--requirepass", "s3cret")
FOREVER = {"max_retries": None, "interval_start": 0.05, "interval_step": 0.1, "interval_max": 0.5}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that forgets nothing and wants a password."""
    with redis_server(tmp_path_factory.mktemp("redis"), *DURABLE) as server:
        yield server


@pytest.fixture(params=["redis", "rabbitmq"])
def address(request: pytest.FixtureRequest) -> tuple[int, str]:
    """Port of a broker, and its URL with ``{port}`` in it."""
    server = request.getfixturevalue(request.param)
    if request.param == "redis":
        return server.port, "redis://:s3cret@127.0.0.1:{port}/0"
    return server.port, "amqp://guest:guest@127.0.0.1:{port}//"


@pytest.fixture
def proxy(address: tuple[int, str]) -> Iterator[TcpProxy]:
    """Between the client and the broker."""
    with tcp_proxy(address[0]) as made:
        yield made


def client(broker: Any, site: Site, **settings: Any) -> Opsq:
    """An app that only publishes."""
    return Opsq("client", broker=broker, task_default_queue=site.queue, task_ignore_result=True, **settings)


def names_it(errors: list[str], *ports: int) -> bool:
    """Whether every error names the broker, and none a password."""
    named = all(any(f"127.0.0.1:{port}" in error for port in ports) for error in errors)
    return named and not any("s3cret" in error or "guest:guest" in error for error in errors)


@pytest.mark.parametrize("patient", [False, True], ids=["few-retries", "patient"])
def test_calls_through_an_outage(address: tuple[int, str], proxy: TcpProxy, tmp_path: Path, patient: bool) -> None:
    port, url = address
    if patient and not FULL and url.startswith("amqp"):
        pytest.skip("the same code as on Redis; make chaos runs it")
    timeout_s = OUTAGE_S + 10.0 if patient else 2.0
    with Site(url.format(port=port), tmp_path) as site:
        more: dict[str, Any] = {"task_publish_retry_policy": FOREVER} if patient else {}
        app = client(url.format(port=proxy.port), site, publish_timeout=timeout_s, **more)
        calls = Calls()
        threads = calls.start(app, site)
        site.worker("w")
        site.until("work before", lambda: len(site.ledger().done) > RATE // 4)
        proxy.cut()
        threading.Event().wait(OUTAGE_S)
        site.until("a call that gave up", lambda: patient or bool(calls.errors))
        proxy.refuse(False)
        before = len(calls.confirmed)
        site.until("calls afterwards", lambda: len(calls.confirmed) > before + RATE // 4)
        calls.end(threads)
        app.close()
        site.until("every call", lambda: set(map(str, calls.confirmed)) <= site.ledger().done)
        assert calls.longest_s <= within(timeout_s + SLACK_S)
        assert names_it(calls.errors, proxy.port), set(calls.errors)
        assert not (patient and calls.errors), set(calls.errors)
        assert patient or calls.errors
        assert site.ledger().lost() == set()


def test_a_silent_broker_does_not_hold_a_call_beyond_its_deadline(
    address: tuple[int, str], proxy: TcpProxy, tmp_path: Path
) -> None:
    url = address[1].format(port=proxy.port)
    site = Site(url, tmp_path)
    app = client(url, site, publish_timeout=1.0)
    app.send_task("kill_app.work", (0, 1.0))
    proxy.refuse()
    proxy.hole()
    took: list[float] = []

    def call() -> None:
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable) as caught:
            app.send_task("kill_app.work", (1, 1.0))
        took.append(time.monotonic() - begun)
        assert names_it([str(caught.value)], proxy.port), caught.value

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 3
    assert max(took) <= within(1.0 + SLACK_S)
    app.close()


def test_the_first_of_two_brokers_dies(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Two servers that know nothing of each other: what the dead one had comes when it is back."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with redis_server(folders[0], *DURABLE) as first, redis_server(folders[1], *DURABLE) as second:
        two_brokers(first, second, "redis://:s3cret@127.0.0.1:{port}/0", tmp_path)


@pytest.mark.skipif(not FULL, reason="boots a second RabbitMQ; make chaos runs it")
def test_the_first_of_two_rabbits_dies(rabbitmq: RabbitServer, tmp_path: Path) -> None:
    (tmp_path / "rabbit").mkdir()
    with rabbitmq_server(tmp_path / "rabbit") as first:
        two_brokers(first, rabbitmq, "amqp://guest:guest@127.0.0.1:{port}//", tmp_path)


def two_brokers(first: Any, second: Any, url: str, folder: Path) -> None:
    """Publish 200 a second to a list of two; the first is killed, and returns when all is over."""
    urls = [url.format(port=server.port) for server in (first, second)]
    with Site(";".join(urls), folder) as site:
        app = client(urls, site, publish_timeout=5.0)
        calls = Calls()
        threads = calls.start(app, site)
        site.worker("w")
        site.until("work before", lambda: len(site.ledger().done) > RATE // 4)
        first.kill()
        killed_at = time.time()
        before = len(calls.confirmed)
        site.until("calls afterwards", lambda: len(calls.confirmed) > before + RATE)
        site.until("work afterwards", lambda: any(at > killed_at + 0.1 for _, _, at in site.ledger().ends))
        calls.end(threads)
        app.close()
        first.start()
        site.worker("late", broker=urls[0])
        site.until("every call", lambda: set(map(str, calls.confirmed)) <= site.ledger().done)
        assert calls.longest_s <= within(5.0 + SLACK_S)
        assert names_it(calls.errors, first.port, second.port), set(calls.errors)
        assert site.ledger().lost() == set()
