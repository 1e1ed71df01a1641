"""Servers that the whole run shares, started only when a test asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rabbitmq import RabbitServer, rabbitmq_server


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ of this run's own; whoever stops it starts it again."""
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server
