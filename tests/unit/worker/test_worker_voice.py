"""What running tasks say: progress, events of their own, log lines; and what a worker says again when asked."""

from __future__ import annotations

import logging

import pytest

from opsq import Opsq
from opsq.clock import ManualClock
from opsq.core.worker.voice import Voice
from opsq.log_output import redirect_output
from opsq.logs import bind, get_task_logger
from opsq.testing.harness import running_worker
from tests.unit.worker.test_worker_events import listening

LOG = get_task_logger("shop.tasks")


def test_a_task_is_heard_while_it_runs(app: Opsq) -> None:
    @app.task(bind=True)
    def slow(self: object, password: str) -> None:
        LOG.setLevel(logging.INFO)
        LOG.info("began with %s", 1)
        slow.update_progress(1, 2, "half of it")
        slow.send_event("task-tasted", flavour="salt")
        LOG.warning("nearly done")

    with listening(app) as ear, running_worker(app, pool="threads", concurrency=1):
        result = slow.delay("s3cret")
        progress = ear.wait("task-progress")
        tasted = ear.wait("task-tasted")
        logged = ear.wait("task-log")
        received = ear.wait("task-received")
        ear.wait("task-succeeded")
        logged = [event for event in ear.events if event.kind == "task-log"]
    assert (progress.uuid, progress.fields["current"], progress.fields["total"]) == (result.id, 1, 2)
    assert progress.fields["message"] == "half of it"
    assert (tasted.uuid, tasted.fields["flavour"]) == (result.id, "salt")
    lines = [line[1:] for event in logged for line in event.fields["lines"]]
    assert lines == [["INFO", "shop.tasks", "began with 1"], ["WARNING", "shop.tasks", "nearly done"]]
    assert {event.uuid for event in logged} == {result.id}
    assert progress.hostname == received.hostname
    assert "s3cret" not in repr([event.fields for event in ear.of(result.id)])
    assert received.fields["complete"] is False


def test_what_a_task_prints_is_in_its_log(app: Opsq) -> None:
    @app.task
    def talk() -> None:
        print("hello", "there")

    with redirect_output(), listening(app) as ear, running_worker(app, pool="threads", concurrency=1):
        said = talk.delay()
        logged = ear.wait("task-log")
    assert logged.uuid == said.id
    assert [line[1:] for line in logged.fields["lines"]] == [["WARNING", "stdout", "hello there"]]


def test_a_worker_says_again_what_it_has_kept(app: Opsq) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    with listening(app) as ear, running_worker(app, pool="threads", concurrency=1):
        add.delay(2, 3)
        last = ear.wait("task-succeeded")
        asked = {"emitter": last.emitter, "first": 1, "last": last.seq}
        (answer,) = app.control.broadcast("replay", asked, [last.hostname], reply=True, timeout=30)
        (other,) = app.control.broadcast(
            "replay", asked | {"emitter": "of an earlier start"}, [last.hostname], reply=True, timeout=5
        )
    again = answer[last.hostname]
    assert again["complete"] is True
    assert [each["seq"] for each in again["events"]] == list(range(1, (last.seq or 0) + 1))
    assert other[last.hostname]["events"] == []
    assert other[last.hostname]["complete"] is False


@pytest.fixture
def said() -> list[tuple[str, dict[str, object]]]:
    return []


def voice_into(said: list[tuple[str, dict[str, object]]], lines_max: int) -> tuple[Voice, ManualClock]:
    clock = ManualClock()
    return Voice(lambda kind, fields: said.append((kind, fields)), lambda: None, lines_max, clock), clock


def test_log_lines_are_bounded_and_the_rest_is_counted(said: list[tuple[str, dict[str, object]]]) -> None:
    voice, _ = voice_into(said, 3)
    voice.start()
    try:
        with bind(task_id="t1", task="shop.add", attempt=2):
            for n in range(5):
                LOG.warning("line %d %s", n, "x" * 5000)
            logging.getLogger("opsq.core").warning("ours")
        LOG.warning("of no task")
        voice.finished("t1", 2)
    finally:
        voice.stop()
        voice.stop()
    lines = [line for _, fields in said for line in fields["lines"]]  # type: ignore[attr-defined]
    assert len(lines) == 3
    assert all(len(line[3]) <= 1000 for line in lines)
    assert said[-1][1]["left_out"] == 2
    assert next(fields["first"] for _, fields in said) == 1
    assert {fields["attempt"] for _, fields in said} == {2}


def test_progress_is_not_said_too_often(said: list[tuple[str, dict[str, object]]]) -> None:
    voice, clock = voice_into(said, 0)
    for n in range(100):
        voice.progress("t1", {"current": n})
        clock.advance(0.01)
    voice.progress("t1", {"current": 100}, last=True)
    assert 9 <= len(said) <= 12
    assert said[-1][1]["current"] == 100
