"""Calls through a real broker and a real result store, both SQLite files."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.broker.consumer import Consumer
from opsq.broker.message import Delivery, Settle, Settlement
from opsq.testing.contract_backend import eventually
from opsq.wire.result import ResultMeta
from opsq.wire.task import parse_headers


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Opsq]:
    made = Opsq("real", data_dir=str(tmp_path), set_as_current=False)
    yield made
    made.close()


def receive(app: Opsq, wanted: int) -> list[Delivery]:
    """Take messages from the app's queues until there are ``wanted``."""
    taken: list[Delivery] = []
    connection = app.connection("read")
    connection.connect()

    def on_batch(batch: list[Delivery]) -> None:
        taken.extend(batch)
        consumer.settle([Settlement(delivery.tag, Settle.ACK) for delivery in batch])
        if len(taken) >= wanted:
            consumer.stop()

    consumer = Consumer(connection, app.queues.declared, on_batch=on_batch, prefetch=1000)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    thread.join(timeout=60)
    consumer.stop()
    connection.close()
    return taken


def test_a_call_travels(app: Opsq) -> None:
    add = app.task(name="add")(lambda x, y: x + y)
    result = add.delay(1, 2)
    assert app.queue_depths(["celery", "nothing"]) == {"celery": 1}
    (delivery,) = receive(app, 1)
    headers = parse_headers(delivery.headers)
    assert (headers.id, headers.task, delivery.properties["correlation_id"]) == (result.id, "add", result.id)


def test_a_forked_child_publishes_and_answers(app: Opsq) -> None:
    result = app.send_task("from.parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            app.send_task("from.child")
            app.backend.store(ResultMeta(task_id=result.id, status="SUCCESS", result="child"))
            code = 0
        finally:
            sys.stderr.write(traceback.format_exc() if code else "")
            sys.stderr.flush()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert result.get(timeout=30) == "child"
    origins = {delivery.headers["origin"] for delivery in receive(app, 2)}
    assert len(origins) == 2


def test_many_threads_publish_at_once(app: Opsq) -> None:
    errors: list[BaseException] = []

    def publish() -> None:
        try:
            for number in range(50):
                app.send_task("many", (number,))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=publish) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert errors == []
    assert app.queue_depths(["celery"]) == {"celery": 300}
    assert app.purge_queue("celery") == 300
    assert app.purge_queue("nothing") == 0


def test_waiters_in_threads_get_their_own_results(app: Opsq) -> None:
    got: dict[str, Any] = {}
    results = [app.AsyncResult(f"id{number}") for number in range(20)]
    threads = [
        threading.Thread(target=lambda result=result: got.update({result.id: result.get(timeout=60)}))
        for result in results
    ]
    for thread in threads:
        thread.start()
    for result in reversed(results):
        app.backend.store(ResultMeta(task_id=result.id, status="SUCCESS", result=result.id))
    assert eventually(lambda: len(got) == 20, 20)
    assert all(id == value for id, value in got.items())
    for thread in threads:
        thread.join(timeout=30)


def test_used_again_after_close(app: Opsq) -> None:
    app.send_task("one")
    app.close()
    app.send_task("two")
    assert app.queue_depths(["celery"]) == {"celery": 2}
