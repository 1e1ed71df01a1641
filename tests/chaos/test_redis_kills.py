"""Redis broker with appendonly, prefork worker, SIGKILL: nothing is lost, and the work is back in seconds.

Run alone for the figures: ``python tests/chaos/test_redis_kills.py --tasks 10000 --kills 20``; the
last line is one JSON object. In ``make test`` a short run, in ``make chaos`` the full one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import redis

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from ledger import Ledger  # noqa: E402  a sibling, and this file is also run as a script
from test_sqlite_kills import ORPHANS_MAX_S, Run  # noqa: E402

from tests.servers import RedisServer, redis_server  # noqa: E402

BACK_WITHIN_S = 6.0
APPENDONLY = ("--appendonly", "yes", "--appendfsync", "everysec")
LEFT_OVER = ("unacked", "unacked_index", "celery", "opsq:owners", "opsq:alive_until")


class RedisRun(Run):
    """The same experiment with messages and results in Redis."""

    def __init__(self, folder: Path, server: RedisServer, tasks: int, kills: int, seed: int) -> None:
        super().__init__(folder, tasks, kills, seed)
        self.server = server

    def _env(self) -> dict[str, str]:
        return super()._env() | {"OPSQ_BROKER_URL": self.server.url, "OPSQ_RESULT_BACKEND": self.server.url}

    def _figures(self, exit_code: int, seconds: float) -> dict[str, Any]:
        ledger = Ledger.read(self.path)
        started = ledger.times_started()
        with redis.Redis.from_url(self.server.url) as client:
            left = [key.decode() for key in client.keys("opsq:lease:*")]
            left += [key for key in LEFT_OVER if client.exists(key)]
        return {
            "tasks": self.tasks,
            "kills": len(ledger.faults),
            "kills_that_hit": len(ledger.faults) - self.misses,
            "executed": len(ledger.done),
            "lost": self.tasks - len(ledger.done),
            "started_twice": sum(count > 1 for count in started.values()),
            "most_starts_of_one": max(started.values()),
            "violations": ledger.violations()[:20],
            "orphans": self.orphans,
            "interrupted_again_after_s": interrupted_again_after(ledger),
            "restart_to_first_task_s": self._restarts(ledger),
            "left_over": left,
            "exit_code": exit_code,
            "seconds": round(seconds, 1),
        }


def interrupted_again_after(ledger: Ledger) -> dict[str, float]:
    """Median and maximum of the seconds from a kill to the next start of a task it interrupted."""
    unended = ledger.unended()
    waits = []
    for id, pid, at in ledger.starts:
        kill = next((fault.began for fault in ledger.faults if fault.ended >= at), None)
        again = [later for other, _, later in ledger.starts if other == id and later > at]
        if (id, pid) in unended and kill is not None and again:
            waits.append(min(again) - kill)
    waits.sort()
    return {"median": round(waits[len(waits) // 2], 2), "max": round(waits[-1], 2)} if waits else {}


def check(figures: dict[str, Any], kills: int) -> list[str]:
    """Say what of the acceptance is not met."""
    wrong = []
    if figures["lost"] or figures["violations"]:
        wrong.append(f"lost {figures['lost']}, violations {figures['violations'][:5]}")
    if figures["kills_that_hit"] < kills:
        wrong.append(f"only {figures['kills_that_hit']} kills interrupted a task")
    if figures["orphans"]:
        wrong.append(f"orphans {ORPHANS_MAX_S} s after a kill: {figures['orphans']}")
    if figures["interrupted_again_after_s"].get("max", 0.0) > BACK_WITHIN_S:
        wrong.append(f"interrupted work came back only after {figures['interrupted_again_after_s']} s")
    if figures["left_over"]:
        wrong.append(f"keys left over: {figures['left_over']}")
    if figures["exit_code"] != 0:
        wrong.append(f"the last worker ended with exit code {figures['exit_code']}")
    return wrong


def test_sigkill_of_the_worker_loses_nothing_on_redis(tmp_path: Path) -> None:
    full = os.environ.get("CHAOS") == "full"
    tasks, kills = (10_000, 20) if full else (1_000, 4)
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", *APPENDONLY) as server:
        figures = RedisRun(tmp_path, server, tasks, kills, seed=int(os.environ.get("CHAOS_SEED", "1"))).go()
    assert not check(figures, kills), json.dumps(figures, indent=1)


def main() -> int:
    """Run the experiment and print its figures."""
    parser = argparse.ArgumentParser(description="SIGKILL a worker on Redis again and again.")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "redis"
        data.mkdir()
        with redis_server(data, *APPENDONLY) as server:
            figures = RedisRun(Path(folder), server, options.tasks, options.kills, options.seed).go()
    wrong = check(figures, options.kills)
    print(json.dumps(figures | {"seed": options.seed, "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
