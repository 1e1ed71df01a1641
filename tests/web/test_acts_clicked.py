"""Acts by clicking in a real browser, on a real worker, over each embedded and each usual broker.

The effect is looked for in the worker, not on the page, and then in the audit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from opsq import Opsq
from opsq.settings import Settings
from tests.servers import redis_server
from tests.web.chromium import Chromium, find_chromium
from tests.web.clicking import PATIENCE_S, Hand, running_monitor, until

pytestmark = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"
)


@pytest.fixture(params=["sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a monitor for each broker."""
    found = Settings().replace(data_dir=str(tmp_path / "data"), web_port=0)
    if request.param == "sqlite":
        yield found
        return
    with redis_server(tmp_path) as server:
        yield found.replace(broker_url=server.url, result_backend=server.url)


def given(settings: Settings) -> dict[str, str]:
    """What an app or a worker has to know to meet the monitor."""
    names = ("data_dir", "broker_url", "result_backend")
    return {name: value for name in names if (value := getattr(settings, name))}


@contextmanager
def worker(settings: Settings, gate: Path) -> Iterator[None]:
    """A worker of ``act_tasks`` in a process, two slots. gate: the file that its tasks wait for."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OPSQ_")}
    here = Path(__file__).resolve().parent
    environment = {**inherited, "PYTHONPATH": os.pathsep.join([str(here.parent.parent), str(here)])}
    command = [sys.executable, "-m", "opsq", "worker", "-A", "act_tasks", "-P", "prefork", "-c", "2", "-n", "acts@%h"]
    for name, value in {**given(settings), "worker_pool_restarts": "true"}.items():
        command += ["--set", f"{name}={value}"]
    process = subprocess.Popen(command, env=environment, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        gate.touch()
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)


def test_revoke_terminate_retry_and_grow_by_clicking(settings: Settings, tmp_path: Path) -> None:
    app = Opsq("clicks", set_as_current=False)
    app.apply_cli(given(settings))
    gate = tmp_path / "gate"
    try:
        with running_monitor(settings) as url, worker(settings, gate), Chromium() as browser:
            hand = Hand(browser, url)
            browser.look(width=1280)
            name = until(lambda: next(iter(app.control.inspect(timeout=0.5).ping() or {}), None), "the worker")
            inspect = app.control.inspect([name], timeout=1.0)
            hand.turn(f"workers/{name}", "worker-grow", {"n": "1"})
            assert inspect.stats()[name]["pool"]["max-concurrency"] == 3
            running = [app.send_task("act_tasks.wait_for", (str(gate),)).id for _ in range(3)]
            until(lambda: len(inspect.active()[name]) == 3, "three running tasks")
            hand.look(f"workers/{name}", "Stack dump", "wait_for")
            waiting = app.send_task("act_tasks.wait_for", (str(gate),)).id
            hand.act(f"tasks/{waiting}", "Revoke")
            assert waiting in inspect.revoked()[name]
            hand.act(f"tasks/{running[0]}", "Terminate")
            until(lambda: running[0] not in {task["id"] for task in inspect.active()[name]}, "the end of the task")
            gate.touch()
            done = app.send_task("act_tasks.add", (2, 3))
            assert done.get(timeout=PATIENCE_S) == 5
            assert not browser.said, browser.said
            hand.without_script()
            said = hand.act(f"tasks/{done.id}", "Retry")
            again = app.AsyncResult(said.rpartition("sent again as ")[2].split()[0])
            assert again.get(timeout=PATIENCE_S) == 5
            rows = hand.rows("audit?check=all", "#audit tbody tr")
            acts = ["Retry, task", "Terminate, task", "Revoke, task", "Grow the pool, worker"]
            assert [act for act, row in zip(acts, rows, strict=True) if act in row and "done" in row] == acts, rows
            assert "nothing was changed" in browser.value("document.querySelector('#verdict').innerText")
    finally:
        app.close()


def test_a_queue_is_looked_into_moved_and_purged_by_clicking(settings: Settings) -> None:
    app = Opsq("clicks", set_as_current=False)
    app.apply_cli(given(settings))
    try:
        with running_monitor(settings) as url, Chromium() as browser:
            hand = Hand(browser, url)
            browser.look(width=1280)
            for number in range(3):
                app.send_task("act_tasks.add", (number, 1), queue="heap")
            hand.look("queues/heap", "Next to be delivered", "act_tasks.add")
            assert "moved to other" in hand.act("queues/heap", "Move", {"to": "other", "most": "2"})
            hand.open_ask("queues/heap", "Purge")
            assert browser.value("document.querySelector('#ask [id=do-it]').disabled"), "the name is not typed yet"
            assert "1 waiting message deleted" in hand.act("queues/heap", "Purge", {"confirm": "heap"})
            assert not browser.said, browser.said
            rows = hand.rows("audit", "#audit tbody tr")
            assert ["Purge, queue" in rows[0], "Move messages, queue" in rows[1]] == [True, True], rows
    finally:
        app.close()
