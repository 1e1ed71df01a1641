"""Why a task of a real Celery worker waits: each cause made for real, told by an opsq monitor that only has its URL."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opsq import Opsq
from tests.interop import cases, peers
from tests.interop.peers import Peer, Place, full_only
from tests.interop.test_watching import Monitor, running_monitor

BOUND_S = 15.0
HELD_S = 120.0

pytestmark = full_only


@contextmanager
def fleet(place: Place) -> Iterator[tuple[Monitor, Opsq, Peer]]:
    """A Celery worker with one slot, a monitor that has heard it, and a client."""
    app = Opsq("client", broker=place.broker, task_ignore_result=True, set_as_current=False)
    worker = peers.worker(place, "celery", "prefork", name="stock", slots=1)
    try:
        worker.wait_for("ready")
        with running_monitor(place) as monitor:
            cases.until(lambda: (monitor.worker("stock@here") or {}).get("queues"), "the worker and its queues")
            yield monitor, app, worker
    finally:
        app.close()
        if worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()


def told(monitor: Monitor, id: str, cause: str) -> Any:
    """Ask until this cause is told, at most ``BOUND_S`` seconds."""
    began, seen = time.monotonic(), None
    while time.monotonic() - began < BOUND_S:
        seen = monitor.read(f"/api/v1/tasks/{id}/why")
        if seen and seen["cause"] == cause:
            note(monitor, cause, time.monotonic() - began)
            return seen
        time.sleep(0.1)
    raise AssertionError(f"{cause} was not told within {BOUND_S:g} s, but {seen}")


def note(monitor: Monitor, cause: str, after_s: float) -> None:
    """Keep the figure where ``WHY_FIGURES`` says, for the table of the manual."""
    path = os.environ.get("WHY_FIGURES")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"monitor": id(monitor), "cause": cause, "after_s": round(after_s, 2)}) + "\n")


def test_the_causes_of_a_celery_fleet(place: Place) -> None:
    with fleet(place) as (monitor, app, worker):

        def send(*args: Any, task: str = "fleet_app.nap", queue: str = place.queue, **options: Any) -> str:
            return str(app.send_task(task, args, queue=queue, **options).id)

        assert "stock@here" not in told(monitor, send(1, queue=f"{place.queue}-nobody"), "no-consumer")["sentence"]
        held = send(1, countdown=300)
        assert "for its ETA by stock@here" in told(monitor, held, "eta")["sentence"]
        refused = send(task="fleet_app.forgotten")
        assert "fleet_app.forgotten" in told(monitor, refused, "unknown-name")["sentence"]
        app.control.rate_limit("fleet_app.add", "2/m", reply=True)
        limited = [send(1, 1, task="fleet_app.add") for _ in range(3)][-1]
        assert "2/m" in told(monitor, limited, "rate-limit")["sentence"]
        ids = [send(HELD_S) for _ in range(9)]
        assert "behind fleet_app.nap" in told(monitor, ids[1], "prefetched")["sentence"]
        assert "only slot" in told(monitor, ids[-1], "slots-busy")["sentence"]
        app.control.revoke(ids[-2])
        assert "revoked" in told(monitor, ids[-2], "revoked")["sentence"]
        os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        killed = told(monitor, ids[0], "worker-died")
        assert "visibility time-out" in killed["lead"] or "connection" in killed["lead"]
