"""The broker contract on SQL databases, SQS and MongoDB; MariaDB and MongoDB with CHAOS=full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from opsq.broker.registry import BROKERS
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
