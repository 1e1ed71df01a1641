"""Start clients and workers of either library, each in a process of its own, and stop them again."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import missing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CELERY_PYTHON = ROOT / ".venv-interop" / "bin" / "python"
PATIENCE_S = 90.0
#: ``make interop`` runs everything, ``make test`` what fits into a minute.
FULL = os.environ.get("INTEROP") == "full"
full_only = pytest.mark.skipif(not FULL, reason="takes too long for make test; make interop runs it")
#: Pools of an opsq worker, for what could differ between threads and processes.
POOLS = ("threads", "prefork") if FULL else ("threads",)

#: Everything is accepted where a test does not say otherwise; what is refused by default has tests of its own.
ACCEPT_ALL = {"accept_content": ["json", "yaml", "msgpack", "pickle"]}


def python_of(library: str) -> str:
    """The interpreter that has ``library``; skips the test, or fails it in CI, without Celery."""
    if library == "opsq":
        return sys.executable
    if not CELERY_PYTHON.exists():
        missing("Celery", "run scripts/install-interop")
    return str(CELERY_PYTHON)


@dataclass(frozen=True)
class Place:
    """Where two sides meet: a broker, a result store, a queue. folder: for logs and files of the processes.

    journal: a Redis, where ``results`` is none.
    """

    broker: str
    results: str
    queue: str
    folder: Path
    journal: str = ""

    def environment(self, library: str, settings: Mapping[str, Any]) -> dict[str, str]:
        """What a process of ``library`` needs to find it, and nothing that would configure it otherwise."""
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("OPSQ_", "CELERY_", "FLEET_"))}
        return mine | {
            "FLEET_LIBRARY": library,
            "FLEET_BROKER": self.broker,
            "FLEET_RESULTS": self.results,
            "FLEET_JOURNAL": self.journal or self.results,
            "FLEET_QUEUE": self.queue,
            "FLEET_SETTINGS": json.dumps(dict(settings)),
            "C_FORCE_ROOT": "1",  # Celery refuses to unpickle as root otherwise
            "PYTHONPATH": os.pathsep.join((str(HERE), str(ROOT))),
            "PYTHONUNBUFFERED": "1",
        }


@dataclass
class Peer:
    """A running process and what it printed."""

    process: subprocess.Popen[bytes]
    log: Path
    name: str
    asked: bool = False

    def text(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        """Wait until it has printed ``words``; fail with its output when it ends before that."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.text():
            if self.process.poll() is not None:
                pytest.fail(f"{self.name} ended with {self.process.returncode}:\n{self.text()}", pytrace=False)
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} never said {words!r}:\n{self.text()}", pytrace=False)
            time.sleep(0.02)

    def ask_to_stop(self) -> None:
        """Ask it once to end; a second time would mean something else to a worker."""
        if not self.asked:
            self.asked = True
            if self.process.stdin is not None:
                self.process.stdin.close()
            self.process.terminate()

    def stop(self) -> None:
        """End it, with its children when it does not want to."""
        self.ask_to_stop()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def spawn(
    place: Place, library: str, name: str, *words: str, settings: Mapping[str, Any] = ACCEPT_ALL, pipes: bool = False
) -> Peer:
    """Start ``python WORDS`` with the interpreter of ``library``; its output goes to a file named ``name``."""
    log = place.folder / f"{name}.log"
    pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [python_of(library), *words],
            cwd=place.folder,
            env=place.environment(library, settings),
            stdin=pipe,
            stdout=subprocess.PIPE if pipes else sink,
            stderr=sink,
            start_new_session=True,
        )
    return Peer(process, log, name)


def worker(
    place: Place,
    library: str,
    pool: str,
    *,
    name: str = "",
    slots: int = 2,
    settings: Mapping[str, Any] = ACCEPT_ALL,
    words: tuple[str, ...] = (),
) -> Peer:
    """Start a worker; ``wait_for("ready")`` before it is needed. name: its node name is ``NAME@here``."""
    name = name or f"{library}-{pool}"
    common = ("-P", pool, "-c", str(slots), "-n", f"{name}@here", "-l", "INFO", *words)
    if library == "celery":
        quick = ("--without-mingle", "--without-gossip")
        return spawn(
            place, library, name, "-m", "celery", "-A", "fleet_app", "worker", *common, *quick, settings=settings
        )
    return spawn(place, library, name, "-m", "opsq", "worker", "-A", "fleet_app", *common, settings=settings)


@contextmanager
def running_worker(place: Place, library: str, pool: str, **options: Any) -> Iterator[Peer]:
    """A worker that takes tasks, for the block."""
    peer = worker(place, library, pool, **options)
    try:
        peer.wait_for("ready")
        yield peer
    finally:
        peer.stop()


@dataclass
class Client:
    """A client process that runs cases on demand."""

    peer: Peer
    unread: bytes = field(default=b"")

    def run(self, case: str, *arguments: Any) -> Any:
        """Run one case there; its value, or the test fails with its traceback."""
        pipe = self.peer.process.stdin
        assert pipe is not None
        pipe.write(json.dumps([case, *arguments]).encode() + b"\n")
        pipe.flush()
        answer = json.loads(self._line())
        if "error" in answer:
            pytest.fail(f"in the {self.peer.name}:\n{answer['error']}", pytrace=False)
        return answer["value"]

    def _line(self) -> bytes:
        out = self.peer.process.stdout
        assert out is not None
        while b"\n" not in self.unread:
            ready, _, _ = select.select([out], [], [], PATIENCE_S * 2)
            more = os.read(out.fileno(), 65536) if ready else b""
            if not more:
                what = "ended" if ready else "did not answer"
                pytest.fail(f"the {self.peer.name} {what}:\n{self.peer.text()}", pytrace=False)
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        return line


def client(place: Place, library: str, *, name: str = "", settings: Mapping[str, Any] = ACCEPT_ALL) -> Client:
    """Start a client; it answers when it is ready."""
    name = name or f"{library}-client"
    return Client(spawn(place, library, name, str(HERE / "client.py"), settings=settings, pipes=True))


@contextmanager
def running_client(place: Place, library: str, **options: Any) -> Iterator[Client]:
    """A client for the block."""
    started = client(place, library, **options)
    try:
        yield started
    finally:
        started.peer.stop()
