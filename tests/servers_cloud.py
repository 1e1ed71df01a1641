"""Local servers that speak the protocols of Amazon SQS and S3 (moto) and MongoDB (FerretDB on SQLite); memcached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import free_port, missing, wait_for_port

FERRETDB = Path(__file__).resolve().parent.parent / ".servers" / "ferretdb"
"""Where ``scripts/install-ferretdb`` puts it."""
SQS_OPTIONS = {"region": "us-east-1", "wait_time_seconds": 1}


class CloudServer:
    """A server that is a child process. url: the broker's."""

    def __init__(self, url: str, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.port = port
        self.process = process


@contextmanager
def sqs_server() -> Iterator[CloudServer]:
    """moto's SQS for the block; what it holds is in its memory."""
    with _moto() as (port, process):
        # moto answers anybody; botocore still wants a key to sign with.
        yield CloudServer(f"sqs://testing:testing@127.0.0.1:{port}//", port, process)


@contextmanager
def s3_server() -> Iterator[CloudServer]:
    """moto's S3 for the block."""
    with _moto() as (port, process):
        yield CloudServer(f"http://127.0.0.1:{port}", port, process)


@contextmanager
def _moto() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    pytest.importorskip("moto.server", reason="moto is not installed; make install")
    port = free_port()
    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(program, port) as process:
        yield port, process


@contextmanager
def memcached_server() -> Iterator[CloudServer]:
    """memcached for the block. url: of the result store."""
    program = shutil.which("memcached") or missing("memcached", "apt-get install memcached")
    port = free_port()
    words = ["-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "32", "-u", "nobody"]
    with _running([program, *words], port) as process:
        yield CloudServer(f"cache+memcached://127.0.0.1:{port}/", port, process)


@contextmanager
def ferretdb_server(folder: Path) -> Iterator[CloudServer]:
    """FerretDB for the block, with its data in ``folder``."""
    program = str(FERRETDB) if FERRETDB.exists() else shutil.which("ferretdb")
    if program is None:
        missing("FerretDB", "scripts/install-ferretdb builds it with Go")
    port = free_port()
    words = ["--handler=sqlite", f"--sqlite-url=file:{folder}/", f"--listen-addr=127.0.0.1:{port}"]
    words += [f"--state-dir={folder}", "--telemetry=disable", "--debug-addr=-", "--log-level=ERROR"]
    with _running([program, *words], port) as process:
        yield CloudServer(f"mongodb://127.0.0.1:{port}/opsq", port, process)


@contextmanager
def _running(program: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    ) as process:
        wait_for_port(port, process)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)
