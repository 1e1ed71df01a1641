"""The network or the broker fails under a worker: how soon it consumes again, and that nothing is lost.

Each fault on Redis and on RabbitMQ. Bounds: reliability of ``docs/promises.md``.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.chaos.ledger import Promise
from tests.chaos.site import Site
from tests.promises import within
from tests.rabbitmq import RabbitServer
from tests.servers import RedisServer, redis_server
from tests.tcp_proxy import TcpProxy, tcp_proxy

FULL = os.environ.get("CHAOS") == "full"
full_only = pytest.mark.skipif(not FULL, reason="takes too long for make test; make chaos runs it")
RESET_S = 1.0
RESTART_S = 2.0
HALF_OPEN_S = 15.0
FROZEN_S = 20.0 if FULL else 2.0
LOADED_S = 0.5
"""What a loaded machine may add: it is not the fault's doing."""
AGAIN = Promise(lease_s=60.0)
"""A delivery of before a fault may come again after it."""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that forgets nothing."""
    with redis_server(tmp_path_factory.mktemp("redis"), "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture(params=["redis", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each broker in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def site(server: Any, proxy: TcpProxy, tmp_path: Path) -> Iterator[Site]:
    """A queue of its own there, and workers that end before the proxy does."""
    with Site(server.url, tmp_path) as made:
        yield made


@pytest.fixture
def proxy(server: Any) -> Iterator[TcpProxy]:
    """Between the workers and the broker."""
    with tcp_proxy(server.port) as made:
        yield made


def through(proxy: TcpProxy, server: Any) -> str:
    """The broker's URL by way of the proxy."""
    return str(server.url).replace(f":{server.port}", f":{proxy.port}")


def begin(site: Site, broker: str, count: int, milliseconds: float) -> None:
    """Publish, start a worker, and wait until it is at work."""
    site.call(range(count), milliseconds)
    site.worker("w", broker=broker)
    site.until("work", lambda: len(site.ledger().done) >= 8)


def finish(site: Site, count: int) -> None:
    """Wait for every task, and check the ledger."""
    site.until("every task", lambda: len(site.ledger().done) == count)
    assert site.ledger().violations(AGAIN) == []


def test_reset(server: Any, site: Site, proxy: TcpProxy, record_property: Any) -> None:
    begin(site, through(proxy, server), 200, 20.0)
    began = time.time()
    proxy.reset()
    again_s = site.first_start_after(site.fault("reset", began) + 0.1)  # what was held goes on by itself
    record_property("again_s", again_s)
    finish(site, 200)
    assert again_s <= within(RESET_S + LOADED_S)


def test_the_server_closes_every_connection(server: Any, site: Site, record_property: Any) -> None:
    """As an administrator can: ``CLIENT KILL``, ``close_all_connections``."""
    begin(site, server.url, 200, 20.0)
    began = time.time()
    if isinstance(server, RabbitServer):
        server.control("close_all_connections", "by hand")
    else:
        with Redis.from_url(server.url) as client:
            assert sum(client.client_kill_filter(_type=kind, skipme=True) for kind in ("normal", "pubsub")) > 0
    again_s = site.first_start_after(site.fault("closed", began) + 0.1)
    record_property("again_s", again_s)
    finish(site, 200)
    assert again_s <= within(RESET_S + LOADED_S)


def test_reset_in_the_middle_of_whatever_is_said(server: Any, site: Site, proxy: TcpProxy) -> None:
    proxy.most_bytes = 60_000  # more than it takes to begin: on Redis the scripts alone are a third of it
    began = time.time()
    site.call(range(300), 2.0)
    site.worker("w", broker=through(proxy, server))
    site.until("every task", lambda: len(site.ledger().done) == 300)
    proxy.most_bytes = None
    site.fault("limit", began)
    assert proxy.accepted > 4
    assert site.ledger().lost() == set()


@full_only
def test_half_open(server: Any, site: Site, proxy: TcpProxy, record_property: Any) -> None:
    """The old connections are silent for ever, new ones pass: Celery did not come back within 260 s."""
    begin(site, through(proxy, server), 20, 20.0)
    site.until("idle", lambda: len(site.ledger().done) == 20)
    began = time.time()
    proxy.hole()
    site.call(range(20, 60), 20.0)
    again_s = site.first_start_after(began)
    site.fault("hole", began)
    record_property("again_s", again_s)
    finish(site, 60)
    assert again_s <= HALF_OPEN_S


@full_only
def test_half_open_at_work(server: Any, site: Site, proxy: TcpProxy, record_property: Any) -> None:
    begin(site, through(proxy, server), 200, 50.0)
    began = time.time()
    proxy.hole()
    held = len(site.ledger().starts)
    site.until("work over a new connection", lambda: proxy.accepted and len(site.ledger().done) == 200)
    site.fault("hole", began)
    starts = sorted(at for _, _, at in site.ledger().starts)
    pauses = [later - at for at, later in itertools.pairwise(starts)]
    record_property("again_s", max(pauses))
    record_property("held", held)
    finish(site, 200)
    assert max(pauses) <= HALF_OPEN_S


def test_restart(server: Any, site: Site, record_property: Any) -> None:
    if not FULL and str(server.url).startswith("amqp"):
        pytest.skip("test_amqp_worker.py has a short one; make chaos runs this")
    begin(site, server.url, 400, 20.0)
    began = time.time()
    server.kill()
    threading.Event().wait(3.0 if FULL else 1.0)
    server.start()
    again_s = site.first_start_after(site.fault("restart", began))
    record_property("again_s", again_s)
    finish(site, 400)
    assert again_s <= within(RESTART_S + LOADED_S)


def test_frozen(server: Any, site: Site, record_property: Any) -> None:
    begin(site, server.url, 200, 20.0)
    began = time.time()
    server.freeze()
    threading.Event().wait(FROZEN_S)
    server.thaw()
    again_s = site.first_start_after(site.fault("frozen", began))
    record_property("again_s", again_s)
    finish(site, 200)
    assert again_s <= within(RESET_S + LOADED_S)


@full_only
def test_slow_line(server: Any, site: Site, proxy: TcpProxy) -> None:
    """50 ms each way and 64 kB/s: slower, and nothing else."""
    proxy.delay_s, proxy.bytes_per_s = 0.05, 64_000.0
    site.call(range(200), 2.0)
    site.worker("w", broker=through(proxy, server))
    finish(site, 200)


@full_only
def test_a_frozen_worker_is_replaced(server: Any, site: Site, record_property: Any) -> None:
    """What it held runs elsewhere; when it goes on its settling is refused, and it works again."""
    site.call(range(40), 100.0)
    frozen = site.worker("frozen")
    site.until("work", lambda: len(site.ledger().done) >= 4)
    began = time.time()
    frozen.send_signal(signal.SIGSTOP)
    site.worker("other")
    took_s = site.until("every task", lambda: len(site.ledger().done) == 40)
    record_property("took_s", took_s)
    frozen.send_signal(signal.SIGCONT)
    site.fault("frozen", began)
    site.call(range(40, 80), 20.0)
    finish(site, 80)
    assert took_s <= 45.0
