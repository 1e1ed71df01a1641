"""Every pool that is registered passes the same suite."""

from __future__ import annotations

from typing import Any

import pytest

from opsq.core.pools.registry import POOLS, load_pool
from opsq.testing.contract_pool import PoolContract

MATRIX = ("prefork", "threads", "solo", "asyncio")


class TestPoolContract(PoolContract):
    """The suite, once per pool."""

    @pytest.fixture(params=MATRIX)
    def pool_class(self, request: pytest.FixtureRequest) -> type[Any]:
        """The pool under test."""
        return load_pool(request.param)


def test_the_matrix_is_complete() -> None:
    """A pool that is registered and not tested would be a promise nobody checks."""
    assert set(MATRIX) == set(POOLS)
