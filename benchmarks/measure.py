"""A measure that a user might scale by: the number in a file."""

from __future__ import annotations

import os
from pathlib import Path


def read() -> float:
    """Return it."""
    return float(Path(os.environ["BENCH_MEASURE"]).read_text())
