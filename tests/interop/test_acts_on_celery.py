"""Acts by clicking on the pages of the opsq monitor, on a real Celery worker: what Celery can do is done and seen."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from redis import Redis

from opsq import Opsq
from opsq.settings import Settings
from tests.interop.peers import Place, full_only, running_worker
from tests.web.chromium import Chromium, find_chromium
from tests.web.clicking import PATIENCE_S, Hand, running_monitor, until

pytestmark = [
    full_only,
    pytest.mark.skipif(find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"),
]
NODE = "stock@here"


def test_revoke_terminate_retry_and_grow_on_celery_by_clicking(place: Place, tmp_path: Path) -> None:
    """The calls come from an opsq client, whose events carry the payload, so they can be made again."""
    settings = Settings().replace(data_dir=str(tmp_path / "data"), web_port=0, broker_url=place.broker)
    app = Opsq("clicks", set_as_current=False)
    app.apply_cli({"broker_url": place.broker, "result_backend": place.results})
    inspect = app.control.inspect([NODE], timeout=1.0)
    with (
        contextlib.closing(app),
        contextlib.closing(Redis.from_url(place.results)) as journal,
        running_monitor(settings) as url,
        running_worker(place, "celery", "prefork", name="stock", slots=1, words=("-E",)) as worker,
        Chromium() as browser,
    ):
        hand = Hand(browser, url)
        browser.look(width=1280)
        hand.turn(f"workers/{NODE}", "worker-grow", {"n": "1"})
        until(lambda: len(inspect.stats()[NODE]["pool"]["processes"]) == 2, "a second process")
        gates = [f"gate-{number}-{tmp_path.name}" for number in range(3)]
        ids = [app.send_task("fleet_app.in_steps", (gate,), queue=place.queue).id for gate in gates]
        until(lambda: len(inspect.active()[NODE]) == 2, "two running tasks")
        running = [task["id"] for task in inspect.active()[NODE]]
        [waiting] = set(ids) - set(running)
        hand.act(f"tasks/{waiting}", "Revoke")
        assert waiting in inspect.revoked()[NODE]
        hand.act(f"tasks/{running[0]}", "Terminate")
        until(lambda: running[0] not in {task["id"] for task in inspect.active()[NODE]}, "the end of the terminated")
        hand.look(f"workers/{NODE}", "Stack dump", "Celery's workers do not know")
        journal.rpush(gates[ids.index(running[1])], "go")
        assert app.AsyncResult(running[1]).get(timeout=PATIENCE_S) == "done"
        done = app.send_task("fleet_app.add", (2, 3), queue=place.queue)
        assert done.get(timeout=PATIENCE_S) == 5
        said = hand.act(f"tasks/{done.id}", "Retry")
        again = app.AsyncResult(said.rpartition("sent again as ")[2].split()[0])
        assert again.get(timeout=PATIENCE_S) == 5
        rows = hand.rows("audit", "#audit tbody tr")
        acts = ["Retry, task", "Terminate, task", "Revoke, task", "Grow the pool, worker"]
        assert [act for act, row in zip(acts, rows, strict=True) if act in row and "done" in row] == acts, rows
        assert worker.process.poll() is None
