"""The store contract on Cassandra; ``test_results_apart.py`` starts it, with the port in ``CASSANDRA_PORT``."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest

from opsq.testing.contract_backend import BackendContract, Store
from tests.servers_cassandra import KEYSPACE

PORT = int(os.environ["CASSANDRA_PORT"])


class TestCassandra(BackendContract):
    """Cassandra."""

    kept: ClassVar[tuple[str, ...]] = ()

    @pytest.fixture
    def store(self) -> Store:
        """The server's."""
        return {
            "result_backend": "cassandra://",
            "cassandra_servers": ("127.0.0.1",),
            "cassandra_port": PORT,
            "cassandra_keyspace": KEYSPACE,
        }
