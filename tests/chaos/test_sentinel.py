"""A primary, a replica, a sentinel: when the primary dies, client and worker go on with the other."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.chaos.calls import RATE, Calls
from tests.chaos.site import Site
from tests.servers import RedisServer, free_port, missing, redis_server, wait_for_port

NAME = "opsq-primary"
BACK_S = 15.0
REPLICATED_S = 1.0
"""Replication is asynchronous: the last second before a death may be lost, which docs/promises.md says."""


class Sentinel:
    """One sentinel that watches one primary; it alone is the quorum."""

    def __init__(self, folder: Path, primary: RedisServer) -> None:
        self.port = free_port()
        path = folder / "sentinel.conf"
        path.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds {NAME} 1000\n"
            f"sentinel failover-timeout {NAME} 3000\n"
        )
        program = shutil.which("redis-server") or missing("redis-server", "apt-get install redis-server")
        self._process = subprocess.Popen(
            [program, str(path), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_port(self.port, self._process)
        self._client = redis.Redis(port=self.port, decode_responses=True)

    def primary(self) -> int:
        """The port of whoever is it now."""
        address: Any = self._client.sentinel_get_master_addr_by_name(NAME)
        return int(address[1])

    def knows_a_replica(self) -> bool:
        """Whether there is one to promote, in step with its primary."""
        return any(each["master-link-status"] == "ok" for each in self._client.sentinel_slaves(NAME))

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(10)


@contextmanager
def watched(folder: Path) -> Iterator[tuple[RedisServer, Sentinel]]:
    """A primary with its replica, and the sentinel."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    with redis_server(folder / "one", "--repl-diskless-sync-delay", "0") as primary:
        follows = ("--replicaof", f"127.0.0.1 {primary.port}")
        with redis_server(folder / "two", *follows):
            sentinel = Sentinel(folder, primary)
            try:
                yield primary, sentinel
            finally:
                sentinel.close()


def test_client_and_worker_follow_the_sentinel(tmp_path: Path, record_property: Any) -> None:
    options = {"master_name": NAME}
    with watched(tmp_path) as (primary, sentinel):
        url = f"sentinel://127.0.0.1:{sentinel.port}/0"
        with Site(url, tmp_path, OPSQ_BROKER_TRANSPORT_OPTIONS=json.dumps(options)) as site:
            site.until("the replica", sentinel.knows_a_replica)
            retry = {"max_retries": None, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5}
            app = site.app(broker_transport_options=options, task_publish_retry_policy=retry, publish_timeout=20.0)
            calls = Calls()
            threads = calls.start(app, site)
            site.worker("w")
            site.until("work before", lambda: len(site.ledger().done) > RATE // 4)
            killed_at = time.time()
            primary.kill()
            site.until("a new primary", lambda: sentinel.primary() != primary.port)
            promoted_at = time.time()
            before = len(calls.confirmed)
            site.until("calls afterwards", lambda: len(calls.confirmed) > before + RATE)
            again_s = site.first_start_after(promoted_at)
            calls.end(threads)
            app.close()
            owed = {
                str(number)
                for number, at in calls.confirmed.items()
                if at < killed_at - REPLICATED_S or at > promoted_at
            }
            site.until("every call", lambda: owed <= site.ledger().done)
            record_property("again_s", again_s)
            record_property("promoted_after_s", promoted_at - killed_at)
            record_property("lost_by_replication", len(site.ledger().lost()))
            assert again_s <= BACK_S
            assert calls.errors == []
