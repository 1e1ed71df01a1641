"""What the interop tests share: servers started once, and pairs of client and worker that stay up."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from tests.interop import peers
from tests.interop.peers import FULL, Client, Peer, Place
from tests.servers import RedisServer, redis_server


@dataclass(frozen=True)
class Broker:
    """One broker under test. url: of the broker; results: of the store that goes with it.

    journal: a Redis, where ``results`` is none.
    """

    name: str
    url: str
    results: str
    journal: str = ""
    turn: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(2, 16)))

    def apart(self) -> str:
        """The URL of a part of its own, where the broker has parts: events and remote control stay among its users."""
        if self.name != "redis":
            return self.url
        url = f"{self.url.rpartition('/')[0]}/{next(self.turn)}"
        with contextlib.closing(Redis.from_url(url)) as database:
            database.flushdb()
        return url


@dataclass(frozen=True)
class Direction:
    """Who publishes to whom. pool: of the worker."""

    client: str
    worker: str
    pool: str

    def __str__(self) -> str:
        return f"{self.client}-to-{self.worker}-{self.pool}"


#: Brokers that the tests run on; a fixture of that name stands behind each.
BROKERS = ("redis", "rabbitmq") if FULL else ("redis",)
#: Celery to Celery is the control: what fails there is no fault of opsq.
CONTROL = Direction("celery", "celery", "prefork")
DIRECTIONS = (
    Direction("celery", "opsq", "threads"),
    Direction("celery", "opsq", "prefork"),
    Direction("opsq", "celery", "prefork"),
    *((CONTROL,) if FULL else ()),
)


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this run's own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session", params=BROKERS)
def broker(request: pytest.FixtureRequest, redis: RedisServer) -> Broker:
    """Each broker in turn; results are kept in Redis, database 1."""
    server = request.getfixturevalue(request.param)
    return Broker(request.param, server.url, f"redis://127.0.0.1:{redis.port}/1")


@pytest.fixture
def place(broker: Broker, tmp_path: Path) -> Place:
    """A queue of the test's own."""
    return Place(broker.apart(), broker.results, f"interop-{tmp_path.name}", tmp_path)


@dataclass
class Pair:
    """A client and a worker of one direction."""

    direction: Direction
    place: Place
    client: Client
    worker: Peer


class Fleet:
    """Pairs of one broker, all started when the first is asked for, so that they come up together."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self._broker = broker
        self._folder = folder
        self._pairs: dict[Direction, Pair] = {}

    def pair(self, direction: Direction) -> Pair:
        """The pair of ``direction``, its worker ready."""
        if not self._pairs:
            for each in DIRECTIONS:
                self._pairs[each] = self._start(each)
        pair = self._pairs[direction]
        pair.worker.wait_for("ready")
        return pair

    def _start(self, direction: Direction) -> Pair:
        folder = self._folder / str(direction)
        folder.mkdir()
        place = Place(self._broker.url, self._broker.results, f"interop-{direction}", folder)
        started = peers.worker(place, direction.worker, direction.pool, name=str(direction))
        return Pair(direction, place, peers.client(place, direction.client), started)

    def stop(self) -> None:
        """Stop everything."""
        for pair in self._pairs.values():
            pair.client.peer.ask_to_stop()
            pair.worker.ask_to_stop()
        for pair in self._pairs.values():
            pair.client.peer.stop()
            pair.worker.stop()


@pytest.fixture(scope="session")
def fleet(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The pairs on one broker."""
    made = Fleet(broker, tmp_path_factory.mktemp(f"fleet-{broker.name}"))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session", params=DIRECTIONS, ids=str)
def pair(request: pytest.FixtureRequest, fleet: Fleet) -> Pair:
    """Each direction in turn."""
    return fleet.pair(request.param)
