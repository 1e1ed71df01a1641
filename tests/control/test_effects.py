"""What was ordered happens, ends when it should, and is seen in the events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from opsq import Opsq
from opsq.testing.harness import RunningWorker, running_worker, waiting
from tests.control.conftest import NODE, PATIENCE_S, Heard, MakeApp, until

Listen = Callable[[Opsq], Heard]
HELD_S = 3600.0
"""An order for so long is there for as long as the test looks at it; the same again, for a moment, lets it end."""
SHORT_S = 0.1


class Site:
    """One worker with two slots, its app, and what its task has noted."""

    def __init__(self, app: Opsq, worker: RunningWorker, heard: Heard, ran: list[Any]) -> None:
        self.app, self.worker, self.heard, self.ran = app, worker, heard, ran
        self.note = app.tasks["shop.note"]

    def order(self, command: str, **arguments: Any) -> Any:
        """What the worker answers to an order for everybody."""
        answers = self.app.control.broadcast(command, arguments, reply=True, timeout=PATIENCE_S, limit=1)
        assert answers, command
        return answers[0][NODE]

    def ask(self, command: str) -> Any:
        """What it answers to a question."""
        return self.app.control.inspect([NODE], timeout=PATIENCE_S).ask(command)[NODE]


def declare(app: Opsq, ran: list[Any]) -> Opsq:
    @app.task(name="shop.note")
    def note(what: Any) -> Any:
        ran.append((what, time.monotonic()))
        return what

    @app.task(name="shop.other")
    def other() -> str:
        return "other"

    return app


@pytest.fixture
def site(make_app: MakeApp, listen: Listen) -> Iterator[Site]:
    ran: list[Any] = []
    app = declare(make_app(worker_heartbeat_interval=0.2), ran)
    heard = listen(app)
    with running_worker(app, pool="threads", concurrency=2, hostname=NODE) as worker:
        worker.wait("listening")
        yield Site(app, worker, heard, ran)


def test_a_rate_limit(site: Site) -> None:
    limit = {"task_name": "shop.note", "rate_limit": "5/s"}
    assert site.order("rate_limit", **limit, for_s=HELD_S)["ok"].startswith("new rate")
    said = site.heard.wait("worker-command", command="rate_limit")
    assert "5/s" in said.fields["arguments"]
    assert "set successfully" in said.fields["answer"]
    results = [site.note.delay(n) for n in range(4)]
    for each in results:
        each.get(timeout=PATIENCE_S)
    times = [at for _, at in site.ran]
    assert times[-1] - times[0] >= 0.25
    assert site.ask("overrides")[0]["what"] == "rate_limit shop.note"
    site.order("rate_limit", **limit, for_s=SHORT_S)
    until(lambda: not site.ask("overrides"))
    assert site.app.tasks["shop.note"].rate_limit is None


def test_slots(site: Site) -> None:
    assert site.order("pool_grow", n=3, for_s=HELD_S)["ok"] == "pool will grow"
    site.heard.wait("worker-command", command="pool_grow", slots=5)
    site.heard.wait("worker-heartbeat", slots=5)
    assert site.order("pool_shrink", n=1, for_s=HELD_S)["until"] > time.time() - 1
    site.heard.wait("worker-heartbeat", slots=4)
    site.order("pool_shrink", n=1, for_s=SHORT_S)
    until(lambda: site.ask("stats")["pool"]["max-concurrency"] == 2, "the slots that were there before the orders")


def test_queues(site: Site) -> None:
    site.order("add_consumer", queue="more")
    site.heard.wait("worker-heartbeat", queues=["celery", "more"])
    assert site.note.apply_async((1,), queue="more").get(timeout=PATIENCE_S) == 1
    site.order("cancel_consumer", queue="more")
    site.heard.wait("worker-command", command="cancel_consumer", queues=["celery"])


def test_a_paused_queue(site: Site) -> None:
    assert site.order("pause", queue="celery") == {"ok": "queue celery paused"}
    site.heard.wait("worker-heartbeat", paused=["queue celery"], queues=[])
    assert site.ask("active_queues") == []
    sent = site.note.delay("waits")
    until(lambda: waiting(site.app).ready == 1)
    assert site.ask("overrides") == [{"what": "queue celery", "now": "paused", "then": "", "until": None}]
    assert site.order("resume", queue=["celery"]) == {"ok": "queue celery resumed"}
    assert sent.get(timeout=PATIENCE_S) == "waits"
    site.heard.wait("worker-command", command="resume", paused=[], queues=["celery"])


def test_a_paused_task_type(site: Site) -> None:
    site.order("pause", task="shop.note", for_s=HELD_S)
    sent = site.note.delay("waits")
    site.worker.wait("received", sent.id)
    assert site.app.tasks["shop.other"].delay().get(timeout=PATIENCE_S) == "other"
    site.heard.wait("worker-heartbeat", paused=["task shop.note"])
    (held,) = site.ask("scheduled")
    assert held["request"]["id"] == sent.id
    assert site.ran == []
    site.order("pause", task="shop.note", for_s=SHORT_S)
    assert sent.get(timeout=PATIENCE_S) == "waits", "the pause has ended by itself"
    assert site.ask("overrides") == []


def test_pauses_count_for_workers_that_start_later(make_app: MakeApp) -> None:
    ran: list[Any] = []
    app = declare(make_app(), ran)
    app.control.pause(queue="celery")
    app.control.pause(task="shop.note")
    sent = app.tasks["shop.note"].delay(1)
    for _ in range(2):
        with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
            assert worker.worker.plan.facts()["paused"] == ["queue celery", "task shop.note"]
            assert worker.worker.plan.owner.consumer.queues == ()
    app.control.resume(queue="celery")
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        worker.wait("received", sent.id)
        assert ran == []
        app.control.resume(task="shop.note", reply=True, limit=1, timeout=PATIENCE_S)
        assert sent.get(timeout=PATIENCE_S) == 1


def test_a_pause_needs_something_to_pause(site: Site) -> None:
    with pytest.raises(Exception, match="say what: queue=NAME or task=NAME"):
        site.app.control.pause()


def test_stacks_of_threads(make_app: MakeApp) -> None:
    app, gate = make_app(), threading.Event()

    @app.task(name="shop.hold")
    def hold() -> None:
        gate.wait(PATIENCE_S)

    with running_worker(app, pool="threads", concurrency=2, hostname=NODE) as worker:
        worker.wait("listening")
        sent = [hold.delay(), hold.delay()]
        worker.wait("started", times=2)
        found = app.control.inspect([NODE], timeout=PATIENCE_S).stack()[NODE]
        gate.set()
    assert {each["id"] for each in found} == {each.id for each in sent}
    assert all("gate.wait(PATIENCE_S)" in each["stack"] for each in found)


def test_stacks_of_coroutines(make_app: MakeApp) -> None:
    app = make_app()

    async def inner() -> None:
        await asyncio.Event().wait()

    @app.task(name="shop.forever")
    async def forever() -> None:
        await inner()

    with running_worker(app, pool="asyncio", concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        sent = forever.delay()
        worker.wait("started", sent.id)

        def shown() -> bool:
            (found,) = app.control.inspect([NODE], timeout=PATIENCE_S).stack()[NODE]
            return "await asyncio.Event().wait()" in found["stack"]

        until(shown, "the innermost line")
        app.control.terminate(sent.id, reply=True, limit=1, timeout=PATIENCE_S)
