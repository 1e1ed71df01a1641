"""Flower 2.2 at an opsq worker: it sees the worker and its tasks, and everything its buttons order is done."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.interop.peers import PATIENCE_S, Place, python_of, running_worker, spawn
from tests.servers import free_port, missing

NODE = "opsq-prefork@here"


class Flower:
    """Its HTTP interface."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **fields: Any) -> Any:
        """Get ``path``, or post ``fields`` to it."""
        body = urllib.parse.urlencode(fields).encode() if fields else None
        try:
            with urllib.request.urlopen(f"{self.url}{path}", body, timeout=PATIENCE_S) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return {"status": error.code, "said": error.read().decode(errors="replace")}
        except OSError:
            return None


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait until ``condition`` gives something true, and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture
def flower(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flower]:
    """Flower, watching the broker of the test."""
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
    has = subprocess.run([python_of("celery"), "-c", "import flower"], capture_output=True, check=False)
    if has.returncode:
        missing("Flower", "run scripts/install-interop")
    port = free_port()
    words = ("-m", "celery", "-A", "fleet_app", "flower", f"--port={port}", "--address=127.0.0.1")
    place_of_it = spawn(place, "celery", "flower", *words, "--inspect_timeout=3000")
    try:
        yield Flower(port)
    finally:
        place_of_it.stop()


def test_flower_watches_and_steers(place: Place, flower: Flower) -> None:
    with running_worker(place, "opsq", "prefork") as worker:
        known = eventually(lambda: known_of(flower), "the worker")
        assert known["stats"]["pool"]["max-concurrency"] == 2
        assert [each["name"] for each in known["active_queues"]] == [place.queue]
        assert any(each.startswith("fleet_app.add") for each in known["registered"])
        assert known["conf"]["task_default_queue"] == place.queue

        ended = apply(flower, [2, 3])
        shown = eventually(lambda: succeeded(flower, ended), "the task in Flower")
        assert (shown["name"], shown["result"], shown["worker"]) == ("fleet_app.add", "5", NODE)
        assert shown["runtime"] is not None

        def order(path: str, **fields: Any) -> Any:
            return flower.ask(path, **(fields or {"x": "1"}))

        assert "Growing" in order(f"/api/worker/pool/grow/{NODE}", n=2)["message"]
        eventually(lambda: slots(flower) == 4, "two slots more")
        assert "Shrinking" in order(f"/api/worker/pool/shrink/{NODE}", n=1)["message"]
        eventually(lambda: slots(flower) == 3, "one slot less")
        assert order(f"/api/worker/queue/add-consumer/{NODE}", queue="flowers")["message"] == "add consumer flowers"
        assert "flowers" in order(f"/api/worker/queue/cancel-consumer/{NODE}", queue="flowers")["message"]
        said = order("/api/task/rate-limit/fleet_app.add", workername=NODE, ratelimit="10/m")
        assert said["message"] == "new rate limit set successfully"
        said = order("/api/task/timeout/fleet_app.add", workername=NODE, soft=30, hard=60)
        assert said["message"] == "time limits set successfully"
        assert "Revoked" in order("/api/task/revoke/some-id")["message"]
        eventually(lambda: "some-id" in known_of(flower).get("revoked", ()), "the revoked id")
        assert "Shutting down" in order(f"/api/worker/shutdown/{NODE}")["message"]
        assert worker.process.wait(PATIENCE_S) == 0


def apply(flower: Flower, args: list[Any]) -> str:
    """Have Flower send a task; its id."""
    request = urllib.request.Request(
        f"{flower.url}/api/task/async-apply/fleet_app.add",
        json.dumps({"args": args}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        found: str = json.loads(response.read())["task-id"]
    return found


def succeeded(flower: Flower, task_id: str) -> Any:
    """What Flower knows of a task that has succeeded."""
    shown = flower.ask(f"/api/task/info/{task_id}")
    return shown if shown and shown.get("state") == "SUCCESS" else None


def slots(flower: Flower) -> int:
    """How many slots the worker says it has."""
    return int(known_of(flower).get("stats", {}).get("pool", {}).get("max-concurrency", 0))


def known_of(flower: Flower) -> Any:
    """What the worker has just told Flower."""
    return (flower.ask(f"/api/workers?refresh=1&workername={NODE}") or {}).get(NODE, {})
