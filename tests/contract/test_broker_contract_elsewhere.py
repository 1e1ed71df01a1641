"""The broker contract on SQL databases, SQS and MongoDB; MariaDB and MongoDB with CHAOS=full."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from opsq.broker.kombu_source import declare_queue
from opsq.broker.mongodb import server_clock, transport
from opsq.broker.registry import BROKERS
from opsq.broker.topology import ExchangeSpec, QueueSpec
from opsq.testing.broker_reader import unique
from opsq.testing.contract_broker import BrokerContract
from tests.servers_cloud import SQS_OPTIONS, ferretdb_server, sqs_server
from tests.servers_sql import maria_server, postgres_server

LONG = os.environ.get("CHAOS") == "full"
long_suite = pytest.mark.skipif(not LONG, reason="runs in make chaos")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as server:
        yield f"sqla+{server.url}"


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with maria_server() as server:
        yield f"sqla+{server.url}"


@pytest.fixture(scope="module")
def sqs() -> Iterator[str]:
    with sqs_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ferretdb_server(tmp_path_factory.mktemp("ferretdb")) as server:
        yield server.url


class TestSqla(BrokerContract):
    """PostgreSQL."""

    features = BROKERS["sqla"].features

    @pytest.fixture
    def url(self, postgres: str) -> str:
        return postgres


@long_suite
class TestSqlaOnMariaDB(TestSqla):
    """The same on MariaDB."""

    @pytest.fixture
    def url(self, mariadb: str) -> str:
        return mariadb


class TestSqs(BrokerContract):
    """moto, which needs the longer for a message the more it has."""

    features = BROKERS["sqs"].features
    options: ClassVar[dict[str, Any]] = SQS_OPTIONS
    many: ClassVar[int] = 300

    @pytest.fixture
    def url(self, sqs: str) -> str:
        return sqs


@long_suite
class TestMongodb(BrokerContract):
    """FerretDB, which keeps its data in SQLite and takes milliseconds for a message."""

    features = BROKERS["mongodb"].features
    many: ClassVar[int] = 400

    @pytest.fixture
    def url(self, mongodb: str) -> str:
        return mongodb

    def test_a_private_queue_ends_by_the_servers_clock(self, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        slow = SimpleNamespace(time=lambda: time.time() - 3600)
        for module in (server_clock, transport):
            monkeypatch.setattr(module, "time", slow, raising=False)
        connection = connect()
        connection.connect()
        channel: Any = connection.kombu.channel()
        every = ExchangeSpec(name=unique("every"), type="fanout")
        declare_queue(channel, QueueSpec(name=unique("mine"), exchange=every, auto_delete=True))
        (bound,) = channel.routing.find({"exchange": every.name})
        assert 0 < bound["opsq_read_until"] - time.time() < 100
