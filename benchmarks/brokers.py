"""Servers that a run starts for itself, and the settings that point at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.rabbitmq import rabbitmq_server
from tests.servers import redis_server


@contextmanager
def rabbitmq(folder: Path) -> Iterator[Mapping[str, str]]:
    """RabbitMQ as the broker, Redis for results; yields the environment."""
    for name in ("rabbitmq", "redis"):
        (folder / name).mkdir()
    with rabbitmq_server(folder / "rabbitmq") as broker, redis_server(folder / "redis") as results:
        yield {"OPSQ_BROKER_URL": broker.url, "OPSQ_RESULT_BACKEND": results.url}


@contextmanager
def redis(folder: Path) -> Iterator[Mapping[str, str]]:
    """One Redis for messages and results, without persistence; yields the environment."""
    (folder / "redis").mkdir()
    with redis_server(folder / "redis") as server:
        yield {"OPSQ_BROKER_URL": server.url, "OPSQ_RESULT_BACKEND": server.url}
