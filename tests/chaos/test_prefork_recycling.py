"""Children that are replaced all the time, by count and by memory: no loss, no double, no stuck child.

The family of hangs that recycling has brought others: celery 4185, 1926, 2672; billiard 323. CHAOS=full
runs 50,000 tasks of each kind.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import psutil
import pytest

from opsq.testing.harness import waiting
from tests.chaos.prefork_worker import PreforkWorker

FULL = os.environ.get("CHAOS") == "full"
TASKS = 50_000 if FULL else 3_000
PER_CHILD = 100
LEAK_KIB = 100
MEMORY_KIB = 50_000


@pytest.mark.parametrize("by", ["count", "memory"])
def test_recycling_loses_and_doubles_nothing(tmp_path: Path, by: str) -> None:
    limit = ("--max-tasks-per-child", str(PER_CHILD)) if by == "count" else ("--max-memory-per-child", str(MEMORY_KIB))
    worker = PreforkWorker(tmp_path, *limit, "-l", "WARNING")
    try:
        worker.send_small(TASKS, kib=LEAK_KIB if by == "memory" else 0)
        worker.until(lambda: len(worker.lines("D")) >= TASKS, f"{TASKS} ends", within_s=600.0 if FULL else 60.0)
        worker.until(lambda: waiting(worker.app).unacked == 0, "the last acknowledgement")
        family = psutil.Process(worker.process.pid).children(recursive=True)
        worker.until(lambda: len(worker.children()) == worker.slots, "as many children as slots")
        assert worker.stop() == 0
    finally:
        worker.close()
    runs = Counter(id for id, _, _ in worker.lines("S"))
    assert len(runs) == TASKS
    assert set(runs.values()) == {1}, "something ran twice"
    assert len(worker.lines("D")) == TASKS
    assert waiting(worker.app).ready == 0
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    per_child = Counter(pid for _, pid, _ in worker.lines("S"))
    most = PER_CHILD if by == "count" else MEMORY_KIB // LEAK_KIB
    assert max(per_child.values()) <= most
    assert len(per_child) >= TASKS // most
