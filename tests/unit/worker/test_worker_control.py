"""Remote control, from a client over the broker to the worker and back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from opsq import Opsq
from opsq.broker.message import OutMessage
from opsq.control.addresses import addresses_of
from opsq.control.mailer import Call, Mailer
from opsq.core.pools.base import Outcome
from opsq.testing.harness import RunningWorker, running_worker
from tests.conftest import MakeApp

NODE = "w1@here"
PATIENCE_S = 60.0


def until(true: Callable[[], bool]) -> None:
    """Wait for what no probe tells of."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(0.01)


class Asked:
    """A running worker with one held slot of two, and one client that asks it."""

    def __init__(self, app: Opsq, worker: RunningWorker, gate: threading.Event) -> None:
        self.app, self.worker, self.gate = app, worker, gate
        self.control = app.control
        self.inspect = app.control.inspect([NODE], timeout=PATIENCE_S)

    def order(self, command: str, **arguments: Any) -> Any:
        """What the worker answers to one command."""
        answers = self.control.broadcast(command, arguments, [NODE], reply=True, timeout=PATIENCE_S)
        assert answers is not None
        assert [list(each) for each in answers] == [[NODE]], answers
        return answers[0][NODE]

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the worker answers to one question."""
        return self.inspect.ask(command, **arguments)[NODE]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


@pytest.fixture
def shop(make_app: MakeApp, gate: threading.Event) -> Opsq:
    app = make_app(worker_mingle=False)

    @app.task(name="shop.hold")
    def hold(value: Any = None) -> Any:
        gate.wait(PATIENCE_S)
        return value

    @app.task(name="shop.add", rate_limit="10/s")
    def add(x: int, y: int) -> int:
        return x + y

    return app


@pytest.fixture(params=["threads"])
def asked(request: pytest.FixtureRequest, shop: Opsq, gate: threading.Event) -> Iterator[Asked]:
    with running_worker(shop, pool=request.param, concurrency=2, hostname=NODE) as worker:
        worker.wait("listening")
        try:
            yield Asked(shop, worker, gate)
        finally:
            gate.set()


def test_the_memory_broker_carries_it_too(make_app: MakeApp) -> None:
    app = make_app(broker="memory://", worker_mingle=True)
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        assert app.control.ping([NODE], timeout=PATIENCE_S) == [{NODE: {"ok": "pong"}}]


@pytest.mark.parametrize("pool", ["solo", "asyncio", "threads"])
def test_every_pool_answers_while_all_slots_are_busy(shop: Opsq, gate: threading.Event, pool: str) -> None:
    with running_worker(shop, pool=pool, concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        sent = shop.tasks["shop.hold"].delay([1])
        worker.wait("started", sent.id)
        found = shop.control.inspect([NODE], timeout=PATIENCE_S).active()
        gate.set()
    assert [(each["id"], each["args"]) for each in found[NODE]] == [(sent.id, [[1]])]


def test_who_is_addressed(asked: Asked) -> None:
    def answers(timeout_s: float = 0.3, **whom: Any) -> bool:
        return bool(asked.control.broadcast("ping", reply=True, timeout=timeout_s, **whom))

    def hears(**whom: Any) -> bool:
        return answers(PATIENCE_S, limit=1, **whom)

    assert hears(destination=[NODE, "w2@here"])
    assert not answers(destination=["w2@here"])
    assert hears(pattern="w?@*", matcher="glob")
    assert hears(pattern="w[0-9]@", matcher="pcre")
    assert not answers(pattern="x*", matcher="glob")
    assert not answers(pattern="(", matcher="pcre")
    assert not answers(pattern="w*", matcher="tarot")
    until(lambda: asked.worker.counters["control_malformed"] == 2)


def test_where_tasks_are(asked: Asked) -> None:
    hold = asked.app.tasks["shop.hold"]
    later = hold.apply_async((1,), countdown=3600)
    asked.worker.wait("received", later.id)
    running = hold.delay("x")
    asked.worker.wait("started", running.id)
    (active,) = asked.ask("active", safe=False)
    assert (active["id"], active["name"], active["args"], active["kwargs"]) == (running.id, "shop.hold", ["x"], {})
    assert active["delivery_info"] == {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False}
    assert None not in (active["worker_pid"], active["time_start"])
    assert active["acknowledged"] is False
    assert asked.ask("active", safe=True)[0]["args"] == "('x',)"
    (scheduled,) = asked.ask("scheduled")
    assert scheduled["request"]["id"] == later.id
    assert scheduled["eta"].endswith("+00:00")
    found = asked.ask("query_task", ids=[running.id, later.id, "nobody"])
    assert {task_id: each[0] for task_id, each in found.items()} == {running.id: "active", later.id: "scheduled"}
    assert asked.ask("reserved") == []


def test_figures(asked: Asked) -> None:
    result = asked.app.tasks["shop.add"].delay(2, 3)
    assert result.get(timeout=PATIENCE_S) == 5
    stats = asked.ask("stats")
    assert stats["total"] == {"shop.add": 1}
    assert stats["pool"]["max-concurrency"] == 2
    assert stats["broker"]["transport"] == "sqlite"
    assert {"pid", "clock", "uptime", "prefetch_count", "rusage"} <= stats.keys()
    assert isinstance(stats["clock"], str)
    assert asked.ask("clock")["clock"] > 0
    # Shared tasks of other tests are adopted by every app of this process.
    registered = [line for line in asked.ask("registered") if line.startswith("shop.")]
    assert registered == ["shop.add [rate_limit=10/s]", "shop.hold"]
    assert "shop.hold [acks_late=True]" in asked.ask("registered", taskinfoitems=["acks_late", "_app"])
    assert asked.ask("conf") == {"data_dir": asked.app.settings.data_dir, "worker_mingle": False}
    assert len(asked.ask("conf", with_defaults=True)) > 200
    assert "software -> opsq:" in asked.ask("report")["ok"]
    assert asked.ask("memsample").endswith(("MB", "GB"))
    assert asked.ask("memsample") in asked.ask("memdump")


def test_queues_come_and_go(asked: Asked) -> None:
    assert [queue["name"] for queue in asked.ask("active_queues")] == ["celery"]
    assert asked.order("add_consumer", queue="extra", max_priority=5) == {"ok": "add consumer extra"}
    assert [queue["name"] for queue in asked.ask("active_queues")] == ["celery", "extra"]
    assert asked.ask("active_queues")[1]["max_priority"] == 5
    result = asked.app.tasks["shop.add"].apply_async((1, 1), queue="extra")
    assert result.get(timeout=PATIENCE_S) == 2
    assert asked.order("cancel_consumer", queue="extra") == {"ok": "no longer consuming from extra"}
    assert [queue["name"] for queue in asked.ask("active_queues")] == ["celery"]


def test_slots_come_and_go(asked: Asked) -> None:
    assert asked.order("pool_grow", n=2) == {"ok": "pool will grow"}
    assert asked.ask("stats")["pool"]["max-concurrency"] == 4
    assert asked.ask("stats")["prefetch_count"] >= 4
    assert asked.order("pool_shrink", n=3) == {"ok": "pool will shrink"}
    assert asked.ask("stats")["pool"]["max-concurrency"] == 1
    assert "expected 1 to 1000" in asked.order("pool_grow", n=0)["error"]


def test_revoking_what_waits(asked: Asked) -> None:
    hold = asked.app.tasks["shop.hold"]
    later = hold.apply_async(countdown=3600)
    asked.worker.wait("received", later.id)
    running = [hold.delay(n) for n in range(2)]
    asked.worker.wait("started", times=2)
    never_seen = hold.delay(3)
    ids = [later.id, never_seen.id, running[0].id]
    answer = asked.order("revoke", task_id=ids)["ok"]
    assert all(each in answer for each in ids)
    assert later.state == never_seen.state == "REVOKED"
    assert running[0].state == "PENDING", "what runs is left alone"
    assert sorted(asked.ask("revoked")) == sorted(ids)
    asked.gate.set()
    assert running[0].get(timeout=PATIENCE_S) == 0
    until(lambda: asked.worker.counters.get("revoked", 0) == 2)
    assert not asked.worker.seen("started", never_seen.id)


def test_a_revoked_task_that_had_been_done_stays_done(asked: Asked) -> None:
    result = asked.app.tasks["shop.add"].delay(1, 2)
    assert result.get(timeout=PATIENCE_S) == 3
    until(lambda: bool(result.revoke(wait=True, timeout=0.5)))  # every worker has as long as that to answer
    assert asked.app.AsyncResult(result.id).state == "SUCCESS"


def test_a_pool_that_cannot_stop_what_runs_says_so(asked: Asked) -> None:
    sent = asked.app.tasks["shop.hold"].delay()
    asked.worker.wait("started", sent.id)
    answer = asked.order("revoke", task_id=sent.id, terminate=True)
    assert answer == {"error": "the threads pool cannot stop a running task"}
    assert "no hard time limit" in asked.order("time_limit", task_name="shop.add", hard=3)["error"]
    assert asked.order("terminate", signal="NOPE", task_id="x")["error"].startswith("no signal is called 'NOPE'")
    assert asked.order("terminate", signal="KILL", task_id="x") == {"ok": "terminate: tasks unknown"}


def test_stopping_a_running_coroutine(make_app: MakeApp) -> None:
    app = make_app(worker_mingle=False)

    @app.task(name="shop.forever")
    async def forever() -> None:
        await asyncio.Event().wait()

    with running_worker(app, pool="asyncio", concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        sent = forever.delay()
        worker.wait("started", sent.id)
        answers = app.control.terminate(sent.id, [NODE], reply=True, timeout=PATIENCE_S)
        outcome = worker.wait("settled", sent.id).detail
    assert answers == [{NODE: {"ok": f"terminate: {sent.id}"}}]
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.cause) == ("REVOKED", "terminated")
    assert sent.state == "REVOKED"


def test_revoking_by_stamp(asked: Asked) -> None:
    hold = asked.app.tasks["shop.hold"]
    stamped = {"stamped_headers": ["order"], "order": "17", "countdown": 3600}
    held = hold.apply_async(**stamped)
    asked.worker.wait("received", held.id)
    answer = asked.order("revoke_by_stamped_headers", headers={"order": ["17", "18"]})
    assert answer == {"ok": "headers {'order': ['17', '18']} flagged as revoked, but not terminated"}
    until(lambda: held.state == "REVOKED")
    comes_later = hold.apply_async(**stamped)
    until(lambda: asked.worker.counters.get("revoked", 0) == 2)
    assert not asked.worker.seen("received", comes_later.id)
    assert "expected name" in asked.order("revoke_by_stamped_headers", headers="order")["error"]


def test_revocations_outlive_the_worker(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(worker_mingle=False, worker_state_db=str(tmp_path / "state"))

    @app.task(name="shop.add")
    def add() -> None:
        """Never runs."""

    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
        worker.wait("listening")
        app.control.revoke("gone", [NODE], reply=True, timeout=PATIENCE_S)
        app.control.revoke_by_stamped_headers({"order": 17}, [NODE], reply=True, timeout=PATIENCE_S)
    with running_worker(app, pool="threads", concurrency=1, hostname=NODE) as worker:
        assert list(worker.worker.ledger.revoked) == ["gone"]
        assert worker.worker.plan.stamps.ages().keys() == {("order", "17")}
        sent = add.apply_async(task_id="gone")
        until(lambda: sent.state == "REVOKED")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


def test_a_worker_that_starts_learns_what_was_revoked(shop: Opsq, make_app: MakeApp) -> None:
    with running_worker(shop, pool="threads", concurrency=1, hostname=NODE) as first:
        first.wait("listening")
        first.worker.ledger.revoked.add("gone")
        newcomer = make_app(worker_mingle=True)
        with running_worker(newcomer, pool="threads", concurrency=1, hostname="w2@here") as second:
            until(lambda: "gone" in second.worker.ledger.revoked)


def test_hello_exchanges_revoked_ids(asked: Asked) -> None:
    answer = asked.ask("hello", from_node="w9@there", revoked=["a", "b", 3])
    assert answer["revoked"] == ["a", "b"]
    assert answer["clock"] > 0
    assert asked.ask("hello", from_node="w9@there", revoked={"c": 1.0})["revoked"] == ["a", "b", "c"]
    assert asked.order("hello", from_node=NODE) is None


def test_events_on_and_off(asked: Asked) -> None:
    assert asked.order("enable_events") == {"ok": "task events already enabled"}
    assert asked.order("disable_events") == {"ok": "task events disabled"}
    assert asked.order("disable_events") == {"ok": "task events already disabled"}
    assert asked.order("enable_events") == {"ok": "task events enabled"}
    asked.order("disable_events")
    before = asked.ask("stats")["opsq"]["events_sent"]
    assert asked.order("heartbeat") is None
    until(lambda: asked.ask("stats")["opsq"]["events_sent"] > before)


def test_what_cannot_be_done_is_answered_as_celery_does(asked: Asked) -> None:
    assert asked.order("nosuch") == {"error": "KeyError('nosuch')"}
    assert asked.order("ping", x=1) == {"error": "TypeError(\"ping() got an unexpected keyword argument 'x'\")"}
    assert asked.order("pool_restart") == {"error": "ValueError('Pool restarts not enabled')"}
    assert asked.order("autoscale", max=3, min=1) == {"error": "ValueError('Autoscale not enabled')"}
    assert asked.order("objgraph") == {"error": "ImportError('Requires the objgraph library')"}
    assert asked.order("election", id="1", topic="t") is None
    assert asked.order("rate_limit", task_name="none", rate_limit="1/s") == {"error": "unknown task"}
    assert asked.order("time_limit", task_name="none") == {"error": "unknown task"}
    assert asked.order("rate_limit", task_name="shop.add", rate_limit="x/s")["error"] == (
        "Invalid rate limit string: ValueError(\"could not convert string to float: 'x'\")"
    )


def test_shutdown_is_not_answered(asked: Asked) -> None:
    answers = asked.control.broadcast("shutdown", {}, [NODE], reply=True, timeout=0.3)
    assert answers == []
    until(asked.worker.worker._wanted.is_set)


def test_bytes_that_are_no_request_do_no_harm(asked: Asked) -> None:
    exchange = addresses_of(asked.app.settings).requests
    bodies = (b"{", b"[]", b'{"method": 3}', b'{"method": "ping", "reply_to": 7}', b"\xff")
    for body in bodies:
        message = OutMessage(
            body=body,
            content_type="application/json",
            content_encoding="utf-8",
            headers={},
            exchange=exchange.name,
            routing_key="",
            declare=exchange,
        )
        asked.app.publisher.publish(message)
    assert asked.ask("ping") == {"ok": "pong"}
    assert asked.worker.counters["control_malformed"] == len(bodies)


def test_a_reply_that_nobody_waits_for_does_no_harm(asked: Asked) -> None:
    publish = asked.app.publisher.publish
    mailer = Mailer(lambda: asked.app.connection("read"), publish, addresses_of(asked.app.settings))
    mailer.send(Call(command="ping"), "ticket", "nobody")
    assert asked.ask("ping") == {"ok": "pong"}
