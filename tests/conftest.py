"""What the whole run shares: servers, started only when a test asks, signals, and log levels that no test keeps."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from opsq import Opsq
from tests.rabbitmq import RabbitServer, rabbitmq_server

MakeApp = Callable[..., Opsq]

# Hypothesis would fail what takes 0.2 s on a machine that is busy, and look elsewhere each time; `make chaos` looks
# elsewhere, and `make test` finds what it found before.
settings.register_profile(
    "opsq",
    deadline=None,
    derandomize=os.environ.get("CHAOS") != "full",
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("opsq")


def pytest_collection_finish() -> None:
    """Keep the ten thousand tests out of the way of Python's search for cycles: it would look at them all each time."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(autouse=True)
def cycles() -> Iterator[None]:
    """Have Python look for cycles as often as before: a worker or monitor inside a test makes it look rarely, and what
    some brokers' clients leave behind in cycles would add up to a gigabyte."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


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
