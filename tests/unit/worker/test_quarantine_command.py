"""Messages that cannot be read or killed their process: set aside, shown, released, dropped."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from opsq import Opsq
from opsq.broker.connection import open_connection
from opsq.broker.depth import depth
from opsq.cli.main import cli
from opsq.cli.state import CliState
from opsq.errors import UsageError
from opsq.testing.harness import running_worker, send_raw, waiting

QUEUE = "opsq.quarantine"
Command = Callable[..., Any]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs ``opsq quarantine WORDS --json`` on the app's files; its answer."""

    def run(*words: str, answer: str | None = None) -> Any:
        more = [] if answer is not None else ["--json"]
        arguments = ["--data-dir", str(tmp_path / "data"), "quarantine", *words, *more]
        done = CliRunner().invoke(cli, arguments, obj=CliState(), input=answer, standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return json.loads(done.output) if answer is None else done.output

    return run


def filled(app: Opsq, *ids: str) -> None:
    """Have one worker set a malformed message aside for each id."""

    @app.task(name="shop.add")
    def add(x: int, y: int) -> int:
        return x + y

    with running_worker(app, pool="threads", concurrency=1) as worker:
        for task_id in ids:
            send_raw(app, b"not json", {"task": "shop.add", "id": task_id, "x-mine": "1"})
            worker.wait("settled", task_id)
        assert worker.counters["quarantined"] == len(ids)
    assert waiting(app).ready == 0


def test_nothing_is_set_aside(app: Opsq, command: Command) -> None:
    assert command("list") == {"quarantined": []}
    with pytest.raises(UsageError, match="no message 'x' is set aside"):
        command("show", "x")


def test_list_and_show_leave_everything_where_it_is(app: Opsq, command: Command) -> None:
    filled(app, "id-1", "id-2", "id-3")
    for _ in range(2):
        assert [kept["id"] for kept in command("list")["quarantined"]] == ["id-1", "id-2", "id-3"]
    shown = command("show", "id-2")
    assert (shown["kind"], shown["task"], shown["queue"]) == ("malformed", "shop.add", "celery")
    assert (shown["body"], shown["headers"]["x-mine"]) == ("not json", "1")
    assert "JSON" in shown["reason"]
    assert waiting(app, QUEUE).ready == 3
    assert waiting(app, QUEUE).unacked == 0


def test_release_puts_one_back(app: Opsq, command: Command) -> None:
    filled(app, "id-1", "id-2")
    assert command("release", "id-2") == {"released": "id-2", "queue": "celery"}
    assert waiting(app).ready == 1
    assert [kept["id"] for kept in command("list")["quarantined"]] == ["id-1"]


def test_release_makes_a_queue_that_is_gone(app: Opsq, command: Command) -> None:
    filled(app, "id-1")
    connection = open_connection(app.settings, purpose="read")
    connection.connect()
    connection.kombu.channel().queue_delete("celery")
    assert not depth(connection, ["celery"])
    connection.close()
    command("release", "id-1")
    assert waiting(app).ready == 1


def test_drop_asks_first(app: Opsq, command: Command) -> None:
    filled(app, "id-1", "id-2")
    assert "deleted" in command("drop", "id-1", answer="y\n")
    assert command("drop", "-f", "id-2") == {"dropped": "id-2"}
    assert command("list") == {"quarantined": []}


def test_an_ambiguous_beginning_is_refused(app: Opsq, command: Command) -> None:
    filled(app, "id-1", "id-2")
    with pytest.raises(UsageError, match="2 messages begin with 'id-': id-1, id-2"):
        command("show", "id-")


def test_control_characters_do_not_reach_the_terminal(app: Opsq, command: Command) -> None:
    filled(app, "id-\x1b[2J")
    for words in (["list"], ["show", "id-"]):
        told = command(*words, answer="")
        assert "\x1b" not in told
        assert "\\x1b[2J" in told


def test_without_an_id_it_gets_one(app: Opsq, command: Command) -> None:
    with running_worker(app, pool="threads", concurrency=1) as worker:
        send_raw(app, b"{}", {})
        pause, deadline = threading.Event(), time.monotonic() + 15
        while not worker.counters.get("quarantined"):
            assert time.monotonic() < deadline, worker.counters
            pause.wait(0.005)
    (kept,) = command("list")["quarantined"]
    assert command("show", kept["id"])["kind"] == "malformed"


def test_an_unknown_task_waits_for_the_code_that_knows_it(app: Opsq, command: Command) -> None:
    with running_worker(app, pool="threads", concurrency=1) as worker:
        result = app.send_task("shop.later", (1, 2))
        result.get(timeout=10, propagate=False)
    assert worker.counters["quarantined"] == 1
    command("release", result.id)

    @app.task(name="shop.later")
    def later(x: int, y: int) -> int:
        return x + y

    with running_worker(app, pool="threads", concurrency=1) as worker:
        worker.wait("settled", result.id)
    assert app.AsyncResult(result.id).get(timeout=30) == 3


def test_a_release_forgets_the_failure_that_is_stored(app: Opsq, command: Command) -> None:
    """Whoever waits for the result would be told of the run before."""
    app.send_task("shop.unheard_of", task_id="id-1")
    with running_worker(app, pool="threads", concurrency=1):
        assert isinstance(app.AsyncResult("id-1").get(timeout=15, propagate=False), Exception)
    assert app.AsyncResult("id-1").state == "FAILURE"
    command("release", "id-1")
    assert app.AsyncResult("id-1").state == "PENDING"


def test_a_full_quarantine_rejects_with_all_that_is_known(make_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(quarantine_max_messages=2)
    app.task(name="shop.add")(lambda x, y: x + y)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        for task_id in ("id-1", "id-2", "id-3"):
            send_raw(app, b"not json", {"task": "shop.add", "id": task_id})
            worker.wait("settled", task_id)
        assert (worker.counters["quarantined"], worker.counters["quarantine_full"]) == (2, 1)
    assert (waiting(app).ready, waiting(app, QUEUE).ready) == (0, 2)
    [said] = [record for record in caplog.records if "quarantine is full" in record.message]
    assert (said.__dict__["task_id"], said.__dict__["body"]) == ("id-3", "not json")


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_on_a_server_broker(tmp_path: Path, request: pytest.FixtureRequest, broker: str) -> None:
    """List, show, drop and release as on SQLite; nothing is lost by looking."""
    server = request.getfixturevalue(broker)
    queue = f"aside-{uuid4().hex[:8]}"
    told = {
        "broker": server.url,
        "data_dir": str(tmp_path),
        "task_default_queue": queue,
        "quarantine_queue": f"{queue}-q",
    }
    app = Opsq("server", backend=f"sqlite:///{tmp_path}/results.db", set_as_current=False, **told)
    words = ["--data-dir", str(tmp_path), "-b", server.url, "--set", f"quarantine_queue={queue}-q"]
    words += ["--result-backend", f"sqlite:///{tmp_path}/results.db"]

    def command(*more: str) -> Any:
        done = CliRunner().invoke(cli, [*words, "quarantine", *more, "--json"], obj=CliState(), standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return json.loads(done.output)

    with running_worker(app, pool="threads", concurrency=1):
        for number in range(3):
            sent = app.send_task("shop.unheard_of", task_id=f"id-{number}", queue=queue)
            assert isinstance(sent.get(timeout=15, propagate=False), Exception)
    try:
        for _ in range(2):
            assert sorted(kept["id"] for kept in command("list")["quarantined"]) == ["id-0", "id-1", "id-2"]
        assert command("show", "id-1")["kind"] == "unknown"
        assert command("drop", "id-0", "--force") == {"dropped": "id-0"}
        assert command("release", "id-1") == {"released": "id-1", "queue": queue}
        assert [kept["id"] for kept in command("list")["quarantined"]] == ["id-2"]

        @app.task(name="shop.unheard_of")
        def heard_of() -> str:
            return "now it is"

        with running_worker(app, pool="threads", concurrency=1):
            assert app.AsyncResult("id-1").get(timeout=30) == "now it is"
    finally:
        app.close()
