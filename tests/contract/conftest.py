"""Servers that the contract suites share, started once per run and only when a test asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opsq.testing.contract_broker import BrokerContract
from tests.promises import within
from tests.servers import RedisServer, redis_server

BrokerContract.quick_s = min(within(BrokerContract.quick_s), 0.2)  # brokers that are polled look four times a second


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this run's own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server
