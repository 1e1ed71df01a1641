"""An app of its own per test, on the embedded broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from tests.servers import RedisServer, redis_server

MakeApp = Callable[..., Opsq]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Makes apps whose broker and results are files of this test."""
    made: list[Opsq] = []

    def make(**settings: Any) -> Opsq:
        app = Opsq("shop", data_dir=str(tmp_path / "data"), set_as_current=False, **settings)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(make_app: MakeApp) -> Opsq:
    """One such app with default settings."""
    return make_app()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this run's own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server
