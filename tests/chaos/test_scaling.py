"""A pool that is resized all the time while it works: no task lost, none run twice, none stuck.

The family of hangs and losses that shrinking has brought others: celery 1266, 1926, 2672, 4185, 6015. CHAOS=full
sends 10,000 commands.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from opsq.testing.harness import waiting
from tests.chaos.prefork_worker import PreforkWorker

COMMANDS = 10_000 if os.environ.get("CHAOS") == "full" else 300
PER_COMMAND = 4
"""Tasks sent for each."""
MOST = 6
PATIENCE_S = 900.0 if os.environ.get("CHAOS") == "full" else 60.0


@pytest.mark.parametrize("recycling", [(), ("--max-tasks-per-child", "50")], ids=["lasting", "recycled"])
def test_random_sizes_lose_and_double_nothing(tmp_path: Path, recycling: tuple[str, ...]) -> None:
    dice, slots, sent = random.Random(8), 2, 0
    worker = PreforkWorker(tmp_path, "-l", "WARNING", *recycling)
    try:
        worker.until(lambda: worker.app.control.ping(timeout=1.0), "the first answer")
        for number in range(COMMANDS):
            size = dice.randint(1, MOST)
            if size > slots:
                worker.app.control.pool_grow(size - slots)
            elif size < slots:
                worker.app.control.pool_shrink(slots - size)
            slots = size
            if number % 50 == 0:
                worker.app.send_many(
                    [
                        worker.app.signature("prefork_app.small", args=(task,))
                        for task in range(sent, sent + 50 * PER_COMMAND)
                    ]
                )
                sent += 50 * PER_COMMAND
        worker.until(lambda: len(worker.lines("D")) >= sent, f"{sent} ends", within_s=PATIENCE_S)
        worker.until(lambda: waiting(worker.app).unacked == 0, "the last acknowledgement")
        worker.until(lambda: len(worker.children()) == slots, f"{slots} children, as the last command said", PATIENCE_S)
        assert worker.stop() == 0
    finally:
        worker.close()
    runs = Counter(id for id, _, _ in worker.lines("S"))
    assert len(runs) == sent, "something was lost"
    assert set(runs.values()) == {1}, "something ran twice"
    assert waiting(worker.app).ready == 0
