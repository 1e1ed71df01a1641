"""A real Prometheus scrapes the monitor, and the queries of the dashboards that people have find what they ask for."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from opsq.web.metrics_page import MetricsPage
from opsq.web.metrics_reading import reading
from opsq.web.server import Address, WebServer
from tests.servers import free_port, missing, wait_for_port
from tests.web.dashboards import QUERIES
from tests.web.world import NIGHT, World

CONFIG = """
global: {{scrape_interval: 300ms, scrape_timeout: 250ms}}
scrape_configs:
  - job_name: opsq-celery
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
PATIENCE_S = 60.0


def shop() -> World:
    """Two queues, two workers and a third that is lost; something of everything."""
    world = World()
    world.tell("worker-online", "reports-1", world.clock.now(), freq=2.0, active=0, processed=0)
    world.step(1.0)
    world.step(300.0)
    work(world, 0)
    return world


def work(world: World, turn: int) -> None:
    """One round of the shop: each outcome once in each queue."""
    at = world.clock.now()
    for host, queue in (("img-1", "images"), ("mail-1", "mail")):
        world.tell(
            "worker-heartbeat",
            host,
            at,
            freq=2.0,
            active=3,
            processed=9,
            slots=4,
            busy=3,
            queues=[queue],
            pool="prefork",
        )
        for n, (end, fields) in enumerate(OUTCOMES.items()):
            id = f"{turn}-{queue}-{n}"
            call = {"name": f"shop.{queue}.work", "queue": queue, "retries": 0, "attempt": 1, "published_at": at}
            world.tell("task-sent", "web-3", at, id, **call)
            world.tell("task-received", host, at + 0.1, id, **call, delivered_at=at + 0.1)
            times = {"delivered_at": at + 0.1, "slot_at": at + 0.2, "started_at": at + 0.2}
            world.tell("task-started", host, at + 0.2, id, **call, **times)
            world.tell(end, host, at + 0.5, id, **call, **times, finished_at=at + 0.5, **fields)
    world.step(1.0)
    world.depth("images", 130, 90.0)
    world.depth("mail", 4, 1.0)


OUTCOMES: dict[str, dict[str, Any]] = {
    "task-succeeded": {"runtime": 0.3, "result": "None"},
    "task-failed": {"exception": "shop.Broken('no')", "traceback": "Traceback\n"},
    "task-retried": {"exception": "TimeoutError('slow')"},
    "task-revoked": {"terminated": True, "signum": 15},
    "task-rejected": {"requeue": False},
}


@contextmanager
def prometheus(folder: Path, port: int) -> Iterator[str]:
    """A Prometheus of our own for the block; yields its address."""
    program = shutil.which("prometheus")
    if program is None:
        missing("prometheus", "apt-get install prometheus")
    config, own = folder / "prometheus.yml", free_port()
    config.write_text(CONFIG.format(port=port))
    words = [
        *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=error"),
        *(f"--web.listen-address=127.0.0.1:{own}", "--enable-feature=exemplar-storage"),
    ]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(own, process)
        until_ready(f"http://127.0.0.1:{own}/-/ready")
        yield f"http://127.0.0.1:{own}/api/v1/"
    finally:
        process.terminate()
        process.wait(10)


def until_ready(url: str) -> None:
    """Wait until it reads what it kept."""
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at:
        try:
            urlopen(url, timeout=5).close()
        except HTTPError:
            threading.Event().wait(0.05)
        else:
            return
    pytest.fail("Prometheus does not become ready")


def ask(address: str, path: str, **query: str) -> Any:
    """Ask Prometheus' API."""
    with urlopen(f"{address}{path}?{urlencode(query)}", timeout=10) as answer:
        return json.load(answer)["data"]


def until_scraped(address: str, value: float) -> None:
    """Wait until a scrape saw so many ended attempts."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        found = ask(address, "query", query='sum(opsq_tasks_total{state="succeeded"})')["result"]
        if found and float(found[0]["value"][1]) >= value:
            return
        if time.monotonic() > give_up_at:
            pytest.fail(f"not scraped: {ask(address, 'targets')['activeTargets']}")
        threading.Event().wait(0.05)


def test_a_real_prometheus_finds_what_dashboards_ask_for(tmp_path: Path) -> None:
    world = shop()
    server = WebServer(world.deps(), Address("127.0.0.1", 0))
    server.start()
    try:
        with prometheus(tmp_path, server.address.port) as address:
            for turn in range(1, 4):
                until_scraped(address, 2 * turn)
                work(world, turn)
            until_scraped(address, 8)
            (target,) = ask(address, "targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            nothing = [query for query in QUERIES if not ask(address, "query", query=query)["result"]]
            assert not nothing
            times = {"start": str(NIGHT), "end": str(time.time())}
            found = ask(address, "query_exemplars", query="opsq_task_run_seconds_bucket", **times)
            assert {"task_id"} == {name for one in found for each in one["exemplars"] for name in each["labels"]}
    finally:
        server.stop(3.0)


def test_promtool_has_nothing_to_say(world: World) -> None:
    program = shutil.which("promtool")
    if program is None:
        missing("promtool", "apt-get install prometheus")
    body, _ = MetricsPage(lambda: reading(world.deps())).answer("text/plain")
    ran = subprocess.run([program, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
