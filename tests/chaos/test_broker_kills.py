"""Every broker that several processes can use: a real worker, its main process killed in the middle, nothing lost.

In ``make test`` a few tasks each, with CHAOS=full 1,000; which brokers there are says the registry. Run
alone for the figures: ``python tests/chaos/test_broker_kills.py --broker sqs --tasks 1000``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from ledger import Ledger  # noqa: E402  a sibling, and this file is also run as a script
from test_sqlite_kills import Run  # noqa: E402

from opsq.broker.registry import BROKERS  # noqa: E402
from tests.promises import within  # noqa: E402
from tests.rabbitmq import rabbitmq_server  # noqa: E402
from tests.servers import redis_server  # noqa: E402
from tests.servers_cloud import SQS_OPTIONS, ferretdb_server, sqs_server  # noqa: E402
from tests.servers_sql import maria_server, postgres_server  # noqa: E402

LEASE_S = 3
Settings = dict[str, str]
# The same broker behind another door; its own kills would show nothing new.
TWINS = {"amqps": "amqp", "sentinel": "redis"}
# (tasks, seconds from the kill until the next task starts, a worker's own start included)
SHORT = {"sqs": 40}
BACK_WITHIN_S = within(12.0)


@contextmanager
def broker(name: str, folder: Path) -> Iterator[Settings]:
    """The environment of a worker on a broker of its own."""
    with ExitStack() as stack:
        settings = {"OPSQ_LEASE_SECONDS": str(LEASE_S)}
        if name == "redis":
            settings["OPSQ_BROKER_URL"] = stack.enter_context(redis_server(folder)).url
        elif name == "amqp":
            settings["OPSQ_BROKER_URL"] = stack.enter_context(rabbitmq_server(folder)).url
        elif name == "postgresql":
            settings["OPSQ_BROKER_URL"] = f"sqla+{stack.enter_context(postgres_server()).url}"
        elif name == "mariadb":
            settings["OPSQ_BROKER_URL"] = f"sqla+{stack.enter_context(maria_server()).url}"
        elif name == "sqs":
            settings["OPSQ_BROKER_URL"] = stack.enter_context(sqs_server()).url
            settings["OPSQ_BROKER_TRANSPORT_OPTIONS"] = json.dumps(SQS_OPTIONS)
        elif name == "mongodb":
            settings["OPSQ_BROKER_URL"] = stack.enter_context(ferretdb_server(folder)).url
        yield settings


class BrokerRun(Run):
    """The experiment on another broker; results disabled, since the ledger is what counts."""

    def __init__(self, folder: Path, settings: Settings, tasks: int, seed: int = 1) -> None:
        super().__init__(folder, tasks, 1, seed)
        self.settings = settings

    def _env(self) -> dict[str, str]:
        return super()._env() | self.settings

    def _figures(self, exit_code: int, seconds: float) -> dict[str, Any]:
        ledger = Ledger.read(self.path)
        started = ledger.times_started()
        return {
            "tasks": self.tasks,
            "kills_that_hit": len(ledger.faults) - self.misses,
            "executed": len(ledger.done),
            "lost": self.tasks - len(ledger.done),
            "started_twice": sum(count > 1 for count in started.values()),
            "violations": ledger.violations()[:20],
            "orphans": self.orphans,
            "interrupted_again_after_s": again_after(ledger),
            "exit_code": exit_code,
            "errors_logged": self.log.read_text().count(" ERROR "),
            "seconds": round(seconds, 1),
        }


def again_after(ledger: Ledger) -> float | None:
    """The longest time from the kill to the next start of a task that it interrupted, in seconds."""
    waits = []
    for id, pid in ledger.unended():
        first = min(at for other, other_pid, at in ledger.starts if (other, other_pid) == (id, pid))
        kill = next((fault.began for fault in ledger.faults if fault.ended >= first), None)
        again = [at for other, other_pid, at in ledger.starts if other == id and at > first]
        if kill is not None and again:
            waits.append(min(again) - kill)
    return round(max(waits), 2) if waits else None


def check(figures: dict[str, Any]) -> list[str]:
    """Say what of the acceptance is not met."""
    wrong = []
    if figures["lost"] or figures["violations"]:
        wrong.append(f"lost {figures['lost']}, violations {figures['violations'][:5]}")
    if not figures["kills_that_hit"]:
        wrong.append("the kill interrupted nothing")
    if (figures["interrupted_again_after_s"] or 0.0) > BACK_WITHIN_S:
        wrong.append(f"interrupted work came back only after {figures['interrupted_again_after_s']} s")
    if figures["exit_code"] != 0 or figures["orphans"]:
        wrong.append(f"exit code {figures['exit_code']}, orphans {figures['orphans']}")
    return wrong


FULL = os.environ.get("CHAOS") == "full"
QUICK_BROKERS = ("postgresql",)  # SQLite, Redis and RabbitMQ have kills of their own; the others take long
FULL_BROKERS = ("sqlite", "redis", "amqp", "postgresql", "mariadb", "sqs", "mongodb")


@pytest.mark.parametrize("name", FULL_BROKERS if FULL else QUICK_BROKERS)
def test_a_killed_worker_loses_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    tasks = 1_000 if FULL else SHORT.get(name, 150)
    with broker(name, tmp_path / "server") as settings:
        figures = BrokerRun(tmp_path, settings, tasks).go()
    assert not check(figures), json.dumps(figures, indent=1)


def test_every_registered_broker_is_killed_somewhere() -> None:
    killed = {*FULL_BROKERS, "sqla" if "postgresql" in FULL_BROKERS else ""}
    shared = {TWINS.get(name, name) for name, info in BROKERS.items() if info.features.cross_process}
    assert shared <= killed


def main() -> int:
    """Run the experiment on one broker and print its figures."""
    parser = argparse.ArgumentParser(description="SIGKILL a worker in the middle of its work.")
    parser.add_argument("--broker", choices=FULL_BROKERS, required=True)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with broker(options.broker, folder / "server") as settings:
            figures = BrokerRun(folder, settings, options.tasks, options.seed).go()
    wrong = check(figures)
    print(json.dumps({"broker": options.broker} | figures | {"wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
