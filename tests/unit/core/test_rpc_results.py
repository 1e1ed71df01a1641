"""Results as messages: to the sender alone, each state one message, as Celery sends and reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from opsq import Opsq
from opsq.broker.connection import BrokerConnection
from opsq.broker.topology import QueueSpec
from opsq.core import request as requests
from opsq.core.backends.address import addressed
from opsq.core.backends.rpc import RpcBackend
from opsq.errors import BackendUnavailable, NotRegistered, TaskRevokedError, UsageError
from opsq.testing.broker_reader import Reader
from opsq.testing.contract_backend import payload, put
from opsq.testing.harness import running_worker
from tests.rabbitmq import RabbitServer

Open = Callable[[], RpcBackend]


@pytest.fixture(params=["sqlite", "amqp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/broker.db"
    server: RabbitServer = request.getfixturevalue("rabbitmq")
    return server.url


@pytest.fixture
def opened(url: str) -> Iterator[Open]:
    made: list[RpcBackend] = []

    def start() -> RpcBackend:
        made.append(RpcBackend(lambda _: BrokerConnection(url), ttl_s=60.0, deadline_s=5.0))
        return made[-1]

    yield start
    for backend in made:
        backend.close()
        backend.close()


def test_a_state_reaches_the_sender_and_wakes_it(opened: Open) -> None:
    client, worker, id, oid = opened(), opened(), str(uuid4()), str(uuid4())
    client.expect(oid)
    client.expect(oid)
    with client.subscribe([id]) as news, addressed(oid):
        assert client.get("task", id) is None
        assert put(worker, id, "STARTED")
        assert news.wait(30.0) == {id}
        assert put(worker, id, "SUCCESS", 4)
        while client.get("task", id) != payload(id, "SUCCESS", 4):
            assert news.wait(30.0) == {id}
    assert client.get_many("task", [id, "other"]) == {id: payload(id, "SUCCESS", 4)}
    client.forget("task", [id])
    assert client.get("task", id) is None


def test_the_message_and_its_queue_are_celerys(opened: Open, url: str) -> None:
    oid, id = str(uuid4()), str(uuid4())
    celerys = QueueSpec(name=oid, auto_delete=True, expires_s=60.0)
    reader = Reader(BrokerConnection(url), celerys, no_ack=True)
    reader.ask(lambda: None)
    with addressed(oid):
        put(opened(), id, "SUCCESS", 4)
    (got,) = reader.take()
    assert (got.exchange, got.routing_key, got.body) == ("", oid, payload(id, "SUCCESS", 4))
    assert (got.properties["correlation_id"], got.properties["delivery_mode"]) == (id, 1)
    assert (got.content_type, got.content_encoding) == ("application/json", "utf-8")
    opened().expect(oid)  # the same declaration: RabbitMQ refuses any other
    reader.stop()


def test_each_thread_has_a_queue_and_all_are_read(opened: Open) -> None:
    client, worker = opened(), opened()
    sent = {str(uuid4()): str(uuid4()) for _ in range(3)}
    threads = [threading.Thread(target=client.expect, args=(oid,)) for oid in sent.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with client.subscribe(list(sent)) as news:
        for id, oid in sent.items():
            with addressed(oid):
                put(worker, id, "SUCCESS", id)
        seen: set[str] = set()
        while seen != set(sent):
            seen |= news.wait(30.0) or set()


def test_the_running_task_says_the_address(opened: Open) -> None:
    client, worker, id, oid = opened(), opened(), str(uuid4()), str(uuid4())
    client.expect(oid)
    token = requests.push(SimpleNamespace(name="t"), requests.Context(id=id, reply_to=oid, called_directly=False))
    try:
        with client.subscribe([id]) as news:
            assert put(worker, id, "SUCCESS", 1)
            assert news.wait(30.0) == {id}
    finally:
        requests.pop(token)


def test_a_task_that_nobody_waits_for_sends_nothing(opened: Open) -> None:
    worker = opened()
    assert not put(worker, str(uuid4()), "SUCCESS", 1)
    assert worker.unaddressed == 1


def test_reading_elsewhere_and_groups_are_refused(opened: Open) -> None:
    backend = opened()
    for ask in (lambda: backend.get("task", "1"), lambda: backend.subscribe(["1"])):
        with pytest.raises(UsageError, match=r"only the process that sent.*redis://"):
            ask()
    with pytest.raises(UsageError, match="groups or chords"):
        backend.put("group", "1", b"", state="", ttl_s=None)


def test_a_broker_that_is_away_is_told(tmp_path: Path) -> None:
    (tmp_path / "broker.db").mkdir()
    backend = RpcBackend(lambda _: BrokerConnection(f"sqlite:///{tmp_path}/broker.db"), deadline_s=0.3)
    with addressed("somebody"), pytest.raises(BackendUnavailable, match="could not be sent"):
        put(backend, "1", "SUCCESS")
    backend.close()


def test_an_app_gets_its_results_as_messages(url: str) -> None:
    app = Opsq("rpc", broker=url, backend="rpc://", task_default_queue=f"rpc-{uuid4().hex[:8]}")

    @app.task
    def divide(x: int, y: int) -> float:
        return x / y

    seen: list[Any] = []
    with running_worker(app, pool="threads", concurrency=2):
        assert divide.delay(6, 3).get(timeout=15, on_message=seen.append) == 2
        with pytest.raises(ZeroDivisionError):
            divide.delay(1, 0).get(timeout=30)
        with pytest.raises(NotRegistered):
            app.send_task("nobody.knows").get(timeout=30)
        past = datetime.now(UTC) - timedelta(seconds=5)
        with pytest.raises(TaskRevokedError, match="expired"):
            divide.apply_async((1, 1), expires=past).get(timeout=30)
    assert seen
    app.close()
