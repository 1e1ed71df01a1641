"""Redis broker with appendonly, prefork worker, SIGKILL: nothing is lost, and the work is back in seconds.

Run alone for the figures: ``python tests/chaos/test_redis_kills.py --tasks 10000 --kills 20``; the
last line is one JSON object. In ``make test`` a short run, in ``make chaos`` the full one.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from ledger import Ledger  # noqa: E402  a sibling, and this file is also run as a script
from test_sqlite_kills import ORPHANS_MAX_S, Run  # noqa: E402

from tests.promises import within  # noqa: E402
from tests.servers import RedisServer, redis_server  # noqa: E402

FULL = os.environ.get("CHAOS") == "full"
BACK_WITHIN_S = within(6.0)
APPENDONLY = ("--appendonly", "yes", "--appendfsync", "everysec")
LEFT_OVER = ("unacked", "unacked_index", "celery", "opsq:owners", "opsq:alive_until")


class RedisRun(Run):
    """The same experiment with messages and results in Redis."""

    def __init__(self, folder: Path, server: RedisServer, tasks: int, kills: int, seed: int) -> None:
        super().__init__(folder, tasks, kills, seed)
        self.server = server

    def _env(self) -> dict[str, str]:
        return super()._env() | {"OPSQ_BROKER_URL": self.server.url, "OPSQ_RESULT_BACKEND": self.server.url}

    def _drained(self) -> bool:
        with redis.Redis.from_url(self.server.url) as client:
            return super()._drained() and not client.exists("unacked", "celery")

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
    kills = [fault.ended for fault in ledger.faults]
    starts: dict[str, list[float]] = {}
    for id, _, at in ledger.starts:
        starts.setdefault(id, []).append(at)
    waits = []
    for id, pid, at in ledger.starts:
        place = bisect.bisect_left(kills, at)
        again = [later for later in starts[id] if later > at]
        if (id, pid) in unended and place < len(kills) and again:
            waits.append(min(again) - ledger.faults[place].began)
    waits.sort()
    return {"median": round(waits[len(waits) // 2], 2), "max": round(waits[-1], 2)} if waits else {}


def check(figures: dict[str, Any], kills: int, back_within_s: float = BACK_WITHIN_S) -> list[str]:
    """Say what of the acceptance is not met."""
    wrong = []
    if figures["lost"] or figures["violations"]:
        wrong.append(f"lost {figures['lost']}, violations {figures['violations'][:5]}")
    if figures["kills_that_hit"] < kills:
        wrong.append(f"only {figures['kills_that_hit']} kills interrupted a task")
    if figures["orphans"]:
        wrong.append(f"orphans {ORPHANS_MAX_S} s after a kill: {figures['orphans']}")
    if figures["interrupted_again_after_s"].get("max", 0.0) > back_within_s:
        wrong.append(f"interrupted work came back only after {figures['interrupted_again_after_s']} s")
    if figures["left_over"]:
        wrong.append(f"keys left over: {figures['left_over']}")
    if figures["exit_code"] != 0:
        wrong.append(f"the last worker ended with exit code {figures['exit_code']}")
    return wrong


def kill_again_and_again(folder: Path, tasks: int, kills: int) -> None:
    """One experiment with a server of its own; fails with the figures, and how to repeat it."""
    (folder / "redis").mkdir()
    seed = int(os.environ.get("CHAOS_SEED", "1"))
    with redis_server(folder / "redis", *APPENDONLY) as server:
        figures = RedisRun(folder, server, tasks, kills, seed).go()
    again = f"python tests/chaos/test_redis_kills.py --tasks {tasks} --kills {kills} --seed {seed}"
    assert not check(figures, kills), f"{again}\n{json.dumps(figures, indent=1)}"


def test_sigkill_of_the_worker_loses_nothing_on_redis(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, *((10_000, 20) if FULL else (1_000, 4)))


@pytest.mark.skipif(not FULL, reason="takes ten minutes; make chaos runs it")
def test_a_thousand_kills_lose_nothing_on_redis(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 30_000, 1_000)


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
