"""Remote control between the libraries: Celery's client steers an opsq worker, and opsq's a Celery worker.

Both get the same questions and orders, over the broker, and must answer in the same words.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.interop.peers import HERE, PATIENCE_S, Place, python_of, running_worker, spawn

WORDS = {
    "ping": {"ok": "pong"},
    "rate_limit": {"ok": "new rate limit set successfully"},
    "bad_rate": {"error": "Invalid rate limit string: ValueError(\"could not convert string to float: 'x'\")"},
    "unknown_task": {"error": "unknown task"},
    "pool_grow": {"ok": "pool will grow"},
    "heartbeat": None,
    "disable_events": {"ok": "task events disabled"},
    "pool_restart": {"error": "ValueError('Pool restarts not enabled')"},
    "autoscale": {"error": "ValueError('Autoscale not enabled')"},
    "unknown": {"error": "KeyError('no_such_command')"},
}
REQUEST = {
    *("id", "name", "args", "kwargs", "type", "hostname", "time_start", "acknowledged", "delivery_info", "worker_pid"),
}
DIRECTIONS = [("celery", "opsq", "prefork"), ("celery", "opsq", "threads"), ("opsq", "celery", "prefork")]


def steer(place: Place, library: str, node: str, *words: str) -> dict[str, Any]:
    """What ``node`` answered to everything in ``steering.py``."""
    peer = spawn(place, library, f"steering-{library}", str(HERE / "steering.py"), node, *words)
    peer.process.wait(PATIENCE_S * 2)
    if peer.process.returncode != 0:
        pytest.fail(f"steering failed:\n{peer.text()}", pytrace=False)
    said: dict[str, Any] = json.loads(next(line for line in peer.text().splitlines() if line.startswith('{"')))
    return said


@pytest.mark.parametrize(("client", "library", "pool"), DIRECTIONS)
def test_each_steers_the_other(place: Place, client: str, library: str, pool: str) -> None:
    name = f"{library}-{pool}"
    with running_worker(place, library, pool) as worker:
        said = steer(place, client, f"{name}@here", "stop")
        worker.process.wait(PATIENCE_S)
    running, later = said["ids"]
    for command, answer in WORDS.items():
        assert said[command] == answer, command
    assert [set(each) for each in said["active"]] == [REQUEST]
    assert (said["active"][0]["id"], said["active"][0]["args"]) == (running, [said["gate"]])
    assert said["scheduled"][0]["request"]["id"] == later
    assert {task_id: each[0] for task_id, each in said["query_task"].items()} == {running: "active", later: "scheduled"}
    assert said["registered_after"][[each.split()[0] for each in said["registered_after"]].index("fleet_app.add")] == (
        "fleet_app.add [rate_limit=10/m]"
    )
    assert said["active_queues"][0]["name"] == place.queue
    assert {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"} <= said["stats"].keys()
    assert said["stats"]["pool"]["max-concurrency"] == 2
    assert said["hello"]["revoked"][-1:] == ["revoked-there"], "beside what the broker has kept of other tests"
    assert {later, "revoked-there"} <= set(said["revoked_after"])
    assert said["revoke"] == {"ok": f"tasks {{'{later}'}} flagged as revoked"}
    if pool == "prefork":
        assert said["time_limit"] == {"ok": "time limits set successfully"}
        assert said["terminate"] == {"ok": f"terminate: {running}"}
        assert said["terminated_state"] == "REVOKED"
    else:
        assert said["terminate"] == {"error": "the threads pool cannot stop a running task"}


def test_the_command_lines(place: Place) -> None:
    with running_worker(place, "opsq", "threads"), running_worker(place, "celery", "solo"):
        settings: dict[str, Any] = {}
        ours = [
            sys.executable,
            "-m",
            "opsq",
            "status",
            "-b",
            place.broker,
            "--json",
            "-d",
            "celery-solo@here,opsq-threads@here",
            "-t",
            "10",
        ]
        done = subprocess.run(
            ours,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            cwd=place.folder,
            env=place.environment("opsq", settings),
            check=True,
        )
        assert json.loads(done.stdout) == {"online": ["celery-solo@here", "opsq-threads@here"]}
        theirs = [
            python_of("celery"),
            "-m",
            "celery",
            "-A",
            "fleet_app",
            "inspect",
            "ping",
            "-j",
            "-t",
            "10",
            "-d",
            "opsq-threads@here",
        ]
        done = subprocess.run(
            theirs,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            cwd=place.folder,
            env=place.environment("celery", settings),
            check=True,
        )
        assert json.loads(done.stdout.splitlines()[0]) == {"opsq-threads@here": {"ok": "pong"}}
