"""RabbitMQ, prefork worker, SIGKILL: nothing is lost, and what the dead worker held runs again at once.

Run alone for the figures: ``python tests/chaos/test_amqp_kills.py --tasks 10000 --kills 20``; the last
line is one JSON object. ``make chaos`` runs it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from ledger import Ledger  # noqa: E402  a sibling, and this file is also run as a script
from test_redis_kills import check, interrupted_again_after  # noqa: E402
from test_sqlite_kills import Run  # noqa: E402

from tests.rabbitmq import RabbitServer, rabbitmq_server  # noqa: E402

BACK_WITHIN_S = 2.0


class AmqpRun(Run):
    """The same experiment with messages in RabbitMQ, and results in SQLite."""

    def __init__(self, folder: Path, server: RabbitServer, tasks: int, kills: int, seed: int) -> None:
        super().__init__(folder, tasks, kills, seed)
        self.server = server
        self.queue = f"kills-{uuid4().hex[:8]}"

    def _env(self) -> dict[str, str]:
        return super()._env() | {
            "OPSQ_BROKER_URL": self.server.url,
            "OPSQ_RESULT_BACKEND": f"sqlite:///{self.folder}/results.db",
            "OPSQ_TASK_DEFAULT_QUEUE": self.queue,
        }

    def _left_over(self) -> list[str]:
        counts = self.server.control("list_queues", "name", "messages", "--no-table-headers").splitlines()
        return [line for line in counts if line.split()[0] == self.queue and line.split()[1] != "0"]

    def _drained(self) -> bool:
        return super()._drained() and not self._left_over()

    def _figures(self, exit_code: int, seconds: float) -> dict[str, Any]:
        ledger = Ledger.read(self.path)
        return {
            **ledger.report(),
            "tasks": self.tasks,
            "kills": len(ledger.faults),
            "kills_that_hit": len(ledger.faults) - self.misses,
            "orphans": self.orphans,
            "interrupted_again_after_s": interrupted_again_after(ledger),
            "restart_to_first_task_s": self._restarts(ledger),
            "left_over": self._left_over(),
            "exit_code": exit_code,
            "seconds": round(seconds, 1),
        }


@pytest.mark.skipif(
    os.environ.get("CHAOS") != "full", reason="test_broker_kills.py has a short one; make chaos runs it"
)
def test_sigkill_of_the_worker_loses_nothing_on_rabbitmq(tmp_path: Path, rabbitmq: RabbitServer) -> None:
    tasks, kills = 10_000, 20
    figures = AmqpRun(tmp_path, rabbitmq, tasks, kills, seed=int(os.environ.get("CHAOS_SEED", "1"))).go()
    assert not check(figures, kills, BACK_WITHIN_S), json.dumps(figures, indent=1)


def main() -> int:
    """Run the experiment and print its figures."""
    parser = argparse.ArgumentParser(description="SIGKILL a worker on RabbitMQ again and again.")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rabbit"
        data.mkdir()
        with rabbitmq_server(data) as server:
            figures = AmqpRun(Path(folder), server, options.tasks, options.kills, options.seed).go()
    wrong = check(figures, options.kills, BACK_WITHIN_S)
    print(json.dumps(figures | {"seed": options.seed, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
