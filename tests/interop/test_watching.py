"""Events cross over too: the opsq monitor watches a Celery fleet, and Celery's tools watch opsq workers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from redis import Redis

from tests.interop import cases, peers
from tests.interop.peers import FULL, POOLS, Place, full_only
from tests.servers import free_port

#: A client announces a call after it has published it, so a worker may be quicker.
SENT_LATE_S = 1.0


#: Nothing about events: as a project is that never thought of a monitor.
PLAIN = {"accept_content": ["json"], "task_send_sent_event": False, "worker_send_task_events": False}


class Monitor:
    """The JSON of a running ``opsq monitor``."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, path: str) -> Any:
        """One answer, or nothing while it does not answer."""
        try:
            with urlopen(f"{self._url}{path}", timeout=5) as answer:
                return json.load(answer)
        except (HTTPError, URLError):
            return None

    def worker(self, name: str) -> Any:
        """What is known of a worker, or nothing."""
        listed = self.read("/api/v1/workers") or {"workers": []}
        return next((each for each in listed["workers"] if each["name"] == name), None)

    def task(self, id: str, state: str) -> Any:
        """Wait until a task is listed in ``state``."""

        def find() -> Any:
            listed = self.read("/api/v1/tasks") or {"tasks": []}
            return next((each for each in listed["tasks"] if each["id"] == id and each["state"] == state), None)

        return cases.until(find, f"{id} as {state} among {self.read('/api/v1/tasks')}")


@contextmanager
def running_monitor(place: Place) -> Iterator[Monitor]:
    """``opsq monitor`` with nothing but the broker's URL."""
    port = free_port()
    peer = peers.spawn(place, "opsq", "monitor", *("-m", "opsq", "monitor", "-b", place.broker, "--port", str(port)))
    try:
        monitor = Monitor(f"http://127.0.0.1:{port}")
        cases.until(lambda: peer.process.poll() is not None or monitor.read("/healthz"), "the monitor's page")
        assert peer.process.poll() is None, peer.text()
        yield monitor
    finally:
        peer.stop()


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a fact of the page."""
    return cases.until(condition, what)


def test_the_opsq_monitor_watches_a_celery_fleet(place: Place) -> None:
    began = time.time()
    with (
        running_monitor(place) as monitor,
        peers.running_client(place, "celery") as client,
        peers.running_worker(place, "celery", "prefork", name="stock", words=("-E",)) as worker,
    ):
        eventually(lambda: (monitor.worker("stock@here") or {}).get("status") == "online", "the worker online")
        good = client.run("send", "fleet_app.add", [2, 3], {})
        bad = client.run("send", "fleet_app.boom", [], {})
        twice = client.run("send", "fleet_app.by_itself", [], {})
        late = client.run("send", "fleet_app.add", [1, 1], {"countdown": 0.6, "expires": 0.2})

        seen = monitor.task(good, "SUCCESS")
        assert (seen["type"], seen["worker"], seen["queue"]) == ("fleet_app.add", "stock@here", place.queue)
        assert (seen["args"], seen["kwargs"], seen["result"]) == ("(2, 3)", "{}", "5")
        assert began <= seen["received_at"] <= seen["started_at"] <= seen["finished_at"]
        assert began <= seen["published_at"] < seen["received_at"] + SENT_LATE_S
        assert 0 <= seen["runtime_s"] < 5
        failed = monitor.task(bad, "FAILURE")
        assert failed["exception"] == "ValueError('boom', 42)"
        detail = monitor.read(f"/api/v1/tasks/{bad}")["task"]
        assert "in boom" in detail["traceback"]
        retried = monitor.task(twice, "SUCCESS")
        assert (retried["retries"], retried["tries"]) == (1, 2)
        assert monitor.task(late, "REVOKED")["type"] == "fleet_app.add"

        known = monitor.worker("stock@here")
        assert (known["pid"], known["freq_s"]) == (worker.process.pid, 2.0)
        assert "celery" in known["software"]
        assert known["gaps"] is None, "Celery does not number its events, so loss is unknown and not 0"
        worker.ask_to_stop()
        eventually(lambda: monitor.worker("stock@here")["status"] == "offline", "the worker offline")


def test_a_fleet_started_plainly_is_attached_to(place: Place) -> None:
    """No ``-E``, nothing changed: events are turned on, and what ran before the monitor came is caught up on."""
    gate = f"gate:{place.queue}"
    with (
        Redis.from_url(place.results) as journal,
        peers.running_client(place, "celery", settings=PLAIN) as client,
        peers.running_worker(place, "celery", "prefork", name="plain", settings=PLAIN) as worker,
    ):
        early = client.run("send", "fleet_app.in_steps", [gate], {})
        waiting = client.run("send", "fleet_app.add", [1, 1], {"countdown": 11 if FULL else 3600})
        eventually(lambda: early in worker.text(), "the early task received")
        typed_at = time.time()
        with running_monitor(place) as monitor:
            attached_at = time.time()
            running = monitor.task(early, "STARTED")
            assert (running["type"], running["worker"]) == ("fleet_app.in_steps", "plain@here")
            assert running["args"] == f"('{gate}',)"
            assert running["started_at"] < attached_at
            assert monitor.task(waiting, "RECEIVED")["eta"] is not None
            good = client.run("send", "fleet_app.nap", [0.3], {})
            bad = client.run("send", "fleet_app.boom", [], {})
            twice = client.run("send", "fleet_app.by_itself", [], {})
            assert 0.3 <= monitor.task(good, "SUCCESS")["runtime_s"] < 5
            assert monitor.task(bad, "FAILURE")["exception"] == "ValueError('boom', 42)"
            assert monitor.task(twice, "SUCCESS")["tries"] == 2
            ran_s = time.time() - running["started_at"]
            journal.rpush(gate, "go on")
            ended = monitor.task(early, "SUCCESS")
            assert ran_s - 0.1 <= ended["runtime_s"] < ran_s + 2.0
            assert not ended["anomalies"]
            if FULL:
                assert not monitor.task(waiting, "SUCCESS")["anomalies"]
            known = monitor.worker("plain@here")
            assert (known["status"], known["slots"], known["queues"]) == ("online", 2, [place.queue])
            assert time.time() - typed_at < 60


@pytest.mark.parametrize("pool", POOLS)
def test_celerys_receiver_understands_an_opsq_worker(place: Place, pool: str) -> None:
    began = time.time()
    with (
        peers.running_client(place, "celery") as client,
        peers.running_worker(place, "opsq", pool, name="ours") as worker,
    ):
        client.run("watch", "ours@here")
        good = client.run("send", "fleet_app.nap", [0.05], {})
        bad = client.run("send", "fleet_app.boom", [], {})
        twice = client.run("send", "fleet_app.by_itself", [], {})
        late = client.run("send", "fleet_app.add", [1, 1], {"countdown": 0.6, "expires": 0.2})
        refused = client.run("send", "fleet_app.refuse", [], {})

        seen = client.run("watched_task", good, "SUCCESS")
        assert (seen["name"], seen["worker"], seen["result"]) == ("fleet_app.nap", "ours@here", "'rested'")
        assert (seen["args"], seen["kwargs"], seen["root_id"]) == ("(0.05,)", "{}", good)
        assert 0.05 <= seen["runtime"] < 5
        assert began <= seen["received"] <= seen["started"] <= seen["succeeded"]
        assert began <= seen["sent"] < seen["received"] + SENT_LATE_S
        assert sorted(seen["kinds"]) == ["task-received", "task-sent", "task-started", "task-succeeded"]
        failed = client.run("watched_task", bad, "FAILURE")
        assert failed["exception"] == "ValueError('boom', 42)"
        assert "in boom" in failed["traceback"]
        # Its exception is not promised: Celery's state drops that when the retry is received before it is announced.
        assert client.run("watched_task", twice, "SUCCESS")["retries"] == 1
        assert client.run("watched_task", late, "REVOKED")["revoked"] >= began
        assert client.run("watched_task", refused, "FAILURE")["exception"].startswith("Reject(")

        known = client.run("watched_worker", "ours@here")
        assert (known["alive"], known["pid"], known["freq"]) == (True, worker.process.pid, 2.0)
        assert known["sw_ident"]
        assert len(known["loadavg"]) == 3
        worker.ask_to_stop()
        client.run("watched_until_dead", "ours@here")


@full_only
def test_what_opsq_publishes_is_announced_to_celerys_receiver(place: Place) -> None:
    with (
        peers.running_client(place, "celery") as watcher,
        peers.running_client(place, "opsq") as client,
        peers.running_worker(place, "celery", "solo", name="stock", words=("-E",)),
    ):
        watcher.run("watch", "stock@here")
        sent = client.run("send", "fleet_app.add", [2, 3], {})
        seen = watcher.run("watched_task", sent, "SUCCESS")
        assert "task-sent" in seen["kinds"]
        assert (seen["args"], seen["kwargs"], seen["result"]) == ("(2, 3)", "{}", "5")
        assert seen["sent"] < seen["received"] + SENT_LATE_S


@full_only
def test_a_celery_worker_with_mingle_and_gossip_lives_beside_an_opsq_worker(place: Place) -> None:
    """It asks its neighbours at start and listens to their heartbeats ever after."""
    words = ("-m", "celery", "-A", "fleet_app", "worker", "-P", "solo", "-n", "stock@here", "-l", "DEBUG")
    with peers.running_worker(place, "opsq", "threads", name="ours"), running_monitor(place) as monitor:
        stock = peers.spawn(place, "celery", "stock", *words)
        try:
            stock.wait_for("ready")
            eventually(lambda: "ours@here joined the party" in stock.text(), "gossip that knows the opsq worker")
            for name in ("ours@here", "stock@here"):
                eventually(lambda name=name: (monitor.worker(name) or {}).get("status") == "online", name)
            assert "Traceback" not in stock.text(), stock.text()
            assert "missed heartbeat" not in stock.text()
        finally:
            stock.stop()
