"""Tests that run inside a Django project: ``pytest tests/django/inside.py``, started by ``test_django.py``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.core import checks
from django.db import connection, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone

django.setup()

from opsq.contrib.django import task_book, task_runs, versions  # noqa: E402
from opsq.contrib.django.task import DjangoTask  # noqa: E402
from opsq.contrib.django.tasks import OpsqBackend, _priority  # noqa: E402
from opsq.core.arguments import BadArguments  # noqa: E402
from opsq.testing.harness import RunningWorker, running_worker  # noqa: E402
from tests.django.pets import tasks  # noqa: E402
from tests.django.pets.app import app  # noqa: E402
from tests.django.pets.models import Pet  # noqa: E402

try:
    from django.tasks import task_backends
except ImportError:
    from django_tasks import task_backends

PATIENCE_S = 20.0
ENDED = versions.TaskResultStatus.SUCCESSFUL, versions.TaskResultStatus.FAILED


@pytest.fixture(scope="module", autouse=True)
def table() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Pet)


@pytest.fixture(scope="module")
def worker(table: None) -> Iterator[RunningWorker]:
    with running_worker(app, pool="threads", concurrency=4) as running:
        yield running


@contextmanager
def opened() -> Iterator[list[Any]]:
    """The connections that are opened during the block."""
    found: list[Any] = []

    def note(sender: Any, connection: Any, **more: Any) -> None:
        found.append(connection)

    connection_created.connect(note)
    try:
        yield found
    finally:
        connection_created.disconnect(note)


def ended(result: Any) -> Any:
    """Refresh ``result`` until the task has ended."""
    limit = time.monotonic() + PATIENCE_S
    while result.status not in ENDED:
        assert time.monotonic() < limit, result
        time.sleep(0.01)
        result.refresh()
    return result


# ---- settings, tasks, transactions


def test_settings_come_from_django_under_celerys_prefix() -> None:
    settings = app.conf.load().settings
    assert settings.worker_queues == ("celery", "slow")
    assert any("CONN_MAX_AGE" in notice for notice in app.conf.load().notices)


def test_tasks_are_django_tasks_and_are_found_in_the_installed_apps() -> None:
    app.import_task_modules()
    app.finalize()
    assert {"tests.django.pets.tasks.adopt", "tests.django.pets.tasks.about"} <= set(app.tasks)
    assert isinstance(tasks.adopt, DjangoTask)
    assert issubclass(app.Task, DjangoTask)


def test_a_call_waits_for_the_commit() -> None:
    def calls() -> int:
        return app.queue_depths(["celery"]).get("celery", 0)

    with transaction.atomic():
        tasks.adopt.delay_on_commit("nobody")
        transaction.set_rollback(True)
    with transaction.atomic():
        tasks.adopt.delay_on_commit("Rex")
        tasks.adopt.apply_async_on_commit(("Mia",), countdown=3600, using="default")
        with pytest.raises(BadArguments):
            tasks.adopt.delay_on_commit()
        assert calls() == 0
    assert calls() == 2
    tasks.adopt.delay_on_commit("outside")
    assert calls() == 3
    app.purge_queue("celery")


# ---- connections


def test_connections_are_closed_on_the_event_loop_and_on_its_helper_threads() -> None:
    """Stands before the tests that keep a worker: it has one of its own."""
    with running_worker(app, pool="asyncio", concurrency=8) as running, opened() as found:
        results = [tasks.adopt.delay("Rex"), *(tasks.count.delay() for _ in range(3)), tasks.idle.delay()]
        values = [result.get(timeout=PATIENCE_S) for result in results]
        again = ended(tasks.on_the_loop.enqueue(100))
        for result in (*results, again):
            running.wait("settled", result.id)
    assert (values[0], values[-1]) == (1, "nothing")
    assert again.return_value > 100
    assert len(found) == 5
    assert {each.connection for each in found} == {None}


def test_connections_are_closed_after_each_attempt(worker: RunningWorker) -> None:
    with opened() as found:
        result = tasks.adopt.delay("Rex")
        assert result.get(timeout=PATIENCE_S) > 0
        worker.wait("settled", result.id)
    assert len(found) == 1
    assert found[0].connection is None


def test_coroutines_have_connections_of_their_own_and_close_them(worker: RunningWorker) -> None:
    with opened() as found:
        results = [tasks.count.delay(), tasks.count.delay(), tasks.idle.delay()]
        values = [result.get(timeout=PATIENCE_S) for result in results]
        for result in results:
            worker.wait("settled", result.id)
    assert values[0] == values[1] > 0
    assert values[2] == "nothing"
    assert len(found) == 2, "a coroutine without database work opens nothing"
    assert {each.connection for each in found} == {None}


# ---- django.tasks


def test_a_task_runs_and_its_result_is_told(worker: RunningWorker) -> None:
    told: list[tuple[str, str]] = []

    def note(sender: Any, task_result: Any, signal: Any, **more: Any) -> None:
        assert sender is OpsqBackend
        told.append((task_result.id, str(task_result.status)))

    signals = versions.task_enqueued, versions.task_started, versions.task_finished
    for signal in signals:
        signal.connect(note)
    try:
        pk = Pet.objects.create(name="Rex").pk
        result = tasks.name_of.enqueue(pk, upper=True)
        assert (result.status, result.is_finished) == (versions.TaskResultStatus.READY, False)
        with pytest.raises(ValueError, match="not finished"):
            _ = result.return_value
        ended(result)
        worker.wait("settled", result.id)
    finally:
        for signal in signals:
            signal.disconnect(note)
    assert result.return_value == "REX"
    assert (result.args, result.kwargs, result.attempts, result.errors) == ([pk], {"upper": True}, 1, [])
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    assert result.worker_ids == [worker.worker.hostname]
    # The worker may be quicker than the announcement of who called.
    assert sorted(told) == [(result.id, "READY"), (result.id, "RUNNING"), (result.id, "SUCCESSFUL")]
    assert [status for _, status in told if status != "READY"] == ["RUNNING", "SUCCESSFUL"]
    # The same id is a result of opsq's own, and of Celery's.
    assert app.AsyncResult(result.id).get(timeout=1) == "REX"


def test_the_context_tells_about_the_attempt(worker: RunningWorker) -> None:
    result = ended(tasks.about.enqueue(1, 2, 3))
    assert result.return_value == {
        "id": result.id,
        "attempt": 1,
        "args": [1, 2, 3],
        "queue": "slow",
        "status": "RUNNING",
    }


def test_a_delivery_that_comes_again_is_another_attempt(worker: RunningWorker) -> None:
    result = ended(tasks.about.enqueue(1))
    running = app.tasks["tests.django.pets.tasks.about"]
    token = running.push_request(id=result.id, hostname="other@host", delivery_info={"redelivered": True})
    try:
        again = task_runs._begin(running, tasks.about, [1], {})
    finally:
        running.pop_request(token)
    assert again.worker_ids == [worker.worker.hostname, "other@host"]
    assert again.started_at == result.started_at < again.last_attempted_at


def test_a_queue_that_the_settings_know_no_more_costs_nothing() -> None:
    at = timezone.now()
    facts = task_book.Facts(task="x", backend="gone", queue="gone", priority=0, run_after=None, enqueued_at=at)
    result = task_book.result_from("1", tasks.when, facts, None)
    assert (result.task, result.enqueued_at) == (tasks.when, at)


def test_an_error_is_told(worker: RunningWorker) -> None:
    result = ended(tasks.wrong.enqueue())
    assert result.status == versions.TaskResultStatus.FAILED
    assert result.errors[0].exception_class is LookupError
    assert "no such pet" in result.errors[0].traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_a_task_runs_not_before_its_time(worker: RunningWorker) -> None:
    at = timezone.now() + timedelta(seconds=0.3)
    result = ended(tasks.when.using(run_after=at).enqueue())
    assert result.return_value >= at.timestamp()
    assert result.task.run_after == at


def test_the_async_variants(worker: RunningWorker) -> None:
    async def work() -> Any:
        result = await tasks.on_the_loop.aenqueue(1000)
        found = await tasks.on_the_loop.aget_result(result.id)
        while not found.is_finished:
            await asyncio.sleep(0.01)
            await found.arefresh()
        return found

    assert asyncio.run(work()).return_value > 1000


def test_results_are_found_by_their_task_only(worker: RunningWorker) -> None:
    result = ended(tasks.when.enqueue())
    assert tasks.when.get_result(result.id).status == result.status
    with pytest.raises(Exception, match="does not match"):
        tasks.wrong.get_result(result.id)
    with pytest.raises(versions.TaskResultDoesNotExist):
        tasks.when.get_result("nobody-knows-it")


def test_what_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(BadArguments):
        tasks.name_of.enqueue()
    with pytest.raises(TypeError):
        tasks.name_of.enqueue(object())
    with pytest.raises(versions.InvalidTask, match="nowhere"):
        tasks.name_of.using(queue_name="nowhere")
    with pytest.raises(versions.InvalidTaskBackend, match="did you mean 'app'"):
        OpsqBackend("default", {"OPTIONS": {"ap": "x:y"}})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////x", {-100: 0, 0: 4, 50: 7, 100: 9}),
        ("amqp://localhost", {-100: 0, 0: 4, 100: 9}),
        ("redis://localhost", {-100: 9, 0: 4, 100: 0}),
    ],
)
def test_priorities_keep_their_order(url: str, expected: dict[int, int]) -> None:
    told = SimpleNamespace(settings=app.settings.replace(broker_url=url))
    assert {wanted: _priority(told, wanted)["priority"] for wanted in expected} == expected


def test_a_broker_without_priorities() -> None:
    told = SimpleNamespace(settings=app.settings.replace(broker_url="sqs://"))
    assert _priority(told, 0) == {}
    with pytest.raises(versions.InvalidTask, match="no priorities"):
        _priority(told, 1)


def test_a_call_that_runs_right_here_has_ended() -> None:
    pk = Pet.objects.create(name="Rex").pk
    result = tasks.name_of.using(backend="eager").enqueue(pk)
    assert (result.status, result.return_value) == (versions.TaskResultStatus.SUCCESSFUL, "Rex")
    failed = tasks.wrong.using(backend="eager").enqueue()
    assert failed.status == versions.TaskResultStatus.FAILED
    assert failed.errors[0].exception_class is LookupError
    assert not task_backends["eager"].supports_get_result


def test_the_app_can_be_named(worker: RunningWorker) -> None:
    assert ended(tasks.when.using(backend="named").enqueue()).backend == "named"
    wrong = OpsqBackend("default", {"OPTIONS": {"app": "tests.django.pets.app:nothing"}})
    assert [error.id for error in wrong.check()] == ["opsq.E001"]
    assert [error for error in checks.run_checks() if error.id == "opsq.E001"] == []
