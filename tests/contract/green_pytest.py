"""Run pytest in a process that a greenlet library has patched: ``python green_pytest.py gevent WORDS``.

A process cannot be unpatched, and the suite's own conditions and clocks must be patched with the pool
they watch, so the whole of pytest runs here, patched as ``opsq worker -P gevent`` is.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    runpy.run_path(str(ROOT / "opsq/cli/early_patch.py"))["patch"](sys.argv[1])
    import pytest

    sys.exit(pytest.main(sys.argv[2:]))
