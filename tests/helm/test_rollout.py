"""What a cluster does to workers that are at work: replaces them one by one, probes them, takes their broker away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helm.pod import Pod
from tests.helm.site import Site, installed
from tests.servers import redis_server

REPLICAS = 3
OUTAGE_S = 60.0
BLINK_S = 2.0


def _load(site: Site, stop: threading.Event) -> threading.Thread:
    """Call tasks of 0.1 to 1 s, about 15 a second, until ``stop``: more than six slots can do, so all are busy."""

    def send() -> None:
        number = 0
        while not stop.wait(0.06):
            site.send(range(number, number + 1), 100 + number * 37 % 900)
            number += 1

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def _finish(site: Site, stop: threading.Event, load: threading.Thread, pod: Pod) -> None:
    stop.set()
    load.join(30)
    pod.wait(lambda: not site.ledger().lost(), "every task ended")


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a broker that all pods reach."""
    if request.param == "rabbitmq":
        yield request.getfixturevalue("rabbitmq").url
        return
    with redis_server(tmp_path) as server:
        yield server.url


def test_a_rolling_restart_under_load_loses_nothing_and_repeats_nothing(broker: str, tmp_path: Path) -> None:
    with installed(tmp_path, broker) as site:
        old = [site.start("worker-default") for _ in range(REPLICAS)]
        for pod in old:
            pod.until("readiness")
        stop = threading.Event()
        load = _load(site, stop)
        old[0].wait(lambda: len(site.ledger().done) > 20, "work is going on")
        ended = []
        for pod in old:
            newest = site.start("worker-default").until("startup").until("readiness")
            ended.append(pod.delete())
            assert pod.process is not None
            assert pod.process.returncode == 0, pod.log.read_text()[-2000:]
        newest.wait(lambda: len(site.ledger().confirmed) > 100, "a hundred calls")
        _finish(site, stop, load, newest)
        ledger = site.ledger()
        assert ledger.lost() == set()
        assert set(ledger.times_started().values()) == {1}
        assert ledger.unended() == set()
        assert not any(each["killed"] for each in ended)
        print(f"{len(ledger.confirmed)} calls, pods ended after {[each['seconds'] for each in ended]} s")


def test_a_task_longer_than_the_grace_period_goes_to_another_worker(tmp_path: Path) -> None:
    sets = {"workerDefaults__terminationGracePeriodSeconds": 8}
    with redis_server(tmp_path) as server, installed(tmp_path, server.url, **sets) as site:
        first = site.start("worker-default").until("readiness")
        site.send(range(1), 600_000)
        first.wait(lambda: site.ledger().starts, "the task began")
        second = site.start("worker-default").until("readiness")
        assert first.delete()["killed"] is False
        second.wait(lambda: site.ledger().times_started()["0"] == 2, "the other worker began it")


def test_a_broker_that_is_away_restarts_nobody(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--appendonly", "yes") as server, installed(tmp_path, server.url) as site:
        pods = [site.start("worker-default") for _ in range(REPLICAS)] + [site.start("monitor")]
        for pod in pods:
            pod.until("startup").until("readiness")
        stop = threading.Event()
        for pod in pods:
            pod.watch(stop, BLINK_S)
        server.stop()
        pods[0].wait(lambda: not pods[0].ask("readiness"), "not ready without a broker")
        threading.Event().wait(OUTAGE_S)
        server.start()
        for pod in pods:
            pod.until("readiness")
        site.send(range(10), 5)
        pods[0].wait(lambda: len(site.ledger().done) == 10, "tasks run again")
        stop.set()
        assert [pod.restarts for pod in pods] == [0] * len(pods)
