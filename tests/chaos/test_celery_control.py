"""The checker is checked on a known sinner: it finds what real Celery loses under the same faults.

A checker that finds nothing in opsq is worth something only if it finds this.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.ledger import Ledger
from tests.chaos.site import HERE, Site
from tests.interop.peers import python_of
from tests.servers import RedisServer, redis_server

TASKS = 60
MS = 200.0
QUIET_S = 3.0

pytestmark = pytest.mark.skipif(
    os.environ.get("CHAOS") != "full", reason="boots Celery again and again; make chaos runs it"
)


class Control(Site):
    """A queue with Celery workers."""

    def celery(self, *words: str) -> list[str]:
        return [python_of("celery"), "-m", "celery", "-A", "celery_app", *words]

    def surroundings(self) -> dict[str, str]:
        return os.environ | {
            "LEDGER": str(self.path),
            "BROKER": self.broker,
            "PYTHONPATH": str(HERE),
            "C_FORCE_ROOT": "1",
        }

    def publish(self, task: str) -> None:
        program = f"import celery_app\nfor number in range({TASKS}): celery_app.{task}.delay(number, {MS})\n"
        done = [python_of("celery"), "-c", program]
        subprocess.run(done, env=self.surroundings(), cwd=HERE, check=True)
        self.note("\n".join(f"C {number}" for number in range(TASKS)))

    @contextmanager
    def at_work(self) -> Iterator[subprocess.Popen[bytes]]:
        """A Celery worker with two processes, for the block."""
        with (self._folder / "celery.log").open("ab") as log:
            process = subprocess.Popen(
                self.celery("worker", "-P", "prefork", "-c", "2", "--without-mingle", "--without-gossip"),
                cwd=HERE,
                env=self.surroundings(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def until_quiet(self) -> None:
        """Wait until no line has come for a while."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET_S:
            now = self.path.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.1)

    def killed_in_the_middle(self, task: str) -> Ledger:
        """Kill a worker with its children while it works; let another one do the rest."""
        self.publish(task)
        with self.at_work() as worker:
            self.until("work", lambda: len(self.ledger().done) >= 10)
            self.until("two running", lambda: len(self.ledger().starts) - len(self.ledger().ends) == 2)
            began = time.time()
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            self.fault("kill", began)
        with self.at_work():
            self.until("work again", lambda: any(at > began + 0.5 for _, _, at in self.ledger().starts))
            self.until_quiet()
        return self.ledger()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Celery's queue is always called the same."""
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", "--appendonly", "yes") as server:
        yield server


@pytest.mark.parametrize(
    ("task", "most"),
    [("work", TASKS - 2), ("late", TASKS - 2)],
    ids=["early-acks-lose-what-runs", "late-acks-wait-an-hour"],
)
def test_what_celery_loses_is_found(redis: RedisServer, tmp_path: Path, task: str, most: int) -> None:
    with Control(redis.url, tmp_path) as control:
        ledger = control.killed_in_the_middle(task)
    report = ledger.report()
    assert report["verdict"] == "broken", report
    assert TASKS - report["executed"] == report["lost"] >= TASKS - most, report
    assert sum(violation.startswith("lost: ") for violation in report["violations"]) >= TASKS - most
    running = {id for id, _ in ledger.unended()}
    assert running
    assert running <= ledger.lost(), "what ran when it was killed is lost"


def test_the_same_fire_costs_opsq_nothing(redis: RedisServer, tmp_path: Path) -> None:
    with Site(redis.url, tmp_path) as site:
        site.call(range(TASKS), MS)
        worker = site.worker("one", pool="prefork", slots=2)
        site.until("work", lambda: len(site.ledger().done) >= 10)
        site.until("two running", lambda: len(site.ledger().starts) - len(site.ledger().ends) == 2)
        began = time.time()
        worker.kill()
        worker.wait()
        site.fault("kill", began)
        site.worker("two", pool="prefork", slots=2)
        site.until("every task", lambda: len(site.ledger().done) == TASKS)
        assert site.ledger().violations() == []
