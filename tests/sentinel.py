"""A primary, a replica, and a sentinel that watches them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from tests.servers import RedisServer, free_port, missing, redis_server, wait_for_port

NAME: Final = "opsq-primary"


class Sentinel:
    """One sentinel that watches one primary; it alone is the quorum."""

    def __init__(self, folder: Path, primary: RedisServer) -> None:
        self.port = free_port()
        path = folder / "sentinel.conf"
        path.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds {NAME} 1000\n"
            f"sentinel failover-timeout {NAME} 3000\n"
        )
        program = shutil.which("redis-server") or missing("redis-server", "apt-get install redis-server")
        self._process = subprocess.Popen(
            [program, str(path), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_port(self.port, self._process)
        self._client = redis.Redis(port=self.port, decode_responses=True)

    def primary(self) -> int:
        """The port of whoever is it now."""
        address: Any = self._client.sentinel_get_master_addr_by_name(NAME)
        return int(address[1])

    def knows_a_replica(self) -> bool:
        """Whether there is one to promote, in step with its primary."""
        return any(each["master-link-status"] == "ok" for each in self._client.sentinel_slaves(NAME))

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(10)


@contextmanager
def watched(folder: Path) -> Iterator[tuple[RedisServer, Sentinel]]:
    """A primary with its replica, and the sentinel."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    with redis_server(folder / "one", "--repl-diskless-sync-delay", "0") as primary:
        follows = ("--replicaof", f"127.0.0.1 {primary.port}")
        with redis_server(folder / "two", *follows):
            sentinel = Sentinel(folder, primary)
            try:
                yield primary, sentinel
            finally:
                sentinel.close()
