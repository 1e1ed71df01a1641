"""The book of standing orders, on each broker that keeps one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsq.broker import standing
from opsq.broker.amqp.standing import QUEUE
from opsq.broker.connection import BrokerConnection
from opsq.broker.faults import BrokerUnusable
from opsq.broker.registry import BROKERS
from opsq.broker.standing import PAUSED_QUEUE, REVOKED, STAMP, StandingOrder
from opsq.core.app import Opsq
from tests.servers import RedisServer
from tests.servers_cloud import ferretdb_server
from tests.servers_sql import maria_server, postgres_server

NOW = time.time()  # of the import: much later than that, ends that are near have passed
FOREVER = StandingOrder(PAUSED_QUEUE, "mail")
LONG = StandingOrder(REVOKED, "a", "", NOW + 3600)
KEPT_BY = ("sqlite", "redis", "amqp", "sqla")
long_suite = pytest.mark.skipif(os.environ.get("CHAOS") != "full", reason="runs in make chaos")
KEPT_BY_TOO = (pytest.param("mariadb", marks=long_suite), pytest.param("mongodb", marks=long_suite))
#: Commands reach no worker there, so an order is refused.
NOT_KEPT_BY = {"sqs"}


@pytest.fixture(scope="module")
def sqla() -> Iterator[str]:
    with postgres_server() as server:
        yield f"sqla+{server.url}"


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with maria_server() as server:
        yield f"sqla+{server.url}"


@pytest.fixture(scope="module")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ferretdb_server(tmp_path_factory.mktemp("ferretdb")) as server:
        yield server.url


@pytest.fixture(params=(*KEPT_BY, *KEPT_BY_TOO))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A broker of each kind, its book empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/broker.db"
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        return redis.url
    if request.param == "amqp":
        return str(request.getfixturevalue("rabbitmq").url)
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def connection(url: str) -> Iterator[BrokerConnection]:
    made = BrokerConnection(url)
    made.connect()
    held = standing.read(made, NOW)
    assert held is not None
    standing.lift(made, held, NOW)
    if made.driver == "amqp":
        made.kombu.channel().queue_purge(QUEUE)  # also the notes that say what was lifted
    yield made
    made.close()


def other(url: str) -> BrokerConnection:
    made = BrokerConnection(url)
    made.connect()
    return made


def test_of_every_broker_that_processes_share_it_is_known_whether_it_keeps_them() -> None:
    shared = {name for name, broker in BROKERS.items() if broker.features.cross_process}
    # The two left out are the same transports over TLS and sentinels.
    assert shared - {"sentinel", "amqps"} - NOT_KEPT_BY == {*KEPT_BY, "mongodb"}


def test_orders_outlive_who_gave_them(connection: BrokerConnection, url: str) -> None:
    stamp = StandingOrder(STAMP, "customer", "17 \x00 é", NOW + 3600)
    assert standing.add(connection, [FOREVER, LONG, stamp], NOW)
    connection.close()
    reader = other(url)
    assert {each.key for each in standing.read(reader, NOW) or ()} == {FOREVER.key, LONG.key, stamp.key}
    assert next(each for each in standing.read(reader, NOW) or () if each.key == FOREVER.key).until is None
    assert next(each for each in standing.read(reader, NOW) or () if each.key == LONG.key).until == LONG.until
    reader.close()


def test_an_order_ends_by_itself_or_is_lifted(connection: BrokerConnection) -> None:
    standing.add(connection, [FOREVER, LONG], NOW)
    standing.add(connection, [StandingOrder(REVOKED, "over", "", NOW - 1)], NOW)
    assert {each.name for each in standing.read(connection, NOW) or ()} == {"mail", "a"}
    assert {each.name for each in standing.read(connection, NOW + 3601) or ()} == {"mail"}
    standing.add(connection, [FOREVER], NOW)
    assert standing.lift(connection, [FOREVER, StandingOrder(REVOKED, "never there")], NOW + 1)
    assert standing.read(connection, NOW) is not None
    assert "mail" not in {each.name for each in standing.read(connection, NOW) or ()}
    standing.add(connection, [FOREVER], NOW + 2)
    assert "mail" in {each.name for each in standing.read(connection, NOW) or ()}


def test_the_later_end_replaces_the_earlier(connection: BrokerConnection) -> None:
    standing.add(connection, [LONG], NOW)
    again = StandingOrder(REVOKED, "a", "", NOW + 7200)
    standing.add(connection, [again], NOW + 1)
    assert [each.until for each in standing.read(connection, NOW) or () if each.name == "a"] == [again.until]


def test_readers_at_once_all_see_everything(connection: BrokerConnection, url: str) -> None:
    orders = [StandingOrder(REVOKED, f"task-{n}", "", NOW + 7200) for n in range(200)]
    standing.add(connection, orders, NOW)
    seen: list[int] = []
    begin = threading.Barrier(6)

    def read() -> None:
        reader = other(url)
        begin.wait(10)
        for _ in range(3):
            seen.append(len(standing.read(reader, NOW) or ()))
        reader.close()

    threads = [threading.Thread(target=read) for _ in range(5)]
    for each in threads:
        each.start()
    begin.wait(10)
    for each in threads:
        each.join(30)
    assert seen == [200] * 15


def test_an_order_is_refused_where_no_worker_would_hear_it() -> None:
    app = Opsq("nobody", broker="sqs://key:secret@127.0.0.1:1", set_as_current=False)
    with app, pytest.raises(BrokerUnusable, match="remote control"):
        app.control.keep("revoke", {"task_id": "a"})


def test_a_broker_without_a_book_says_so() -> None:
    connection = other("memory://")
    assert standing.read(connection, NOW) is None
    assert not standing.add(connection, [LONG], NOW)
    assert not standing.lift(connection, [LONG], NOW)
    connection.close()
