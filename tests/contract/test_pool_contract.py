"""Every pool that is registered passes the same suite.

The pools of greenlets need a patched process, which no other pool should be tested in: a test of their
own runs this module once more in such a process, where the matrix is that one pool.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from opsq.core.pools.greenlets import patched_by
from opsq.core.pools.registry import POOLS, load_pool
from opsq.testing.contract_pool import PoolContract
from opsq.testing.contract_pool_table import PoolTable

MATRIX = ("prefork", "threads", "solo", "asyncio")
GREEN = ("gevent", "eventlet")
HERE = Path(__file__)
PATIENCE_S = 120


class TestPoolContract(PoolContract, PoolTable):
    """The suite, once per pool."""

    @pytest.fixture(params=[patched_by()] if patched_by() else MATRIX)
    def pool_class(self, request: pytest.FixtureRequest) -> type[Any]:
        """The pool under test."""
        return load_pool(request.param)


@pytest.mark.parametrize("library", GREEN)
def test_green_pools_pass_the_suite_in_a_patched_process(library: str, tmp_path: Path) -> None:
    """The same tests, in a process where the library has patched everything first."""
    words = ("-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", f"--basetemp={tmp_path / 'base'}")
    suites = (f"{HERE}::TestPoolContract", str(HERE.with_name("green_cases.py")))
    done = subprocess.run(
        [sys.executable, str(HERE.with_name("green_pytest.py")), library, *words, *suites],
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_the_matrix_is_complete() -> None:
    """A pool that is registered and not tested would be a promise nobody checks."""
    assert {*MATRIX, *GREEN} == set(POOLS)
