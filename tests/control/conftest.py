"""Apps and workers on the embedded broker and on Redis, and a stream of the events that they send."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.broker.connection import BrokerConnection, open_connection
from opsq.events.stream import Stream, connector
from opsq.wire.event import Event
from tests.servers import RedisServer, redis_server

PATIENCE_S = 60.0
NODE = "w1@here"
MakeApp = Callable[..., Opsq]


def until(true: Callable[[], Any], what: str = "it") -> Any:
    """Wait for what no probe tells of, and return it."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not (found := true()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        pause.wait(0.01)
    return found


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this run's own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


BROKERS = ("sqlite", "redis", "rabbitmq") if os.environ.get("CHAOS") == "full" else ("sqlite", "redis")


@pytest.fixture(params=BROKERS)
def make_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeApp]:
    """Makes apps that share a broker and results of the test's own, on each of the two brokers."""
    made: list[Opsq] = []
    where: dict[str, Any] = {"data_dir": str(tmp_path / "data")}
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        prefix = {"global_keyprefix": f"{tmp_path.name}:", "socket_timeout": 5.0}
        where |= {
            "broker_url": server.url,
            "result_backend": server.url.replace("/0", "/1"),
            "broker_transport_options": prefix,
        }

    if request.param == "rabbitmq":
        where |= {"broker_url": request.getfixturevalue("rabbitmq").url, "result_backend": "sqlite"}
        connection = BrokerConnection(where["broker_url"])
        connection.connect()
        for name in ("celery", "more", "opsq.standing"):
            connection.kombu.channel().queue_delete(name)
        connection.close()

    def make(**settings: Any) -> Opsq:
        app = Opsq("shop", set_as_current=False, **{"worker_mingle": False, **where, **settings})
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


class Heard:
    """The events of a broker, collected."""

    def __init__(self, app: Opsq) -> None:
        settings = app.settings
        self._stream = Stream(connector(lambda: open_connection(settings, purpose="read")))
        self._events: list[Event] = []
        self._stream.start()

    def events(self, kind: str) -> list[Event]:
        """Those of one kind so far."""
        self._events += [each for each in self._stream.take(0.05) if isinstance(each, Event)]
        return [each for each in self._events if each.kind == kind]

    def wait(self, kind: str, **fields: Any) -> Event:
        """The first of this kind whose fields have these values."""

        def found() -> Event | None:
            for each in self.events(kind):
                if all(each.fields.get(name) == value for name, value in fields.items()):
                    return each
            return None

        event: Event = until(found, f"{kind} with {fields}")
        return event

    def close(self) -> None:
        """Stop listening."""
        self._stream.stop()


@pytest.fixture
def listen() -> Iterator[Callable[[Opsq], Heard]]:
    """Starts listening to the events of an app's broker."""
    made: list[Heard] = []

    def start(app: Opsq) -> Heard:
        made.append(Heard(app))
        until(lambda: made[-1]._stream.status().connected, "the event stream")
        return made[-1]

    yield start
    for each in made:
        each.close()
