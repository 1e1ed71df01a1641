"""Whatever arrives, the worker stays up, says what was wrong, counts it, and goes on."""

from __future__ import annotations

import json
import logging
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from opsq import Opsq, signals
from opsq.core.pools.base import Job, Outcome
from opsq.core.worker.execute import Executor
from opsq.errors import NotRegistered, TaskRevokedError
from opsq.testing.harness import running_worker, send_raw

GOOD = json.dumps([[1, 2], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()


def headers(task: str = "shop.add", **more: Any) -> dict[str, Any]:
    return {"task": task, "id": "id-1", **more}


def add_task(app: Opsq) -> Any:
    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


@pytest.mark.parametrize(
    ("body", "raw", "content_type", "counter", "says"),
    [
        (GOOD, {"task": "shop.add"}, "application/json", "malformed", "header 'id' is missing"),
        (GOOD, headers(timelimit=[3]), "application/json", "malformed", "timelimit must be [hard, soft]"),
        (GOOD, headers(eta="tomorrow"), "application/json", "malformed", "expected an ISO 8601 time, got 'tomorrow'"),
        (b"{}", {}, "application/json", "malformed", "neither a header nor the body names a task"),
        (pickle.dumps([[], {}, {}]), headers(), "application/x-python-serialize", "untrusted", "is not accepted here"),
    ],
    ids=["no-id", "timelimit", "eta", "no-task", "pickle"],
)
def test_refused_at_intake(
    app: Opsq,
    caplog: pytest.LogCaptureFixture,
    body: bytes,
    raw: dict[str, Any],
    content_type: str,
    counter: str,
    says: str,
) -> None:
    add = add_task(app)
    with caplog.at_level(logging.ERROR), running_worker(app, pool="threads", concurrency=1) as worker:
        send_raw(app, body, raw, content_type)
        assert add.delay(2, 3).get(timeout=30) == 5
        assert worker.counters[counter] == 1
    (record,) = [each for each in caplog.records if "not a task message" in each.message]
    assert says in record.__dict__["reason"]
    assert len(record.__dict__["sample"]) <= 1024


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "3 elements"),
        (b"[[1]]", "3 elements"),
        (b"7", "must be [args, kwargs, embed]"),
        (b"not json", "JSON"),
        (b'[[1, 2], "x", {}]', "kwargs must be an object"),
        (b"[" * 5000, "nested"),
    ],
    ids=["empty", "one", "number", "text", "kwargs", "deep"],
)
def test_refused_in_the_slot(app: Opsq, body: bytes, says: str) -> None:
    add = add_task(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        send_raw(app, body, headers())
        outcome = worker.wait("settled", "id-1").detail
        assert isinstance(outcome, Outcome)
        assert (outcome.state, outcome.settle) == ("MALFORMED", "ack"), "acknowledged, for it is in the quarantine"
        assert says in str(outcome.exception_repr)
        assert app.AsyncResult("id-1").state == "FAILURE"
        assert add.delay(2, 3).get(timeout=30) == 5
    assert worker.counters == {"quarantined": 1, "MALFORMED": 1, "SUCCESS": 1}


def test_an_unknown_task(app: Opsq) -> None:
    add = add_task(app)
    told: list[tuple[str, str]] = []

    @signals.task_unknown.connect
    def unknown(name: str, id: str, **_: Any) -> None:
        told.append((name, id))

    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = app.send_task("shop.gone")
        with pytest.raises(NotRegistered, match=r"shop\.gone"):
            result.get(timeout=30)
        assert add.delay(2, 3).get(timeout=30) == 5
        assert worker.counters["unknown"] == 1
    assert told == [("shop.gone", result.id)]


def test_wrong_arguments_fail_the_task(app: Opsq) -> None:
    add_task(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = app.send_task("shop.add", (1, 2, 3))
        with pytest.raises(TypeError, match="positional arguments"):
            result.get(timeout=30)
        assert worker.wait("settled", result.id)


def test_protocol_one(app: Opsq) -> None:
    add_task(app)
    with running_worker(app, pool="threads", concurrency=1):
        send_raw(app, json.dumps({"task": "shop.add", "id": "old-1", "args": [2, 3], "kwargs": {}}).encode(), {})
        assert app.AsyncResult("old-1").get(timeout=30) == 5


def test_the_least_that_celery_accepts(app: Opsq) -> None:
    add_task(app)
    with running_worker(app, pool="threads", concurrency=1):
        send_raw(app, b"[[2, 3], {}, null]", headers(retries="2"))
        assert app.AsyncResult("id-1").get(timeout=30) == 5


def test_expired_at_receipt(app: Opsq) -> None:
    add_task(app)
    told: list[bool] = []

    @signals.task_revoked.connect
    def revoked(expired: bool, **_: Any) -> None:
        told.append(expired)

    with running_worker(app, pool="threads", concurrency=1) as worker:
        send_raw(app, GOOD, headers(expires=(datetime.now(UTC) - timedelta(seconds=1)).isoformat()))
        with pytest.raises(TaskRevokedError, match="expired"):
            app.AsyncResult("id-1").get(timeout=30)
        app.send_task("shop.add", (1, 2)).get(timeout=30)
    assert worker.counters == {"expired": 1, "SUCCESS": 1}
    assert told == [True]


def test_expired_while_waiting_for_a_slot(make_app: Any) -> None:
    app = make_app(worker_prefetch_multiplier=4)
    add_task(app)

    @app.task(ignore_result=True)
    def outlast(moment: float) -> None:
        while datetime.now(UTC).timestamp() <= moment:
            pass

    with running_worker(app, pool="threads", concurrency=1) as worker:
        moment = datetime.now(UTC) + timedelta(seconds=0.4)
        outlast.delay(moment.timestamp())
        send_raw(app, GOOD, headers(expires=moment.isoformat()))
        outcome = worker.wait("settled", "id-1").detail
        assert isinstance(outcome, Outcome)
        assert (outcome.state, outcome.expired) == ("REVOKED", True)
        assert app.AsyncResult("id-1").state == "REVOKED"


def test_local_times_of_protocol_1_are_in_the_zone_of_the_settings(make_app: Any) -> None:
    app = make_app(timezone="America/New_York")
    add_task(app)
    now = datetime.now(ZoneInfo("America/New_York")).replace(tzinfo=None)
    times = {"eta": (now - timedelta(seconds=1)).isoformat(), "expires": (now + timedelta(seconds=60)).isoformat()}
    body = {"task": "shop.add", "id": "id-1", "args": [1, 2], "kwargs": {}, "retries": 0, "utc": False, **times}
    with running_worker(app, pool="threads", concurrency=1):
        send_raw(app, json.dumps(body).encode(), {})
        assert app.AsyncResult("id-1").get(timeout=30) == 3


def test_expired_while_waiting_for_a_slot_ends_its_chain(make_app: Any) -> None:
    app = make_app(worker_prefetch_multiplier=4)
    add = add_task(app)

    @app.task(ignore_result=True)
    def outlast(moment: float) -> None:
        while datetime.now(UTC).timestamp() <= moment:
            pass

    with running_worker(app, pool="threads", concurrency=1):
        moment = datetime.now(UTC) + timedelta(seconds=0.4)
        outlast.delay(moment.timestamp())
        end = (add.s(1, 2).set(expires=moment) | add.s(3)).apply_async()
        with pytest.raises(TaskRevokedError, match="expired"):
            end.get(timeout=30)


def test_a_redelivery_of_what_has_succeeded_is_not_run_again(make_app: Any) -> None:
    app = make_app(worker_deduplicate_successful_tasks=True)
    runs: list[int] = []

    @app.task(name="shop.count")
    def count() -> int:
        runs.append(1)
        return len(runs)

    app.finalize()
    executor = Executor(app, "w@h")
    body = json.dumps([[], {}, {}]).encode()
    job = Job(1, "id-1", "shop.count", headers("shop.count"), body, "application/json", "utf-8", {}, {})
    again = structs.replace(job, key=2, delivery_info={"redelivered": True})
    assert [executor.run(each).result_repr for each in (job, again, job)] == ["1", "1", "2"]
    assert app.AsyncResult("id-1").get(timeout=30) == 1, "a SUCCESS that is there stays"


def test_a_worker_of_its_own_queue(make_app: Any) -> None:
    app = make_app(worker_direct=True)
    add = add_task(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        node = worker.worker.hostname
        assert [queue.name for queue in worker.worker.plan.queues] == ["celery", f"{node}.dq2"]
        assert add.apply_async((1, 2), queue=f"{node}.dq2").get(timeout=30) == 3
        assert add.apply_async((1, 2), exchange="C.dq2", routing_key=node).get(timeout=30) == 3


def test_revoked_before_it_arrives(app: Opsq) -> None:
    add = add_task(app)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        worker.worker.ledger.revoked.add("not-wanted")
        result = add.apply_async((1, 2), task_id="not-wanted")
        with pytest.raises(TaskRevokedError, match="revoked"):
            result.get(timeout=30)
