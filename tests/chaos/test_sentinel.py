"""A primary, a replica, a sentinel: when the primary dies, client and worker go on with the other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from redis import Redis

from tests.chaos.calls import RATE, Calls
from tests.chaos.site import Site
from tests.promises import within
from tests.sentinel import NAME, watched

BACK_S = 15.0


def replicated(port: int) -> float:
    """Wait until the replica has all that the primary confirmed; until when that was.

    Replication is asynchronous: what is confirmed later may be lost, which docs/promises.md says.
    """
    with Redis.from_url(f"redis://127.0.0.1:{port}/0") as client:
        at = time.time()
        client.set("mark", "1")  # WAIT looks at what its own connection wrote
        assert client.wait(1, 30_000) == 1
    return at


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
            replicated_at = replicated(primary.port)
            killed_at = time.time()
            primary.kill()
            site.until("a new primary", lambda: sentinel.primary() != primary.port)
            promoted_at = time.time()
            before = len(calls.confirmed)
            site.until("calls afterwards", lambda: len(calls.confirmed) > before + RATE)
            again_s = site.first_start_after(promoted_at)
            calls.end(threads)
            app.close()
            owed = {str(number) for number, at in calls.confirmed.items() if at < replicated_at or at > promoted_at}
            site.until("every call", lambda: owed <= site.ledger().done)
            record_property("again_s", again_s)
            record_property("promoted_after_s", promoted_at - killed_at)
            record_property("lost_by_replication", len(site.ledger().lost()))
            assert again_s <= within(BACK_S)
            assert calls.errors == []
