"""The store contract on Cassandra; ``test_results_apart.py`` starts it, with the port in ``CASSANDRA_PORT``."""

from __future__ import annotations

import os
from typing import ClassVar

import pytest
from cassandra.cluster import Cluster

from opsq.testing.contract_backend import BackendContract, Store

PORT = int(os.environ["CASSANDRA_PORT"])
KEYSPACE = "shop"


@pytest.fixture(scope="session", autouse=True)
def keyspace() -> None:
    cluster = Cluster(["127.0.0.1"], port=PORT)
    cluster.connect().execute(
        f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    )
    cluster.shutdown()


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
