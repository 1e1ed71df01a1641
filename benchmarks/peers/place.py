"""What a driver finds in its environment; nothing here needs more than the standard library.

Drivers run in ``.venv-peers``, where there is no opsq.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.board import Board

BROKER = os.environ["BENCH_BROKER"]
"""``redis`` or ``amqp``."""
URL = os.environ["BENCH_BROKER_URL"]
SLOTS = int(os.environ["BENCH_SLOTS"])
board = Board(Path(os.environ["BENCH_BOARD"]), int(os.environ["BENCH_ROWS"]))
