"""A Cassandra of the tests' own: the real one, from its Java archives. It takes half a minute to start."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.servers import free_port, missing

LIBRARIES: Final = Path(__file__).resolve().parent.parent / ".servers" / "cassandra"
"""Where ``scripts/install-cassandra`` puts the archives."""
START_S: Final = 120.0

# Java 17 lets nobody into these without being told; Cassandra's own scripts open the same.
_INSIDES: Final = (
    *("java.base/java.io", "java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect"),
    *("java.base/java.math", "java.base/java.net", "java.base/java.nio", "java.base/java.nio.charset"),
    *("java.base/java.nio.file.spi", "java.base/java.util", "java.base/java.util.concurrent"),
    *("java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks"),
    *("java.base/jdk.internal.loader", "java.base/jdk.internal.math", "java.base/jdk.internal.misc"),
    *("java.base/jdk.internal.module", "java.base/jdk.internal.ref", "java.base/jdk.internal.reflect"),
    *("java.base/jdk.internal.util", "java.base/jdk.internal.util.jar", "java.base/sun.nio.ch"),
    *("java.base/sun.nio.fs", "java.management/com.sun.jmx.mbeanserver", "java.management/sun.management"),
    *("java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.registry"),
    *("java.rmi/sun.rmi.server", "java.rmi/sun.rmi.transport.tcp", "java.sql/java.sql"),
    *("jdk.attach/sun.tools.attach", "jdk.compiler/com.sun.tools.javac", "jdk.management/com.sun.management.internal"),
    "jdk.unsupported/sun.misc",
)
_CONFIGURATION: Final = """\
cluster_name: opsq
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
commitlog_sync: periodic
commitlog_sync_period: 10000ms
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
ssl_storage_port: {secure}
native_transport_port: {native}
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:{storage}"
"""
_QUIET: Final = '<configuration><root level="OFF"/></configuration>\n'
_PROPERTIES: Final = {
    "cassandra.jmx.local.port": "0",
    "cassandra.ring_delay_ms": "0",
    "cassandra.skip_wait_for_gossip_to_settle": "0",
    "cassandra.initial_token": "0",
    "cassandra-foreground": "yes",
}


KEYSPACE: Final = "shop"
# In a process of its own: the driver imports eventlet where that is installed.
_MAKE_KEYSPACE: Final = f"""\
import sys, warnings
warnings.simplefilter("ignore")
from cassandra.cluster import Cluster
cluster = Cluster(["127.0.0.1"], port=int(sys.argv[1]))
cluster.connect().execute(
    "CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
)
cluster.shutdown()
"""


class CassandraServer(NamedTuple):
    """One node with an empty keyspace, ``KEYSPACE``. port: of its native protocol."""

    port: int


@contextmanager
def cassandra_server(folder: Path) -> Iterator[CassandraServer]:
    """A running Cassandra for the block, with its data in ``folder``."""
    java = shutil.which("java")
    if java is None or not LIBRARIES.is_dir():
        missing("Cassandra", "scripts/install-cassandra fetches it with Maven; it needs Java 17")
    storage, secure, native = (free_port() for _ in range(3))
    (folder / "cassandra.yaml").write_text(_CONFIGURATION.format(storage=storage, secure=secure, native=native))
    (folder / "logback.xml").write_text(_QUIET)
    properties = {
        **_PROPERTIES,
        "cassandra.config": f"file:{folder}/cassandra.yaml",
        "cassandra.storagedir": str(folder / "data"),
        "logback.configurationFile": f"file:{folder}/logback.xml",
    }
    words = [java, "-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
    for inside in _INSIDES:
        words += ["--add-opens", f"{inside}=ALL-UNNAMED", "--add-exports", f"{inside}=ALL-UNNAMED"]
    words += [f"-D{name}={value}" for name, value in properties.items()]
    words += ["-cp", f"{folder}:{LIBRARIES}/*", "org.apache.cassandra.service.CassandraDaemon"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(native, process)
            subprocess.run([sys.executable, "-c", _MAKE_KEYSPACE, str(native)], check=True, capture_output=True)
            yield CassandraServer(native)
        finally:
            process.terminate()
            process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"Cassandra ended with {process.returncode}", pytrace=False)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"Cassandra did not answer within {START_S:g} s", pytrace=False)
