"""What the whole run shares: servers, started only when a test asks, signals, and log levels that no test keeps."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest

from tests.rabbitmq import RabbitServer, rabbitmq_server


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ of this run's own; whoever stops it starts it again."""
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture(autouse=True, scope="session")
def hang_ups() -> None:
    """Let workers hear SIGHUP: under `nohup make test` they would inherit that it is ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """Set levels back: a worker or monitor inside a test sets the root's, and later tests read what is logged."""
    root, ours = logging.getLogger(), logging.getLogger("opsq")
    before = root.level, ours.level
    yield
    root.setLevel(before[0])
    ours.setLevel(before[1])
