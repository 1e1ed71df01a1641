"""Every shape of ``canvas_cases.py``: {Celery, opsq} publishes, {Celery, opsq} runs it.

Redis in ``make test``; with ``INTEROP=full`` on RabbitMQ too, with results in Redis and in PostgreSQL.
Celery to Celery is the control: a shape
that fails there is no fault of opsq (``CELERY_CANNOT`` names those).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import peers
from tests.interop.conftest import BROKERS, Broker, Direction, Pair
from tests.interop.peers import ACCEPT_ALL, FULL, Place
from tests.servers import RedisServer
from tests.servers_sql import postgres_server

HERE = Path(__file__).resolve().parent
_TREE = ast.parse((HERE / "canvas_cases.py").read_text())
SHAPES = [
    node.name
    for node in _TREE.body
    if isinstance(node, ast.FunctionDef)
    and any(isinstance(each, ast.Name) and each.id == "shape" for each in node.decorator_list)
]
MORE = [
    "canvas_errback_of_a_chord",
    "canvas_link_of_a_chord",
    "canvas_parents",
    "canvas_saved_group",
    "canvas_revoked_member",
]
DIRECTIONS = (
    Direction("opsq", "opsq", "threads"),
    Direction("celery", "opsq", "threads"),
    Direction("opsq", "celery", "prefork"),
    *((Direction("celery", "celery", "prefork"),) if FULL else ()),
)
WITH_SQL = "rabbitmq-sql"
#: On SQL a chord of Celery's is looked at, not counted.
QUICK_LOOKS = {"result_chord_retry_interval": 0.1}
#: What Celery 5.7 does not do itself, by (client, worker, shape).
CELERY_CANNOT: dict[tuple[str, str, str], str] = {}
#: What cannot be where Celery has a part in it and results are in SQL.
NOT_ON_SQL = {"header_that_grows": "Celery knows no add_to_chord on SQL, neither its workers nor its clients' chords"}


@pytest.fixture(scope="session", params=(*BROKERS, *((WITH_SQL,) if FULL else ())))
def ground(request: pytest.FixtureRequest, redis: RedisServer) -> Iterator[Broker]:
    """Each broker with results in Redis, and RabbitMQ with results in PostgreSQL."""
    results = f"redis://127.0.0.1:{redis.port}/1"
    if request.param != WITH_SQL:
        yield Broker(request.param, request.getfixturevalue(request.param).url, results)
        return
    with postgres_server() as database:
        url = request.getfixturevalue("rabbitmq").url
        yield Broker(request.param, url, f"db+{database.url}", journal=results)


@pytest.fixture(scope="session")
def canvas_pairs(ground: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Direction, Pair]]:
    """A client and a worker of each direction, all started together."""
    pairs: dict[Direction, Pair] = {}
    base = tmp_path_factory.mktemp(f"canvas-{ground.name}")
    settings = {**ACCEPT_ALL, **(QUICK_LOOKS if ground.name == WITH_SQL else {})}
    for direction in DIRECTIONS:
        folder = base / str(direction)
        folder.mkdir()
        queue = f"canvas-{ground.name}-{direction}"
        place = Place(ground.url, ground.results, queue, folder, ground.journal)
        worker = peers.worker(place, direction.worker, direction.pool, name=f"canvas-{direction}", settings=settings)
        client = peers.client(place, direction.client, settings=settings)
        pairs[direction] = Pair(direction, place, client, worker)
    try:
        yield pairs
    finally:
        for pair in pairs.values():
            pair.client.peer.ask_to_stop()
            pair.worker.ask_to_stop()
        for pair in pairs.values():
            pair.client.peer.stop()
            pair.worker.stop()


@pytest.fixture(scope="session", params=DIRECTIONS, ids=str)
def canvas_pair(request: pytest.FixtureRequest, canvas_pairs: dict[Direction, Pair]) -> Pair:
    """Each direction in turn."""
    pair: Pair = canvas_pairs[request.param]
    pair.worker.wait_for("ready")
    return pair


@pytest.mark.parametrize("shape", SHAPES)
def test_canvas_shape(canvas_pair: Pair, shape: str) -> None:
    direction = canvas_pair.direction
    reason = CELERY_CANNOT.get((direction.client, direction.worker, shape))
    if WITH_SQL in canvas_pair.place.queue and "celery" in (direction.client, direction.worker):
        reason = reason or NOT_ON_SQL.get(shape)
    if reason is not None:
        pytest.skip(reason)
    canvas_pair.client.run("canvas_shape", shape)


@pytest.mark.parametrize("case", MORE)
def test_canvas_case(canvas_pair: Pair, case: str) -> None:
    canvas_pair.client.run(case)
