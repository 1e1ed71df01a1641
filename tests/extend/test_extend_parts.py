"""Each file of ``examples/extend`` at work: a worker or a monitor runs with it, and it is seen to do its part."""

from __future__ import annotations

import ast
import datetime
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.extend import compression, consumer, producer, serializer
from examples.extend.consumer import SensorConsumer
from examples.extend.producer import Greeter, announce
from examples.extend.step import StatusFile
from opsq import Opsq
from opsq.broker.connection import open_connection
from opsq.broker.topology import QueueSpec
from opsq.control.schedules import ask
from opsq.errors import ConfigError, UsageError
from opsq.testing.broker_reader import Reader, message
from opsq.testing.contract_backend import BackendContract, Store
from opsq.testing.harness import running_worker, send_raw, waiting
from opsq.wire.compression import compress
from tests.architecture.modules import ROOT
from tests.cli.runner import opsq, running
from tests.conftest import MakeApp
from tests.extend.conftest import Install

PATIENCE_S = 60.0
EXTEND = ROOT / "examples" / "extend"


def read_queue(app: Opsq, queue: QueueSpec, count: int) -> list[Any]:
    """Take JSON messages off a queue."""
    connection = open_connection(app.settings, purpose="read")
    connection.connect()
    reader = Reader(connection, queue)
    found = [json.loads(delivery.body) for delivery in reader.take(count)]
    reader.stop()
    return found


def eventually(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, "waited in vain"
        pause.wait(0.02)


def test_a_worker_step_starts_and_stops_with_the_worker(make_app: MakeApp) -> None:
    app = make_app()
    app.steps["worker"].add(StatusFile)
    file = Path(app.settings.data_dir) / "worker.json"
    with running_worker(app, pool="threads", concurrency=3):
        said = json.loads(file.read_text())
        assert (said["pid"], said["slots"], said["queues"]) == (os.getpid(), 3, ["celery"])
    assert not file.exists()


def test_a_consumer_turns_messages_of_its_queue_into_calls(make_app: MakeApp) -> None:
    app = make_app()
    readings = []
    app.task(name=consumer.TASK)(lambda sensor, celsius: readings.append((sensor, celsius)))
    app.steps["consumer"].add(SensorConsumer)
    for body in (b'{"sensor": "hall", "celsius": 21.5}', b"rubbish", b'{"sensor": "cellar", "celsius": "9"}'):
        app.publisher.publish(message(consumer.QUEUE, body))
    with running_worker(app, pool="solo") as worker:
        worker.wait("settled", times=2)
        eventually(lambda: waiting(app, consumer.QUEUE.name).ready == 0)
    assert sorted(readings) == [("cellar", 9.0), ("hall", 21.5)]


def test_a_producer_sends_on_the_apps_publisher(make_app: MakeApp) -> None:
    app = make_app()
    app.steps["worker"].add(Greeter)
    with running_worker(app, pool="solo", hostname="w1@here"):
        announce(app, worker="nobody")
    said = read_queue(app, producer.QUEUE, 3)
    assert [(each["worker"], each.get("is_up")) for each in said] == [
        ("w1@here", True),
        ("nobody", None),
        ("w1@here", False),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no niceness of its own")
def test_a_pool_of_ones_own_runs_the_tasks(make_app: MakeApp) -> None:
    app = make_app(worker_pool="examples.extend.pool:NicePool")
    niceness = app.task(name="niceness")(lambda: os.getpriority(os.PRIO_PROCESS, 0))
    with running_worker(app, concurrency=2) as worker:
        assert niceness.delay().get(timeout=PATIENCE_S) == 10
        assert worker.worker.plan.facts()["pool"] == "nice"
    assert os.getpriority(os.PRIO_PROCESS, 0) < 10


AT = datetime.datetime(2026, 11, 21, 10, 0)  # noqa: DTZ001  a property list has no zones
ORDER = {"at": AT, "paid": None, "seal": b"\0\xff", "lines": [1, 2.5, "é"]}
PLIST = {"task_serializer": "plist", "result_serializer": "plist", "accept_content": ["plist", "json"]}


def test_a_serializer_named_in_the_settings_carries_arguments_and_results(make_app: MakeApp) -> None:
    app = make_app(extra_serializers=["examples.extend.serializer:PLIST"], **PLIST)
    echo = app.task(name="echo")(lambda order: order)
    with running_worker(app, pool="threads", concurrency=1) as worker:
        send_raw(app, b"bplist00 and rubbish", {"id": "x", "task": "echo"}, "application/x-plist")
        worker.wait("settled", "x")
        assert echo.delay(ORDER).get(timeout=PATIENCE_S) == ORDER
    with pytest.raises(UsageError, match="cannot be written as plist"):
        echo.delay(object())


def test_a_serializer_of_an_installed_package_is_found_by_its_name(make_app: MakeApp, install: Install) -> None:
    install(serializers={"plist": "examples.extend.serializer:PLIST"})
    app = make_app(**PLIST)
    assert app.caller.serializers.find("plist").mime == serializer.PLIST.mime


def test_a_compression_named_in_the_settings_is_used_and_undone(make_app: MakeApp) -> None:
    primed = {"task_compression": "primed", "result_compression": "primed"}
    app = make_app(extra_compressions=["examples.extend.compression:PRIMED"], **primed)
    echo = app.task(name="echo")(lambda order: order)
    order = {"customer": "Ada", "order": 7, "lines": [{"article": "pen", "amount": 2}]}
    with running_worker(app, pool="threads", concurrency=1):
        result = echo.delay(order)
        assert result.get(timeout=PATIENCE_S) == order
    stored = app.backend.backend.get("task", result.id)
    assert stored is not None
    assert b"application/x-primed" in stored
    body = json.dumps([[order], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()
    assert len(compression.shrink(body)) < len(compress(body, "zlib")[0])


def test_a_compression_of_an_installed_package_is_found_by_its_name(make_app: MakeApp, install: Install) -> None:
    install(compressions={"primed": "examples.extend.compression:PRIMED"})
    assert "primed" in make_app(task_compression="primed").caller.serializers.compressions
    assert "primed" not in make_app().caller.serializers.compressions, "installed is not the same as wanted"


def test_what_is_no_serializer_is_refused_with_the_setting_that_named_it(make_app: MakeApp) -> None:
    with pytest.raises(ConfigError, match=r"os:sep to be a Serializer, got str \(from extra_serializers\)"):
        make_app(extra_serializers=["os:sep"]).finalize()


APP = """
import examples.extend.log_setup
from examples.extend.consumer import SensorConsumer
from examples.extend.producer import Greeter
from examples.extend.step import StatusFile
from opsq import Opsq
from opsq.utils.log import get_task_logger

app = Opsq("site")
app.steps["worker"] |= {StatusFile, Greeter}
app.steps["consumer"].add(SensorConsumer)
log = get_task_logger(__name__)


@app.task
def hello():
    log.warning("hello from a child")
"""


def test_logging_of_ones_own_in_the_main_process_and_in_its_children(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APP)
    words = ("worker", "-A", "site_app", "-P", "prefork", "-c", "1")
    with running(*words, cwd=tmp_path, ready="I opsq.core.worker.worker: ready", PYTHONPATH=str(ROOT)) as process:
        assert opsq("call", "site_app.hello", cwd=tmp_path).returncode == 0
        log = tmp_path / "worker.log"
        eventually(lambda: "W site_app: hello from a child" in log.read_text())
        line = next(line for line in log.read_text().splitlines() if "hello from" in line)
        assert not line.startswith(f"[{process.pid}]"), "the child speaks for itself"


def test_explain_shows_both_graphs_with_the_users_steps(tmp_path: Path, install: Install) -> None:
    (tmp_path / "site_app.py").write_text(APP.replace("StatusFile, Greeter", "Greeter"))
    site = install(worker_steps={"status": "examples.extend.step:StatusFile"})
    done = opsq("worker", "-A", "site_app", "--explain", cwd=tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}{site}")
    assert done.returncode == 0, done.stderr
    process, _, connection = done.stdout.partition("connection")
    order = [line.split()[1] for line in process.splitlines() if line.strip()[:1].isdigit()]
    assert order.index("receiver") < order.index("status-file")
    assert order.index("owner") < order.index("greeter")
    assert "sensor-consumer" in connection
    assert "needs BrokerConnection" in connection or "Settings, BrokerConnection" in connection


def test_results_in_a_store_of_ones_own(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app(
        result_backend=f"files://{tmp_path}/results",
        override_backends={"files": "examples.extend.backend:open_files"},
    )
    add = app.task(name="add")(lambda x, y: x + y)
    with running_worker(app, pool="threads", concurrency=1):
        assert add.delay(2, 3).get(timeout=PATIENCE_S) == 5
    assert len(list((tmp_path / "results").glob("task-*.result"))) == 1


class TestFilesBackend(BackendContract):
    """The suite that every result store must pass."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        """A new folder."""
        opens = {"files": "examples.extend.backend:open_files"}
        return {"result_backend": f"files://{tmp_path}/results", "override_backends": opens}


def test_a_broker_of_an_installed_package(make_app: MakeApp, install: Install, tmp_path: Path) -> None:
    install(brokers={"folder": "examples.extend.broker:Transport"})
    app = make_app(broker=f"folder://{tmp_path}/queues", backend=f"sqlite:///{tmp_path}/results.db")
    add = app.task(name="add")(lambda x, y: x + y)
    waiting_call = add.delay(2, 3)
    assert len(list((tmp_path / "queues" / "celery").glob("[0-9]*"))) == 1
    with running_worker(app, pool="threads", concurrency=1):
        assert waiting_call.get(timeout=PATIENCE_S) == 5
        assert add.delay(5, 5).get(timeout=PATIENCE_S) == 10
    assert not list((tmp_path / "queues" / "celery").glob("[0-9]*"))


def test_a_history_store_of_an_installed_package(make_app: MakeApp, install: Install, tmp_path: Path) -> None:
    site = install(stores={"archive": "examples.extend.store:open_archive"})
    app = make_app()
    add = app.task(name="add")(lambda x, y: x + y)
    url = f"archive://{tmp_path}/history/history.db"
    words = ("monitor", "--no-web", "--data-dir", str(tmp_path / "data"), "--set", f"monitor_store_url={url}")
    path = f"{ROOT}{os.pathsep}{site}"
    with running(*words, cwd=tmp_path, ready="", PYTHONPATH=path), running_worker(app, pool="solo"):
        archive = tmp_path / "history" / "history.jsonl"
        eventually(lambda: (tmp_path / "history" / "history.db").exists())
        ids = set()

        def archived() -> bool:
            ids.add(add.delay(2, 3).id)
            lines = [json.loads(line) for line in archive.read_text().splitlines()] if archive.exists() else []
            return any(line["id"] in ids and line["state"] == "SUCCESS" and line["task"] == "add" for line in lines)

        eventually(archived)


def test_a_scheduler_that_reads_a_file(make_app: MakeApp) -> None:
    app = make_app(beat_scheduler="examples.extend.scheduler:FileScheduler")
    folder = Path(app.settings.data_dir)
    folder.mkdir()
    (folder / "schedule.json").write_text('{"poll": {"task": "add", "schedule": "30s", "args": [1, 2]}}')
    said = {what: threading.Event() for what in ("leads", "listening", "stopped")}
    beat = app.Beat(probe=lambda what: said[what].set())
    beat.start()
    try:
        assert said["leads"].wait(60)
        assert said["listening"].wait(60)
        assert ask(app.control, "schedule_list", {})["lines"][-1]["name"] == "poll"
    finally:
        beat.stop()


def test_every_example_is_run_here_and_told_of_in_the_manual() -> None:
    manual = (ROOT / "docs" / "extending.md").read_text()
    here = Path(__file__).read_text()
    for path in sorted(EXTEND.glob("[!_]*.py")):
        assert f"examples/extend/{path.name}" in manual, path.name
        assert f"examples.extend.{path.stem}" in here, path.name
        assert ast.get_docstring(ast.parse(path.read_text())), path.name
