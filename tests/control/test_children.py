"""A worker process, steered: what runs in its children is stopped, shown, made to talk and replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import pytest

from opsq import Opsq
from tests.cli.runner import clean_environment, wait_for
from tests.control.conftest import PATIENCE_S, MakeApp, until

NODE = "children@here"
HERE = Path(__file__).parent


class Site:
    """A worker process and a client of the same broker."""

    def __init__(self, app: Opsq, log: Path) -> None:
        self.app, self.log = app, log
        self.inspect = app.control.inspect([NODE], timeout=PATIENCE_S)

    def order(self, command: str, **arguments: Any) -> Any:
        """What the worker answers to an order."""
        answers = self.app.control.broadcast(command, arguments, reply=True, timeout=PATIENCE_S, limit=1)
        assert answers, command
        return answers[0][NODE]

    def running(self, task_id: str) -> bool:
        """Whether it runs."""
        return task_id in [each["id"] for each in self.inspect.active()[NODE]]

    def children(self) -> set[int]:
        """Process ids of the slots."""
        return set(self.inspect.stats()[NODE]["pool"]["processes"])


@contextmanager
def steered(app: Opsq, folder: Path, pool: str) -> Iterator[Site]:
    """A worker of one slot in that pool, on the broker of ``app``."""
    settings = app.settings
    said = {
        "OPSQ_DATA_DIR": settings.data_dir,
        "OPSQ_BROKER_URL": str(settings.resolved_broker_url()),
        "OPSQ_RESULT_BACKEND": str(settings.resolved_result_backend()),
        "OPSQ_WORKER_POOL_RESTARTS": "true",
        "OPSQ_WORKER_MINGLE": "false",
        "PYTHONPATH": str(HERE),
    }
    if settings.broker_transport_options:
        said["OPSQ_BROKER_TRANSPORT_OPTIONS"] = f'{{"global_keyprefix": "{folder.name}:"}}'
    log = folder / "worker.log"
    words = ["worker", "-A", "steered_app", "-P", pool, "-c", "1", "-n", NODE]
    with log.open("w") as sink:
        process = Popen(
            [sys.executable, "-m", "opsq", *words], env=clean_environment() | said, stdout=sink, stderr=STDOUT
        )
        try:
            wait_for(log, "ready", process)
            yield Site(app, log)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@pytest.fixture
def site(make_app: MakeApp, tmp_path: Path) -> Iterator[Site]:
    with steered(make_app(), tmp_path, "prefork") as made:
        yield made


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_stacks_of_greenlets(make_app: MakeApp, tmp_path: Path, pool: str) -> None:
    with steered(make_app(), tmp_path, pool) as site:
        running = site.app.send_task("steered_app.stuck")
        until(lambda: site.running(running.id))
        (found,) = site.inspect.stack(running.id)[NODE]
        assert "threading.Event().wait(60)" in found["stack"], found
        assert site.order("revoke", task_id=running.id, terminate=True) == {"ok": f"terminate: {running.id}"}
        until(lambda: running.state == "REVOKED")


def test_what_runs_is_stopped_and_what_waits_never_starts(site: Site) -> None:
    running = site.app.send_task("steered_app.stuck")
    until(lambda: site.running(running.id))
    waits = site.app.send_task("steered_app.stuck")
    (found,) = site.inspect.stack(running.id)[NODE]
    assert found["name"] == "steered_app.stuck"
    assert found["pid"] in site.children()
    assert "threading.Event().wait(60)" in found["stack"], found
    assert "flagged as revoked" in site.order("revoke", task_id=waits.id)["ok"]
    assert site.order("revoke", task_id=running.id, terminate=True) == {"ok": f"terminate: {running.id}"}
    until(lambda: running.state == waits.state == "REVOKED")
    assert site.inspect.stack()[NODE] == []


def test_its_children_talk_more_and_are_replaced(site: Site) -> None:
    child = site.app.send_task("steered_app.talk").get(timeout=PATIENCE_S)
    assert "a small word" not in site.log.read_text()
    assert site.order("log_level", level="debug", for_s=3600)["ok"] == "log level of everything is DEBUG, was INFO"
    until(lambda: site.app.send_task("steered_app.talk").get(timeout=PATIENCE_S) and said(site))
    assert site.order("pool_restart") == {"ok": "reload started"}
    until(lambda: child not in site.children() and site.children())
    assert "--autoreload" in site.order("pool_restart", reload=True)["error"]
    assert site.order("log_level", level="loud")["error"].startswith("level: expected one of DEBUG")
    assert site.order("greet", n=2) == {"ok": f"{NODE}: hello hello"}
    assert "argument 'n': expected integer" in site.order("greet", n="x")["error"]


def said(site: Site) -> bool:
    return "a small word" in site.log.read_text()


def test_nothing_is_left_behind(site: Site) -> None:
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    before = set(folder.glob("opsq-levels-*"))
    site.order("log_level", level="info")
    (made,) = set(folder.glob("opsq-levels-*")) - before
    site.app.control.shutdown()
    until(lambda: not made.exists())
