"""An app of its own per test, on the embedded broker, and a Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from opsq import Opsq
from tests.conftest import MakeApp
from tests.servers import RedisServer, redis_server


@pytest.fixture
def app(make_app: MakeApp) -> Opsq:
    """One such app with default settings."""
    return make_app()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this run's own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server
