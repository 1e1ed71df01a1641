"""Acts by clicking in a real browser, on a real worker, over each embedded and each usual broker.

The effect is looked for in the worker, not on the page, and then in the audit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from opsq import Opsq
from opsq.settings import Settings
from opsq.web.looks import LOOKS
from tests.servers import redis_server
from tests.web.chromium import Chromium, find_chromium
from tests.web.clicking import PATIENCE_S, Hand, running_monitor, until

pytestmark = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"
)


@dataclass
class Scene:
    """A worker, the monitor that watches it, and somebody before its pages. gate: the file that tasks wait for."""

    broker: str
    app: Opsq
    hand: Hand
    name: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def inspect(self) -> Any:
        """Questions to the worker, past the pages."""
        return self.app.control.inspect([self.name], timeout=1.0)

    @property
    def page(self) -> str:
        """The path of the worker's page."""
        return f"workers/{self.name}"


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scene on each broker."""
    folder = tmp_path_factory.mktemp(f"clicks-{request.param}")
    settings = Settings().replace(data_dir=str(folder / "data"), web_port=0)
    with ExitStack() as stack:
        if request.param == "redis":
            url = stack.enter_context(redis_server(folder)).url
            settings = settings.replace(broker_url=url, result_backend=url)
        app = stack.enter_context(closing(Opsq("clicks", set_as_current=False)))
        app.apply_cli(given(settings))
        url = stack.enter_context(running_monitor(settings))
        process = stack.enter_context(worker(settings))
        browser = stack.enter_context(Chromium())
        browser.look(width=1280)
        name = until(lambda: next(iter(app.control.inspect(timeout=0.5).ping() or {}), None), "the worker")
        yield Scene(request.param, app, Hand(browser, url), name, process, folder)


def given(settings: Settings) -> dict[str, str]:
    """What an app or a worker has to know to meet the monitor."""
    names = ("data_dir", "broker_url", "result_backend")
    return {name: value for name in names if (value := getattr(settings, name))}


@contextmanager
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of ``act_tasks`` in a process, two slots."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPSQ_")}
    here = Path(__file__).resolve().parent
    environment = {**inherited, "PYTHONPATH": os.pathsep.join([str(here.parent.parent), str(here)])}
    command = [sys.executable, "-m", "opsq", "worker", "-A", "act_tasks", "-P", "prefork", "-c", "2", "-n", "acts@%h"]
    for name, value in {**given(settings), "worker_pool_restarts": "true"}.items():
        command += ["--set", f"{name}={value}"]
    process = subprocess.Popen(command, env=environment, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)


def test_revoke_terminate_retry_and_grow(scene: Scene) -> None:
    app, hand, inspect, name = scene.app, scene.hand, scene.inspect, scene.name
    gate = scene.folder / "gate"
    hand.turn(scene.page, "worker-grow", {"n": "1"})
    assert inspect.stats()[name]["pool"]["max-concurrency"] == 3
    running = [app.send_task("act_tasks.wait_for", (str(gate),)).id for _ in range(3)]
    until(lambda: len(inspect.active()[name]) == 3, "three running tasks")
    hand.look(scene.page, "Stack dump", "wait_for")
    waiting = app.send_task("act_tasks.wait_for", (str(gate),)).id
    hand.act(f"tasks/{waiting}", "Revoke")
    assert waiting in inspect.revoked()[name]
    hand.act(f"tasks/{running[0]}", "Terminate")
    until(lambda: running[0] not in {task["id"] for task in inspect.active()[name]}, "the end of the task")
    gate.touch()
    done = app.send_task("act_tasks.add", (2, 3))
    assert done.get(timeout=PATIENCE_S) == 5
    assert not hand.browser.said, hand.browser.said
    with hand.without_script():
        said = hand.act(f"tasks/{done.id}", "Retry")
    again = app.AsyncResult(said.rpartition("sent again as ")[2].split()[0])
    assert again.get(timeout=PATIENCE_S) == 5
    rows = hand.rows("audit?check=all", "#audit tbody tr")
    acts = ["Retry, task", "Terminate, task", "Revoke, task", "Grow the pool, worker"]
    assert [act for act, row in zip(acts, rows, strict=True) if act in row and "done" in row] == acts, rows
    assert "nothing was changed" in hand.browser.value("document.querySelector('#verdict').innerText")


def test_a_queue_is_looked_into_moved_and_purged(scene: Scene) -> None:
    hand = scene.hand
    for number in range(3):
        scene.app.send_task("act_tasks.add", (number, 1), queue="heap")
    hand.look("queues/heap", "Next to be delivered", "act_tasks.add")
    assert "moved to other" in hand.act("queues/heap", "Move", {"to": "other", "most": "2"})
    hand.open_ask("queues/heap", "Purge")
    assert hand.browser.value("document.querySelector('#ask [id=do-it]').disabled"), "the name is not typed yet"
    assert "1 waiting message deleted" in hand.act("queues/heap", "Purge", {"confirm": "heap"})
    assert not hand.browser.said, hand.browser.said
    rows = hand.rows("audit", "#audit tbody tr")
    assert ["Purge, queue" in rows[0], "Move messages, queue" in rows[1]] == [True, True], rows


def test_every_knob_of_a_worker(scene: Scene) -> None:
    """The last one: it shuts the worker down."""
    hand, inspect, name = scene.hand, scene.inspect, scene.name
    if scene.broker == "sqlite":  # once is enough: what follows the click is the same on every broker
        hand.turn(scene.page, "worker-rate-limit", {"task_name": "act_tasks.add", "rate_limit": "7/s"})
        assert "act_tasks.add [rate_limit=7/s]" in inspect.registered()[name]
        hand.turn(scene.page, "worker-time-limit", {"task_name": "act_tasks.add", "soft": "3", "hard": "4"})
        hand.turn(scene.page, "worker-log-level", {"level": "WARNING"})
        hand.turn(scene.page, "worker-add-queue", {"queue": "extra"})
        until(lambda: "extra" in queues(inspect, name), "a second queue")
        until(lambda: "extra" in "".join(hand.rows(scene.page, "#worker-control .tag")), "its tag on the page")
        hand.turn(scene.page, "worker-cancel-queue", {}, of="extra")
        until(lambda: "extra" not in queues(inspect, name), "one queue again")
        hand.turn(scene.page, "worker-shrink", {"n": "1"})
        until(lambda: inspect.stats()[name]["pool"]["max-concurrency"] == 2, "two slots")
        for look in LOOKS:
            with urlopen(f"{hand.url}look/{look.name}?target={name}") as answer:
                assert "No answer" not in answer.read().decode(), look.verb
        hand.act(scene.page, "Restart the pool")
    hand.act(scene.page, "Shut down", {"confirm": name})
    assert scene.process.wait(PATIENCE_S) == 0
    assert not hand.browser.said, hand.browser.said


def queues(inspect: Any, name: str) -> set[str]:
    """The queues that a worker takes from."""
    return {queue["name"] for queue in inspect.active_queues()[name]}
